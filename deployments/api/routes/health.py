"""Liveness of the process, and readiness of its dependencies."""

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import anyio
from anyio import to_thread
from fastapi import Response

from deployments.api.dependencies import Given
from deployments.api.models import Ok, Readiness
from deployments.api.routing import Router
from infra import disk
from infra.errors import InfraError

PATIENCE_SECONDS = 3

router = Router()


@router.get("/healthz", response_model=Ok, summary="Liveness")
async def is_alive() -> Ok:
    return Ok()


@router.get(
    "/readyz",
    response_model=Readiness,
    summary="Readiness",
    responses={503: {"model": Readiness, "description": "A dependency does not answer."}},
)
async def is_ready(response: Response, parts: Given) -> Readiness:
    said: dict[str, str] = {}
    probes: dict[str, Callable[[], object]] = {
        "redis": parts.jobs.connection.ping,
        "bucket": parts.bucket.probe,
        "prefect": parts.submitter.ping,
    }

    async def probe(name: str, ask: Callable[[], object]) -> None:
        said[name] = f"no answer within {PATIENCE_SECONDS} seconds"
        with anyio.move_on_after(PATIENCE_SECONDS):
            folder = parts.settings.data_dir
            said[name] = await to_thread.run_sync(_asked, ask, folder, limiter=parts.probes, abandon_on_cancel=True)

    async with anyio.create_task_group() as group:
        for name, ask in probes.items():
            group.start_soon(probe, name, ask)
    if any(word != "ok" for word in said.values()):
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(**said)


def _asked(ask: Callable[[], object], folder: Path) -> str:
    try:
        ask()
    except InfraError as error:
        return disk.fault(error, folder) or str(error)
    return "ok"
