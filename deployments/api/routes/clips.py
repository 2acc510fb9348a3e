"""Serves a job's results, manifest and clips. Clips support ranges, so that players can seek."""

import logging
import re
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Annotated, Any, Protocol, TypeVar
from urllib.parse import quote

import anyio
from fastapi import Depends, HTTPException, Query, Request, Response
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import client_of, require_visible_job
from deployments.api.job_documents import Manifest, ManifestClip
from deployments.api.models import (
    BUSY,
    NO_JOB,
    NO_KEY,
    NO_MANIFEST,
    NO_REVISION,
    NO_STORE,
    NOT_COMPLETED,
    ClipView,
    FileInPath,
    JobIdInPath,
    Refusals,
    Results,
    refusals,
)
from deployments.api.routes.revisions import BAD_REVISION, RevisionInQuery, folder_of
from deployments.api.routing import Router
from deployments.api.stream_limits import LimitReached, StreamLimit
from infra.errors import InfraError, ObjectMissing, StoreError
from infra.states import JobState
from tasks.core.object_keys import POSTER_TYPE, SUBTITLE_TYPES, job_key
from tasks.core.output.file_names import file_name_from_title

DOWNLOAD_SECONDS = 6 * 3600
"""Lifetime of a presigned URL."""
STALLED_SECONDS = 60
"""How long a client may read nothing before its stream is closed. A paused player requests the rest later."""
NO_CLIP = (404, "clip not found")
NO_BYTES = (502, "clip could not be read")
NOT_SATISFIABLE = (416, "range not satisfiable")
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)
_REFUSALS = refusals(BAD_REVISION, NO_KEY, NO_JOB, NO_REVISION, NOT_COMPLETED, NO_MANIFEST, NO_STORE)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FILE: dict[str, Any] = {
    "content": dict.fromkeys(
        ["video/mp4", POSTER_TYPE, *(kind.split(";")[0] for kind in SUBTITLE_TYPES.values())], _BINARY
    )
}
_STREAM: Refusals = refusals(
    *(BAD_REVISION, NO_CLIP, NO_KEY, NO_JOB, NO_REVISION, NOT_COMPLETED, NOT_SATISFIABLE),
    *(NO_MANIFEST, NO_BYTES, NO_STORE, BUSY),
) | {
    200: _FILE | {"description": "The whole clip; also the response to a request for several ranges."},
    206: _FILE | {"description": "The requested range."},
    304: {"description": "If-None-Match names the current clip."},
}
_RANGE_HEADERS: dict[str, Any] = {
    "parameters": [
        {"name": name, "in": "header", "schema": {"type": "string"}} for name in ("range", "if-range", "if-none-match")
    ]
}

T = TypeVar("T")

logger = logging.getLogger(__name__)
router = Router(dependencies=[Depends(require_visible_job)])


@router.get("/api/jobs/{job_id}/results", response_model=Results, summary="The finished clips", responses=_REFUSALS)
def read_results(job_id: JobIdInPath, services: ServicesDep, revision: RevisionInQuery = None) -> Results:
    manifest = manifest_of(job_id, services, revision)
    return Results(clips=[_view(job_id, clip, manifest.folder, services) for clip in manifest.clips])


@router.get(
    "/api/jobs/{job_id}/manifest",
    response_class=Response,
    summary="The manifest, with all details of the clips",
    responses=_REFUSALS
    | {200: {"description": "manifest.json", "content": {"application/json": {"schema": {"type": "object"}}}}},
)
def read_manifest(job_id: JobIdInPath, services: ServicesDep, revision: RevisionInQuery = None) -> Response:
    return Response(manifest_of(job_id, services, revision).document, media_type="application/json")


@router.get(
    "/api/jobs/{job_id}/clips/{file:path}/download",
    response_class=StreamingResponse,
    summary="Download a clip",
    responses=_STREAM,
    openapi_extra=_RANGE_HEADERS,
)
def download_clip(
    request: Request,
    job_id: JobIdInPath,
    file: FileInPath,
    services: ServicesDep,
    name: Annotated[str | None, Query(description="Pass `title` to save the file under the clip's title.")] = None,
    revision: RevisionInQuery = None,
) -> Response:
    saved_as = f'attachment; filename="{file}"'
    if name == "title" and (clip := manifest_of(job_id, services, revision).clip(file)):
        saved_as += f"; filename*=UTF-8''{quote(file_name_from_title(clip.title, file), safe='')}"
    return _stream(request, job_id, file, services, {"Content-Disposition": saved_as}, revision)


@router.get(
    "/api/jobs/{job_id}/clips/{file:path}",
    response_class=StreamingResponse,
    summary="Stream a clip",
    responses=_STREAM,
    openapi_extra=_RANGE_HEADERS,
)
def stream_clip(
    request: Request, job_id: JobIdInPath, file: FileInPath, services: ServicesDep, revision: RevisionInQuery = None
) -> Response:
    return _stream(request, job_id, file, services, {}, revision)


