"""Serves everything that a job made for viewers as one ZIP file: clips, posters and subtitles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from fastapi import Depends, Request, Response
from starlette.responses import StreamingResponse
from zipstream import ZipStream

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import client_of, require_visible_job
from deployments.api.job_documents import Manifest
from deployments.api.models import BUSY, NO_JOB, NO_KEY, NO_MANIFEST, NO_STORE, NOT_COMPLETED, JobIdInPath, refusals
from deployments.api.routes.clips import NO_BYTES, NO_CLIP, ClipStream, from_bucket, manifest_of
from deployments.api.routing import Router
from infra.bucket.store import ArtifactStore, ObjectStream
from infra.errors import StoreError
from tasks.core.object_keys import job_key
from tasks.core.output.file_names import distinct_names

_ZIP: dict[str, Any] = {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}}

router = Router(dependencies=[Depends(require_visible_job)])


@router.get(
    "/api/jobs/{job_id}/clips.zip",
    response_class=StreamingResponse,
    summary="Download all clips, posters and subtitles",
    responses=refusals(NO_CLIP, NO_KEY, NO_JOB, NOT_COMPLETED, NO_MANIFEST, NO_BYTES, NO_STORE, BUSY)
    | {200: _ZIP | {"description": "A ZIP file; its files are named after the clips' titles."}},
)
def download_all(request: Request, job_id: JobIdInPath, services: ServicesDep) -> Response:
    manifest = manifest_of(job_id, services)

    def is_current() -> bool:
        """Whether the job's own folder still has these files; only those of a revision's folder stay for good."""
        return bool(manifest.folder) or services.job(job_id).revision is None

    stream = ArchiveStream(_files(job_id, manifest, services), services.bucket, is_current)
    headers = {
        "Content-Type": "application/zip",
        "Content-Length": str(stream.length),
        "Content-Disposition": f'attachment; filename="{job_id}.zip"',
        "Cache-Control": "private, no-store",
    }
    if request.method == "HEAD":
        return Response(headers=headers)
    return ClipStream(stream, 200, headers, services.clip_streams, client_of(request))


@dataclass(frozen=True)
class ArchivedFile:
    """An object of `size` bytes and its name in the archive."""

    key: str
    size: int
    name: str


def _files(job_id: str, manifest: Manifest, services: Services) -> list[ArchivedFile]:
    folder = manifest.folder
    found = [(clip.title, file) for clip in manifest.clips for file in clip.files]
    sizes = [from_bucket(lambda file=file: services.documents.clip_size(job_id, file, folder)) for _, file in found]
    names = distinct_names(found)
    return [
        ArchivedFile(job_key(job_id, folder + file), size, name)
        for (_, file), size, name in zip(found, sizes, names, strict=True)
    ]


class ArchiveStream:
    """Iterates over a ZIP file of `length` bytes. Stores the objects as they are, and opens one at a time.

    It ends early once the files are no longer current.
    """

    def __init__(
        self, files: list[ArchivedFile], bucket: ArtifactStore, is_current: Callable[[], bool] = lambda: True
    ) -> None:
        self._bucket, self._is_current = bucket, is_current
        self._open: ObjectStream | None = None
        self._is_closed = False
        self._archive = ZipStream(sized=True)
        for file in files:
            self._archive.add(self._content(file), file.name, size=file.size)
        self.length = len(self._archive)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._archive)

    def close(self) -> None:
        """Close the object that is being read; called while another thread may be reading it."""
        self._is_closed = True
        if self._open:
            self._open.close()

    def _content(self, file: ArchivedFile) -> Iterator[bytes]:
        self._open = self._bucket.open(file.key)
        if self._is_closed or self._open.length != file.size or not self._is_current():
            self._open.close()
            raise StoreError(f"{file.key} was closed, or is another file than before.")
        yield from self._open
        self._open.close()
