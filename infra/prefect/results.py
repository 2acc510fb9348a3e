"""Prefect's result storage for the records of finished stages, below the job's prefix in the bucket.

The block holds no secret, because each process reaches the bucket with its own settings. Any worker that may read the
job's prefix can therefore resume a run that died.
"""

import contextlib
import functools
from typing import ClassVar
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.filesystems import WritableFileSystem
from prefect.utilities.asyncutils import run_sync_in_worker_thread

from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import ObjectMissing
from infra.granted.access import access_of

BLOCK_TYPE, BLOCK_NAME = "kangklip-stage-records", "bucket"
_UNSAVED = UUID("00000000-0000-4000-8000-000000000000")


class StageRecords(WritableFileSystem):
    """Result storage on top of the artifact store; a path is a key."""

    _block_type_name: ClassVar[str | None] = "KangKlip stage records"
    _block_type_slug: ClassVar[str | None] = BLOCK_TYPE
    _description: ClassVar[str | None] = "Records of finished stages, kept in the bucket. Holds no secret."

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The content of a record. Prefect passes `_sync` in sync flows.

        Raises:
            ValueError: the record does not exist; Prefect then runs the stage.
        """
        try:
            return _store().get_bytes(path)
        except ObjectMissing as error:
            raise ValueError(f"no record {path}") from error

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        _store().put_bytes(path, content, "application/json")

    async def aread_path(self, path: str) -> bytes:
        """Like `read_path`, for async code."""
        return await run_sync_in_worker_thread(self.read_path, path)

    async def awrite_path(self, path: str, content: bytes) -> None:
        await run_sync_in_worker_thread(self.write_path, path, content)


@functools.cache
def saved_block() -> StageRecords:
    """The block, saved on the server: Prefect accepts only saved blocks as result storage.

    It is not loaded, because that searches all installed packages for block types, which takes a second or more.
    """
    block = StageRecords()
    is_rented = access_of(settings.load()) is not None  # it cannot save blocks, and nobody loads its block
    if known := _UNSAVED if is_rented else _saved_id():
        block._block_document_id = known  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    else:
        block.save(BLOCK_NAME, overwrite=True)
    return block


def _saved_id() -> UUID | None:
    """The block's id on the server, if an earlier run has saved it: one request in place of the six of saving it."""
    with get_client(sync_client=True) as client, contextlib.suppress(ObjectNotFound):
        return client.read_block_document_by_name(BLOCK_NAME, BLOCK_TYPE, include_secrets=False).id
    return None


def _store() -> ArtifactStore:
    return ArtifactStore.from_settings(settings.load())
