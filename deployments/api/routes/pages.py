"""Serves the web pages from the folder `web`: the form, a job's page, its editor, and the files they load.

There is no build step, and nothing loads from other hosts. Files are read on each request and revalidated by digest:
a new version appears at once, and an unchanged one is not sent again. Starlette's `StaticFiles` does not fit: its
ETags come from time and size, which two versions share if a wheel or an image fixes file times; it serves any file
in the folder; and its media types depend on the host.
"""

import hashlib
import json
from functools import cache
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, HTTPException, Request, Response

from deployments.api.dependencies import ServicesDep
from infra.jobs.ids import JOB_ID
from infra.states import WORKING_STAGES

WEB = Path(__file__).parents[1] / "web"
STAGES_MODULE = "app/stages.js"
"""Generated from the table in `infra/states.py`. All other files are in the folder."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src {media}; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY.format(media="'self'"),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}

router = APIRouter(include_in_schema=False)


@router.api_route("/", methods=["GET", "HEAD"])
def form(request: Request) -> Response:
    return _file(request, WEB / "index.html")


@router.api_route("/jobs/{job_id}", methods=["GET", "HEAD"])
def job(request: Request, job_id: str) -> Response:
    """The same page for every job. For a malformed id, the status is 404 and the page says so."""
    is_valid = JOB_ID.fullmatch(job_id) is not None
    return _file(request, WEB / "job.html", HTTPStatus.OK if is_valid else HTTPStatus.NOT_FOUND)


@router.api_route("/jobs/{job_id}/edit", methods=["GET", "HEAD"])
def edit(request: Request, job_id: str, services: ServicesDep) -> Response:
    """The editor of a clip, which `?clip=2` names by its place. It plays the source from the bucket."""
    is_valid = JOB_ID.fullmatch(job_id) is not None
    bucket = urlsplit(services.bucket.presign("source"))
    policy = {"Content-Security-Policy": _POLICY.format(media=f"'self' {bucket.scheme}://{bucket.netloc}")}
    return _file(request, WEB / "edit.html", HTTPStatus.OK if is_valid else HTTPStatus.NOT_FOUND, policy)


@router.api_route("/static/{name:path}", methods=["GET", "HEAD"])
def static(request: Request, name: str) -> Response:
    if name == STAGES_MODULE:
        return _respond(request, _stages_module(), _TYPES[".js"])
    if name not in _static_names():
        raise HTTPException(HTTPStatus.NOT_FOUND, "file not found")
    return _file(request, WEB / name)


@cache
def _static_names() -> frozenset[str]:
    """The files that may be requested. No other path is opened."""
    files = (path for path in WEB.rglob("*") if path.suffix in _TYPES and path.suffix != ".html")
    return frozenset(path.relative_to(WEB).as_posix() for path in files)


@cache
def _stages_module() -> bytes:
    """The table of stages as a JavaScript module for the pages."""
    table = [{"name": stage, **stage.facts._asdict()} for stage in WORKING_STAGES]
    return f"export const STAGES = {json.dumps(table)};\n".encode()


def _file(
    request: Request, path: Path, status: HTTPStatus = HTTPStatus.OK, policy: dict[str, str] = HEADERS
) -> Response:
    return _respond(request, path.read_bytes(), _TYPES[path.suffix], status, policy)


def _respond(
    request: Request, body: bytes, media_type: str, status: HTTPStatus = HTTPStatus.OK, policy: dict[str, str] = HEADERS
) -> Response:
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = HEADERS | policy | {"ETag": tag}
    known = {item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")}
    if status is HTTPStatus.OK and tag in known:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, status, headers, media_type=media_type)
