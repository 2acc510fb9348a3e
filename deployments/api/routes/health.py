"""Liveness of the process, and readiness of its dependencies."""

from http import HTTPStatus

from fastapi import Response

from deployments.api.dependencies import Given
from deployments.api.models import Ok, Readiness
from deployments.api.routing import Router

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
    outcome = await parts.readiness.outcome()
    if any(found != "ok" for found in outcome.values()):
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(**outcome)
