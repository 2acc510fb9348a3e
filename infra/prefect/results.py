"""Where Prefect keeps the records of finished stages: in the job's own prefix of the bucket.

The block holds no secret: whoever loads it reads the bucket with its own settings. So a
run that died is taken up again by any worker that may read the job's prefix.
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
    """Result storage over the artifact store; a path is a key."""

    _block_type_name: ClassVar[str | None] = "KangKlip stage records"
    _block_type_slug: ClassVar[str | None] = "kangklip-stage-records"
    _description: ClassVar[str | None] = "Records of finished stages, kept in the bucket. Holds no secret."

    def read_path(self, path: str, _sync: bool = True) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Content of a record. Prefect calls this from sync flows and says so by `_sync`.

        Raises:
            ValueError: there is none, which Prefect takes as not cached.
        """
        try:
            return _store().get_bytes(path)
        except ObjectMissing as error:
            raise ValueError(f"no record {path}") from error

    def write_path(self, path: str, content: bytes, _sync: bool = True) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        _store().put_bytes(path, content, "application/json")

    async def aread_path(self, path: str) -> bytes:
        """The same from async code."""
        return await run_sync_in_worker_thread(self.read_path, path)

    async def awrite_path(self, path: str, content: bytes) -> None:
        await run_sync_in_worker_thread(self.write_path, path, content)


@functools.cache
def saved_block() -> StageRecords:
    """The block as the Prefect server knows it, which result storage must be, or seem to be.

    Saved and not loaded: loading looks for block types in every installed collection first,
    which takes a second or more.
    """
    block = StageRecords()
    if access_of(settings.load()):  # a rented machine reaches no blocks; what it names is never loaded
        block._block_document_id = _UNSAVED  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    else:
        block.save(BLOCK_NAME, overwrite=True)
    return block


def _store() -> ArtifactStore:
    return ArtifactStore.from_settings(settings.load())
