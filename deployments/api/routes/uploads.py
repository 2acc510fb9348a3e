"""Uploads of a client's own files by the tus protocol, for jobs without a video_url."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from http import HTTPStatus
from typing import Annotated, TypeVar

import anyio
from anyio import to_thread
from fastapi import APIRouter, HTTPException, Path, Request, Response
from starlette.requests import ClientDisconnect

from deployments import upload_removal
from deployments.api import tus
from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import Caller, WriteCaller, own_upload
from deployments.api.models import BUSY, FOREIGN, NO_BUCKET, NO_KEY, NO_STORE, NO_UPLOAD, TOO_SLOW, Refusals, refusals
from deployments.api.stream_limits import LimitReached
from infra.errors import InfraError
from infra.uploads.records import Upload, UploadGone, UploadLock, UploadLocked, client_digest
from infra.uploads.writer import UploadWriter, finish
from tasks.core.object_keys import digest, upload_key
from tasks.core.plurals import pluralize

WINDOW_SECONDS, WINDOW_BYTES = 60.0, 64 * 1024
"""A client must send this many bytes in this time, or all that is left."""
IDLE_SECONDS = 2.0
"""A request that has received nothing for this long yields to another one for the same upload."""
RENEW_SECONDS = 2.0
MAX_UNFINISHED = 20
"""Unfinished uploads that one client may have."""
SMALL_BYTES, SMALL_PER_MINUTE = 256 * 1024, 120
"""Requests that append less than this are counted: each may rewrite up to a part."""
TOO_BIG = (413, "file is too large")
TOO_MUCH = (413, "body goes beyond upload-length")
TOO_MANY = (429, "too many unfinished uploads; finish or delete some")
TOO_SMALL = (429, "too many small pieces; send larger ones")
OTHER_OFFSET = (409, "upload-offset is not where the upload is")
LOCKED = (423, "another request is sending this upload")
DIFFERS = (460, "body does not match upload-checksum")

UploadId = Annotated[str, Path(description="The upload's id.", examples=["5f" * 16])]
T = TypeVar("T")

logger = logging.getLogger(__name__)
router = APIRouter()


def _described(status: int, description: str, *names: str) -> Refusals:
    headers = {name: {"schema": {"type": "string"}} for name in ("Tus-Resumable", *names)}
    return {status: {"description": description, "headers": headers}}


def _parameters(*names: str) -> dict[str, object]:
    return {"parameters": [{"name": name, "in": "header", "schema": {"type": "string"}} for name in names]}


@router.options(
    tus.PATH,
    status_code=204,
    response_class=Response,
    summary="What uploads may be, in the tus protocol's headers",
    responses=_described(204, "The server's limits and extensions.", "Tus-Version", "Tus-Extension", "Tus-Max-Size"),
)
async def describe_uploads(services: ServicesDep) -> Response:
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=tus.options(services.settings.max_source_bytes))


@router.options(tus.PATH + "/{upload_id}", include_in_schema=False)
async def describe_upload(services: ServicesDep) -> Response:
    return await describe_uploads(services)


@router.post(
    tus.PATH,
    status_code=201,
    response_class=Response,
    summary="Begin an upload (tus 1.0)",
    responses=_described(201, "Location is the upload's address.", "Location", "Upload-Expires")
    | refusals(
        tus.BAD_LENGTH,
        tus.BAD_METADATA,
        NO_KEY,
        FOREIGN,
        tus.OTHER_VERSION,
        TOO_BIG,
        TOO_MANY,
        (429, "too many uploads; try again in 20 seconds"),
        NO_STORE,
    ),
    openapi_extra=_parameters("tus-resumable", "upload-length", "upload-metadata"),
)
def begin_upload(request: Request, caller: WriteCaller, services: ServicesDep) -> Response:
    length = tus.read_number(request.headers, "upload-length", tus.BAD_LENGTH)
    if length == 0:
        raise HTTPException(*tus.BAD_LENGTH)
    most = services.settings.max_source_bytes
    if length > most:
        raise HTTPException(*TOO_BIG, {"Tus-Max-Size": str(most)})
    metadata, name = tus.read_metadata(request.headers)
    _check_rate(caller, services)
    upload_id, now = secrets.token_hex(16), time.time()
    upload = Upload(
        upload_id=upload_id,
        owner=caller.key,
        client=client_digest(caller.quota_owner),
        key=upload_key(digest("tus", upload_id)),
        name=name,
        metadata=metadata,
        length=length,
        expires_at=float(int(now) + services.settings.upload_ttl_seconds),
    )
    if not services.uploads.create(upload, MAX_UNFINISHED, now):
        raise HTTPException(*TOO_MANY)
    headers = {"Location": f"{tus.PATH}/{upload_id}", "Upload-Expires": tus.expires(upload.expires_at)}
    return Response(status_code=HTTPStatus.CREATED, headers=headers)


@router.head(
    tus.PATH + "/{upload_id}",
    response_class=Response,
    summary="How far an upload has come (tus 1.0)",
    responses=_described(200, "Upload-Offset is where to continue.", "Upload-Offset", "Upload-Length", "Upload-Expires")
    | refusals(NO_KEY, NO_UPLOAD, tus.OTHER_VERSION, NO_STORE),
    openapi_extra=_parameters("tus-resumable"),
)
def read_upload(upload_id: UploadId, caller: WriteCaller, services: ServicesDep) -> Response:
    upload = own_upload(upload_id, caller, services)
    return Response(headers=_state(upload, upload.offset) | {"Cache-Control": "no-store"})


@router.delete(
    tus.PATH + "/{upload_id}",
    status_code=204,
    response_class=Response,
    summary="Remove an upload (tus 1.0)",
    responses=_described(204, "The upload is gone; jobs that use its file keep it.")
    | refusals(NO_KEY, FOREIGN, NO_UPLOAD, tus.OTHER_VERSION, NO_BUCKET, NO_STORE),
    openapi_extra=_parameters("tus-resumable"),
)
def remove_upload(upload_id: UploadId, caller: WriteCaller, services: ServicesDep) -> Response:
    own_upload(upload_id, caller, services)
    upload_removal.remove(upload_id, services.uploads, services.bucket)
    return Response(status_code=HTTPStatus.NO_CONTENT)


@router.patch(
    tus.PATH + "/{upload_id}",
    status_code=204,
    response_class=Response,
    summary="Send a piece of a file (tus 1.0)",
    responses=_described(204, "Upload-Offset is where to continue.", "Upload-Offset", "Upload-Expires")
    | refusals(
        tus.BAD_OFFSET,
        tus.BAD_CHECKSUM,
        NO_KEY,
        FOREIGN,
        NO_UPLOAD,
        TOO_SLOW,
        OTHER_OFFSET,
        tus.OTHER_VERSION,
        TOO_MUCH,
        tus.BAD_TYPE,
        LOCKED,
        TOO_SMALL,
        DIFFERS,
        NO_BUCKET,
        BUSY,
        NO_STORE,
    ),
    openapi_extra=_parameters("tus-resumable", "upload-offset", "upload-checksum")
    | {"requestBody": {"content": {tus.CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
)
async def append(request: Request, upload_id: UploadId, caller: WriteCaller, services: ServicesDep) -> Response:
    tus.require_content_type(request.headers)
    offset = tus.read_number(request.headers, "upload-offset", tus.BAD_OFFSET)
    checksum = tus.read_checksum(request.headers)
    declared = request.headers.get("content-length", "")
    try:
        with services.upload_streams.slot(caller.quota_owner):
            async with _locked(upload_id, caller, services) as (upload, lock):
                if offset != upload.offset:
                    raise HTTPException(*OTHER_OFFSET, _state(upload, upload.offset))
                if declared.isdecimal() and int(declared) > upload.length - offset:
                    raise HTTPException(*TOO_MUCH)
                return await _Append(request, upload, lock, services, checksum).run()
    except LimitReached:
        raise HTTPException(*BUSY, {"Retry-After": "5"}) from None
    except UploadGone:
        raise HTTPException(*NO_UPLOAD) from None
    except UploadLocked:
        raise HTTPException(*LOCKED) from None


@contextlib.asynccontextmanager
async def _locked(upload_id: str, caller: Caller, services: Services) -> AsyncGenerator[tuple[Upload, UploadLock]]:
    """The upload, and its lock while the block runs."""
    await _in_thread(services, own_upload, upload_id, caller, services)
    lock = await _in_thread(services, services.uploads.lock, upload_id)
    try:
        yield await _in_thread(services, own_upload, upload_id, caller, services), lock
    finally:
        with anyio.CancelScope(shield=True):
            await _in_thread(services, lock.release)


class _Append:
    """Writes one request's body to its upload."""

    def __init__(
        self, request: Request, upload: Upload, lock: UploadLock, services: Services, checksum: tus.Checksum | None
    ) -> None:
        self._request, self._upload, self._lock, self._services = request, upload, lock, services
        self._checksum = checksum
        self._must_yield = False

    async def run(self) -> Response:
        body = self._checksum.body if self._checksum else None
        writer = await self._thread(UploadWriter, self._upload, self._lock, self._services.bucket, body)
        renewing = asyncio.create_task(self._keep_lock())
        try:
            problem = await self._receive(writer)
            await self._end(writer, problem)
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)
        if problem:
            raise HTTPException(*problem, {"Connection": "close"})
        if writer.offset == self._upload.length:
            await self._thread(finish, self._upload.upload_id, self._services.uploads, self._services.bucket)
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=_state(self._upload, writer.offset))

    async def _receive(self, writer: UploadWriter) -> tuple[int, str] | None:
        """Write the body as it comes; returns why it ended early, or None if it is complete."""
        try:
            async for data in self._chunks():
                left = data
                if writer.offset + len(data) > self._upload.length:
                    return TOO_MUCH
                while left := writer.take(left):
                    await self._thread(writer.write_part)
                if writer.is_part_full:
                    await self._thread(writer.write_part)
        except TimeoutError:
            return LOCKED if self._must_yield else TOO_SLOW
        except ClientDisconnect:
            return TOO_SLOW  # nobody reads it
        return None

    async def _chunks(self) -> AsyncIterator[bytes]:
        """The body's chunks.

        Raises:
            TimeoutError: the client is too slow, or another request for the upload waits and this one is idle.
            ClientDisconnect: the connection is closed.
        """
        stream = self._request.stream().__aiter__()
        end, received = anyio.current_time() + WINDOW_SECONDS, 0
        pending = asyncio.ensure_future(anext(stream, b""))
        try:
            while True:
                done, _ = await asyncio.wait([pending], timeout=IDLE_SECONDS)
                if not done:
                    if self._must_yield or anyio.current_time() > end:
                        raise TimeoutError
                    continue
                data = pending.result()
                if not data:
                    return
                received += len(data)
                if anyio.current_time() > end and received < WINDOW_BYTES:
                    raise TimeoutError
                if received >= WINDOW_BYTES:
                    end, received = anyio.current_time() + WINDOW_SECONDS, 0
                yield data
                pending = asyncio.ensure_future(anext(stream, b""))
        finally:
            pending.cancel()

    async def _end(self, writer: UploadWriter, problem: tuple[int, str] | None) -> None:
        """Write the rest. A body with a checksum counts only as a whole."""
        if problem and self._checksum:
            return
        appended = writer.offset - self._upload.offset
        is_small = appended < SMALL_BYTES and writer.offset < self._upload.length
        if appended and is_small and await self._thread(self._is_over_rate):
            raise HTTPException(*TOO_SMALL, {"Retry-After": "60"})
        if not await self._thread(writer.end, self._checksum.digest if self._checksum else None):
            raise HTTPException(*DIFFERS)

    def _is_over_rate(self) -> bool:
        return self._services.rate_limit.wait_seconds(f"pieces {self._upload.client}", SMALL_PER_MINUTE) > 0

    async def _keep_lock(self) -> None:
        """Renew the lock while the request runs, and notice when another request waits for it."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                self._must_yield = await self._thread(self._lock.renew)
            except UploadLocked:
                self._must_yield = True
                return
            except InfraError as error:
                logger.warning("The lock of an upload could not be renewed: %s", error)

    async def _thread(self, call: Callable[..., T], *arguments: object) -> T:
        return await _in_thread(self._services, call, *arguments)


async def _in_thread(services: Services, call: Callable[..., T], *arguments: object) -> T:
    return await to_thread.run_sync(call, *arguments, limiter=services.upload_writes)


def _state(upload: Upload, offset: int) -> dict[str, str]:
    headers = {
        "Upload-Offset": str(offset),
        "Upload-Length": str(upload.length),
        "Upload-Expires": tus.expires(upload.expires_at),
    }
    return headers | ({"Upload-Metadata": upload.metadata} if upload.metadata else {})


def _check_rate(caller: Caller, services: Services) -> None:
    per_minute = services.settings.create_rate_per_minute
    if per_minute and (wait := services.rate_limit.wait_seconds(f"uploads {caller.quota_owner}", per_minute)):
        detail = f"too many uploads; try again in {pluralize(wait, 'second')}"
        raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(wait)})
