"""Liveness of the process and readiness of its dependencies."""

from http import HTTPStatus

from fastapi import Response

from deployments.api.dependencies import ServicesDep
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
async def is_ready(response: Response, services: ServicesDep) -> Readiness:
    results = await services.readiness.results()
    if any(result != "ok" for result in results.values()):
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return Readiness(**results)
