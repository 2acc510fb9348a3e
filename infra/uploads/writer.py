"""Writes an upload's bytes straight into the bucket.

The file is cut into parts of one size, as S3's multipart uploads need them. What is left after the last whole part is
kept in an object of its own (`rest`), so that a client may send pieces of any size, and any process may continue. At
most one part is in memory.

Bytes are first written and then recorded. If the process dies in between, the client sends them again, and the
same part or another `rest` replaces what was written.
"""

import contextlib
import os
import time
from io import BytesIO
from typing import Any

from infra.bucket.store import ArtifactStore
from infra.errors import ObjectMissing, StoreError
from infra.uploads.records import Progress, Upload, UploadGone, UploadLock, UploadRecords

PART_BYTES = 7 * 1024 * 1024
"""Above S3's smallest part (5 MiB); 10,000 of them, S3's limit, hold more than the largest source may have."""
CONTENT_TYPE = "application/octet-stream"


def rests_prefix(upload_id: str) -> str:
    """Prefix of the objects that hold the bytes after an upload's last part."""
    return f"uploads/{upload_id}/"


class UploadWriter:
    """Appends to one upload under its lock. Not thread-safe. With `checksum`, nothing counts until `end` accepts it."""

    def __init__(self, upload: Upload, lock: UploadLock, bucket: ArtifactStore, checksum: Any = None) -> None:
        self._upload, self._lock, self._bucket, self._checksum = upload, lock, bucket, checksum
        self._part = BytesIO()  # sent as it is: boto3 would copy a bytearray
        self._part.write(bucket.get_bytes(upload.rest) if upload.rest else b"")
        self._first_part = (upload.offset - self._part.tell()) // PART_BYTES + 1
        self._etags: list[str] = []
        self._rest, self._multipart, self._recorded = upload.rest, upload.multipart, upload.offset
        self.offset = upload.offset
        """Where the next byte goes."""

    @property
    def is_part_full(self) -> bool:
        return self._part.tell() >= PART_BYTES

    @property
    def recorded(self) -> int:
        """What a client may rely on."""
        return self._recorded

    def take(self, data: bytes) -> bytes:
        """Take bytes up to the end of the part; returns those left over, for after `write_part`."""
        taken = data[: PART_BYTES - self._part.tell()]
        self._part.write(taken)
        self.offset += len(taken)
        if self._checksum is not None:
            self._checksum.update(taken)
        return data[len(taken) :]

    def write_part(self) -> None:
        """Write the full part and, without a checksum, record it.

        Raises:
            StoreError: the bucket does not answer.
            UploadGone, UploadLocked: the upload can no longer be advanced.
        """
        self._put_part()
        if self._checksum is None:
            self._record("")

    def end(self, digest: bytes | None = None) -> bool:
        """Write and record what is left. False if the checksum differs from `digest`; then nothing was recorded.

        Raises the same errors as `write_part`.
        """
        if self._checksum is not None and self._checksum.digest() != digest:
            return False
        if self.offset == self._recorded:
            return True
        if self.offset < self._upload.length:
            self._write_rest()
        elif self._multipart:
            if self._part.tell():
                self._put_part()
            self._record("")
        else:
            self._put_whole()
        return True

    def _put_part(self) -> None:
        if not self._multipart:
            self._multipart = self._bucket.begin_multipart(self._upload.key, CONTENT_TYPE)
        number = self._first_part + len(self._etags)
        try:
            etag = self._bucket.put_part(self._upload.key, self._multipart, number, self._part)
        finally:
            self._part.seek(0, os.SEEK_END)
        self._etags.append(etag)
        self._part = BytesIO()

    def _write_rest(self) -> None:
        if not self._part.tell():
            self._record("")
            return
        rest = f"{rests_prefix(self._upload.upload_id)}{self.offset}-{self._lock.token}"
        self._bucket.put_bytes(rest, self._part.getvalue(), CONTENT_TYPE)
        try:
            self._record(rest)
        except UploadGone:
            self._bucket.delete(rest)
            raise

    def _put_whole(self) -> None:
        """Store a file that is smaller than a part."""
        self._bucket.put_bytes(self._upload.key, self._part.getvalue(), CONTENT_TYPE)
        try:
            self._record("")
        except UploadGone:
            self._bucket.delete(self._upload.key)
            raise

    def _record(self, rest: str) -> None:
        before, outdated = self._recorded, self._rest
        try:
            self._lock.advance(before, Progress(self.offset, rest, self._multipart, self._etags))
        except UploadGone:
            if self._multipart:
                self._bucket.abort_multipart(self._upload.key, self._multipart)
            raise
        self._first_part += len(self._etags)
        self._etags, self._recorded, self._rest = [], self.offset, rest
        if outdated and outdated != rest:
            self._bucket.delete(outdated)


def finish(upload_id: str, records: UploadRecords, bucket: ArtifactStore) -> None:
    """Make the file of an upload whose bytes are all there. It can be repeated if it fails midway.

    Raises:
        StoreError: the bucket does not answer, or has something else.
        UploadGone: the upload has expired or been removed.
    """
    upload = records.get(upload_id, time.time())
    if upload is None:
        raise UploadGone
    if upload.is_finished:
        return
    if upload.multipart:
        with contextlib.suppress(ObjectMissing):  # completed before, or else the file is missing
            bucket.complete_multipart(upload.key, upload.multipart, records.etags(upload.upload_id))
    if bucket.size(upload.key) != upload.length:
        raise StoreError("An uploaded file does not have its size in the bucket.")
    records.finish(upload)


def remove_pieces(upload: Upload, bucket: ArtifactStore) -> None:
    """Delete what an unfinished upload has left in the bucket."""
    bucket.abort_multiparts(upload.key)
    bucket.delete_all(rests_prefix(upload.upload_id))
