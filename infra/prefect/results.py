"""Prefect's result storage for the records of finished stages, below the job's prefix in the bucket.

The block holds no secret, because each process reaches the bucket with its own settings. Any worker that may read the
job's prefix can therefore resume a run that died.
"""

import functools
from typing import ClassVar
from uuid import UUID

from prefect.filesystems import WritableFileSystem
from prefect.utilities.asyncutils import run_sync_in_worker_thread

from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import ObjectMissing
from infra.granted.access import access_of

BLOCK_NAME = "bucket"
_UNSAVED = UUID("00000000-0000-4000-8000-000000000000")


class StageRecords(WritableFileSystem):
    """Result storage on top of the artifact store; a path is a key."""

    _block_type_name: ClassVar[str | None] = "KangKlip stage records"
    _block_type_slug: ClassVar[str | None] = "kangklip-stage-records"
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

    It is saved rather than loaded, because loading searches all installed packages for block types, which takes a
    second or more.
    """
    block = StageRecords()
    if access_of(settings.load()):  # a rented machine cannot save blocks, and nobody loads its block
        block._block_document_id = _UNSAVED  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    else:
        block.save(BLOCK_NAME, overwrite=True)
    return block


def _store() -> ArtifactStore:
    return ArtifactStore.from_settings(settings.load())