class Closable(Protocol):
    """An iterator over bytes that holds a connection until it is closed."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class ClipStream(StreamingResponse):
    """Streams from the bucket. Closes the stream at the end, or when the client disconnects or stalls."""

    def __init__(self, stream: Closable, status: int, headers: dict[str, str], limit: StreamLimit, client: str) -> None:
        super().__init__(stream, status, headers)
        self._stream, self._limit, self._client = stream, limit, client

    def close(self) -> None:
        """Release the connection to the bucket, if the stream is not sent after all."""
        self._stream.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_or_time_out(message: Message) -> None:
            with anyio.fail_after(STALLED_SECONDS):
                await send(message)

        try:
            with self._limit.slot(self._client):
                await super().__call__(scope, receive, send_or_time_out)
        except LimitReached:
            raise HTTPException(*BUSY, {"Retry-After": "5"}) from None
        except (TimeoutError, StoreError) as error:
            # The response has started: uvicorn sees that it is too short, and closes the connection.
            logger.warning("A clip was only partly sent: %s", error or "the client stalled")
        finally:
            self._stream.close()


def requested_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte that a Range header requests of `size` bytes, or None for all.

    Several ranges, other units and malformed headers are ignored, as RFC 9110 allows.

    Raises:
        HTTPException: 416 if the range is outside the object.
    """
    match = _RANGE.fullmatch("".join((header or "").split()))
    if match is None or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        start, end = max(size - int(last), 0), size - 1
    else:
        start, end = int(first), min(int(last) if last else size - 1, size - 1)
        if last and int(last) < start:
            return None
    if start > end:
        raise HTTPException(*NOT_SATISFIABLE, {"Content-Range": f"bytes */{size}"})
    return start, end


def _stream(
    request: Request, job_id: str, file: str, services: Services, headers: dict[str, str], revision: int | None
) -> Response:
    """The file. A job's first revision moves to another folder when its clips are changed, perhaps just now."""
    for _ in range(2):
        manifest = manifest_of(job_id, services, revision)
        answer = _open_stream(request, job_id, file, services, headers, manifest, is_fixed=revision is not None)
        if manifest.folder or services.job(job_id).revision is None:
            return answer
        if isinstance(answer, ClipStream):
            answer.close()
    raise HTTPException(*NO_BYTES)


def _open_stream(
    request: Request,
    job_id: str,
    file: str,
    services: Services,
    headers: dict[str, str],
    manifest: Manifest,
    *,
    is_fixed: bool,
) -> Response:
    """The file of a revision. `is_fixed` means that the address names the revision, so it always leads to this file."""
    clip = manifest.clip(file)
    if clip is None:
        raise HTTPException(*NO_CLIP)
    size = from_bucket(lambda: services.documents.clip_size(job_id, file, manifest.folder))
    known = clip.sha256 or f"{job_id}-{size}"
    tag = f'"{known}"' if file == clip.file else f'"{known}-{manifest.folder}{file}"'
    headers = headers | {
        "Content-Type": clip.files[file],
        "Accept-Ranges": "bytes",
        "ETag": tag,
        "Cache-Control": "private, max-age=3600" if is_fixed else "private, no-cache",
    }
    if tag in {item.strip() for item in request.headers.get("if-none-match", "").split(",")}:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    is_unchanged = request.headers.get("if-range", tag) == tag
    span = requested_range(request.headers.get("range"), size) if is_unchanged else None
    start, end = span or (0, size - 1)
    headers["Content-Length"] = str(end - start + 1)
    if span:
        headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    status = HTTPStatus.PARTIAL_CONTENT if span else HTTPStatus.OK
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    key = job_key(job_id, manifest.folder + file)
    stream = from_bucket(lambda: services.bucket.open(key, *span or ()))
    return ClipStream(stream, status, headers, services.clip_streams, client_of(request))


def from_bucket(read: Callable[[], T]) -> T:
    """Read a clip from the bucket.

    Raises:
        HTTPException: 404 if it is missing, 502 if the bucket does not answer.
    """
    try:
        return read()
    except ObjectMissing:
        raise HTTPException(*NO_CLIP) from None
    except InfraError:
        raise HTTPException(*NO_BYTES) from None


def manifest_of(job_id: str, services: Services, revision: int | None = None) -> Manifest:
    """The manifest of a revision of a succeeded job, or of the published one.

    Raises:
        HTTPException: 409 before success, 404 if there is no such revision, 502 if the manifest cannot be read.
    """
    job = services.job(job_id)
    if job.status is not JobState.SUCCEEDED:
        raise HTTPException(*NOT_COMPLETED)
    folder = folder_of(job, revision)
    try:
        return services.documents.manifest(job_id, folder)
    except ObjectMissing as error:
        logger.warning("The manifest of %s is missing: %s", job_id, error)
        raise HTTPException(*(NO_REVISION if folder else NO_MANIFEST)) from None
    except StoreError as error:
        logger.warning("The manifest of %s could not be read: %s", job_id, error)
        raise HTTPException(*NO_MANIFEST) from None


def _view(job_id: str, clip: ManifestClip, folder: str, services: Services) -> ClipView:
    fields = clip.model_dump(exclude={"signals", "sha256", "subtitles", "poster"})
    path = f"/api/jobs/{job_id}/clips"
    return ClipView(
        **fields,
        subtitles={form: f"{path}/{name}" for form, name in clip.subtitles.items()},
        poster=f"{path}/{clip.poster}" if clip.poster else None,
        scores=clip.signals,
        download_url=services.bucket.presign(job_key(job_id, folder + clip.file), DOWNLOAD_SECONDS, clip.file),
        stream_url=f"{path}/{clip.file}",
    )
