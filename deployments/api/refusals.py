"""Error responses in the form `{"detail": "<one sentence>"}`, from every layer."""

import http.client
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from deployments.api.models import NO_JOB, NO_SPACE, NO_STORE
from infra import disk
from infra.errors import Forbidden, StateError, StateFull, StoreError
from infra.jobs.ids import JOB_ID


def refusal(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def install(app: FastAPI) -> None:
    """Turn the framework's errors and ours into the API's error responses."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(Forbidden, _forbidden)
    app.add_exception_handler(StateError, _no_store)
    app.add_exception_handler(StoreError, _no_bucket)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 for the type checker
    detail, headers = str(error.detail), dict(error.headers or {})
    if detail == http.client.responses.get(error.status_code):  # Starlette's default
        detail = not_found(request.scope["path"]) if error.status_code == HTTPStatus.NOT_FOUND else detail.lower()
    return refusal(error.status_code, detail, headers)


def not_found(path: str) -> str:
    """The error text for a path without a route."""
    _, jobs, rest = path.partition("/api/jobs/")
    job_id, _, rest = rest.partition("/")
    if not jobs:
        return "not found"
    if not JOB_ID.fullmatch(job_id):
        return NO_JOB[1]
    return "clip not found" if rest.startswith("clips/") else "not found"


async def _malformed(_: Request, error: Exception) -> JSONResponse:
    """Name the malformed parameter and the rule, but not the value."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 for the type checker
    first = error.errors()[0]
    return refusal(HTTPStatus.BAD_REQUEST, f"{first['loc'][-1]}: {first['msg'].lower()}")


async def _forbidden(_: Request, __: Exception) -> JSONResponse:
    return refusal(HTTPStatus.FORBIDDEN, "the run may not make this request")


async def _no_store(request: Request, error: Exception) -> JSONResponse:
    return refusal(*(NO_SPACE if _is_out_of_space(error, request) else NO_STORE))


async def _no_bucket(request: Request, error: Exception) -> JSONResponse:
    if _is_out_of_space(error, request):
        return refusal(*NO_SPACE)
    return refusal(HTTPStatus.BAD_GATEWAY, "bucket did not answer")


def _is_out_of_space(error: Exception, request: Request) -> bool:
    folder = request.app.state.services.settings.data_dir
    return isinstance(error, StateFull) or disk.explain_if_full(error, folder) is not None
