"""The artifact store: an S3 bucket on R2 or the embedded server.

An object appears whole or not at all, has its SHA-256 in its metadata, and is verified when it is fetched. Files are
streamed; the methods for JSON and bytes hold an object in memory.
"""

# boto3 carries no types and asks for a package of stubs as large as itself.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

import contextlib
import hashlib
import json
import mimetypes
import os
import socket
import tempfile
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, Self, cast
from urllib.parse import quote

from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import BaseModel, ConfigDict

from infra.bucket.clients import direct_client, remote_client
from infra.digests import sha256_in, sha256_of
from infra.errors import ConfigError, ObjectMissing, ObjectTooLarge, StoreError
from infra.granted.access import access_of
from infra.settings import Settings

_MIB = 1024 * 1024
_TRANSFER = TransferConfig(multipart_threshold=16 * _MIB, multipart_chunksize=16 * _MIB, max_concurrency=4)
_SINGLE_THREADED = TransferConfig(multipart_threshold=16 * _MIB, multipart_chunksize=16 * _MIB, use_threads=False)
_PROBE_BYTES = 32 * 1024
_MISSING = {"404", "NoSuchKey", "NoSuchUpload", "NotFound"}
_MAX_PRESIGN_SECONDS = 7 * 86400  # SigV4's own limit


class ArtifactRef(BaseModel):
    """A reference to an object in the bucket, as used in the stages' records. `size` is in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str
    size: int


class StoredObject(NamedTuple):
    """An object in a listing. `size` is in bytes, `modified` in seconds since the epoch."""

    key: str
    size: int
    modified: float


@dataclass(frozen=True)
class Deleted:
    """How many objects were deleted, and their size in bytes."""

    objects: int = 0
    size: int = 0

    def __add__(self, other: "Deleted") -> "Deleted":
        return Deleted(self.objects + other.objects, self.size + other.size)


class ArtifactStore:
    """The objects of one bucket. Keys are relative to `root`."""

    def __init__(self, client: Any, bucket: str, root: str = "") -> None:
        self._client = client
        self.bucket, self._root = bucket, root

    @classmethod
    def from_settings(cls, settings: Settings, attempts: int = 6) -> Self:
        """The bucket of this process's granted access or, without one, of the settings. Sends no request.

        Each request is tried up to `attempts` times.

        Raises:
            ConfigError: the endpoint or one of the keys is not set.
        """
        if access := access_of(settings):
            client = remote_client(access, attempts)  # pyright: ignore[reportArgumentType] it is frozen, so it has a hash
            return cls(client, access.bucket, access.root)
        endpoint, key_id, secret = settings.r2_endpoint, settings.r2_access_key_id, settings.r2_secret_access_key
        if not endpoint or not key_id or not secret:
            names = {"R2_ENDPOINT": endpoint, "R2_ACCESS_KEY_ID": key_id, "R2_SECRET_ACCESS_KEY": secret}
            missing = ", ".join(name for name, value in names.items() if not value)
            raise ConfigError(f"The bucket's settings are incomplete; set {missing}.")
        client = direct_client(endpoint, key_id.get_secret_value(), secret.get_secret_value(), attempts)
        return cls(client, settings.r2_bucket)

    def put_file(
        self,
        key: str,
        path: Path,
        content_type: str | None = None,
        sha256: str | None = None,
        *,
        use_threads: bool = True,
    ) -> ArtifactRef:
        """Upload a file, in parts if it is large. Pass a known `sha256` to avoid computing it.

        With `use_threads=False`, everything happens in the caller's thread, so nothing delays the process's exit.
        """
        with path.open("rb") as file:
            ref = ArtifactRef(key=key, sha256=sha256 or sha256_in(file), size=path.stat().st_size)
            file.seek(0)
            extra = _headers(ref, content_type or _guess_type(key))
            with _store_errors("put", key):
                self._client.upload_fileobj(
                    file,
                    self.bucket,
                    self._root + key,
                    ExtraArgs=extra,
                    Config=_TRANSFER if use_threads else _SINGLE_THREADED,
                )
        return ref

    def put_bytes(self, key: str, data: bytes, content_type: str) -> ArtifactRef:
        ref = ArtifactRef(key=key, sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        with _store_errors("put", key):
            self._client.put_object(Bucket=self.bucket, Key=self._root + key, Body=data, **_headers(ref, content_type))
        return ref

    def put_json(self, key: str, obj: Any) -> ArtifactRef:
        """Store a JSON value or a pydantic model as indented UTF-8."""
        value = obj.model_dump(mode="json") if isinstance(obj, BaseModel) else obj
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n"
        return self.put_bytes(key, text.encode(), "application/json")

    def get_bytes(self, key: str) -> bytes:
        with _store_errors("get", key):
            return self._client.get_object(Bucket=self.bucket, Key=self._root + key)["Body"].read()

    def get_bounded(self, key: str, most: int) -> bytes:
        """The object's bytes.

        Raises:
            ObjectMissing: there is no such object.
            ObjectTooLarge: it has more than `most` bytes.
        """
        with _store_errors("get", key):
            answer = self._client.get_object(Bucket=self.bucket, Key=self._root + key)
            with contextlib.closing(answer["Body"]) as body:
                data = body.read(most + 1) if answer["ContentLength"] <= most else None
        if data is None or len(data) > most:
            raise ObjectTooLarge(f"{key} in the bucket is larger than {most} bytes.")
        return data

    def get_json(self, key: str) -> Any:
        try:
            return json.loads(self.get_bytes(key))
        except ValueError:
            raise StoreError(f"{key} in the bucket is not JSON.") from None

    def copy(self, ref: ArtifactRef, key: str, content_type: str | None = None) -> ArtifactRef:
        """Copy an object of up to 5 GiB to `key`, within the bucket.

        Its metadata and type are copied too, or with `content_type` replaced by that type and the digest in `ref`.
        """
        replaced = _headers(ref, content_type) | {"MetadataDirective": "REPLACE"} if content_type else {}
        with _store_errors("copy", ref.key):
            source = {"Bucket": self.bucket, "Key": self._root + ref.key}
            self._client.copy_object(Bucket=self.bucket, Key=self._root + key, CopySource=source, **replaced)
        return ref.model_copy(update={"key": key})

    def fetch(self, ref_or_key: ArtifactRef | str, path: Path, *, use_threads: bool = True) -> Path:
        """Download to `path`, which appears whole or not at all. An intact file at `path` is kept.

        An object that was stored without a digest, and is named by its key, is compared by its size alone.
        `use_threads` is as in `put_file`.

        Raises:
            ObjectMissing: there is no such object.
            StoreError: the data does not match its digest, or the bucket does not answer.
        """
        ref = ref_or_key if isinstance(ref_or_key, ArtifactRef) else self._described(ref_or_key)
        if ref is None:
            raise ObjectMissing(f"{ref_or_key} is not in the bucket.")
        if _is_intact(path, ref):
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
        part = Path(name)
        try:
            with os.fdopen(handle, "wb") as file, _store_errors("get", ref.key):
                config = _TRANSFER if use_threads else _SINGLE_THREADED
                self._client.download_fileobj(self.bucket, self._root + ref.key, file, Config=config)
            if not _is_intact(part, ref):
                raise StoreError(f"{ref.key} in the bucket does not match its digest.")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def open(self, key: str, start: int = 0, end: int | None = None) -> "ObjectStream":
        """A stream of the bytes from `start` to `end`, both inclusive. The caller closes it."""
        byte_range = {"Range": f"bytes={start}-{'' if end is None else end}"} if start or end is not None else {}
        with _store_errors("get", key):
            answer = self._client.get_object(Bucket=self.bucket, Key=self._root + key, **byte_range)
        return ObjectStream(answer["Body"], key, answer["ContentLength"])

    def size(self, key: str) -> int:
        """The object's size in bytes.

        Raises:
            ObjectMissing: there is no such object.
        """
        head = self._head(key)
        if head is None:
            raise ObjectMissing(f"{key} is not in the bucket.")
        return head["ContentLength"]

    def exists(self, key: str) -> bool:
        return self._head(key) is not None

    def stat(self, key: str) -> ArtifactRef | None:
        """The object under `key`, or None. If others stored it without a digest, it is read to compute one."""
        ref = self._described(key)
        return ref if ref is None or ref.sha256 else ref.model_copy(update={"sha256": self._digest_of(key)})

    def _described(self, key: str) -> ArtifactRef | None:
        """Like `stat`, but if the object was stored without a digest, `sha256` is empty."""
        head = self._head(key)
        if head is None:
            return None
        return ArtifactRef(key=key, sha256=head["Metadata"].get("sha256", ""), size=head["ContentLength"])

    def has_all(self, refs: Iterable[ArtifactRef]) -> bool:
        """Whether every object exists with its size and, if it has one in its metadata, its digest."""
        return all(self._matches(ref) for ref in refs)

    def list(self, prefix: str) -> Iterator[str]:
        """The keys that begin with `prefix`, in order. Listed page by page."""
        yield from (found.key for found in self.objects(prefix))

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Like `list`, with sizes and times."""
        with _store_errors("list", prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self._root + prefix
            ):
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(self._root)
                    yield StoredObject(key, entry["Size"], entry["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        """Delete the object, if it exists."""
        with _store_errors("delete", key):
            self._client.delete_object(Bucket=self.bucket, Key=self._root + key)

    def delete_all(self, prefix: str) -> Deleted:
        """Delete every object whose key begins with `prefix`."""
        found = [*self.objects(prefix)]
        for each in found:
            self.delete(each.key)
        return Deleted(len(found), sum(each.size for each in found))

    def begin_multipart(self, key: str, content_type: str) -> str:
        """Begin an upload in parts; return its id. The object appears when the upload is completed."""
        with _store_errors("put", key):
            answer = self._client.create_multipart_upload(
                Bucket=self.bucket, Key=self._root + key, ContentType=content_type
            )
        return answer["UploadId"]

    def put_part(self, key: str, upload_id: str, number: int, data: bytes | BytesIO) -> str:
        """Store a part, replacing one with the same number; return its ETag. All of a `BytesIO` is sent.

        Raises:
            ObjectMissing: there is no such upload in parts.
        """
        if isinstance(data, BytesIO):
            data.seek(0)
        with _store_errors("put", key):
            answer = self._client.upload_part(
                Bucket=self.bucket, Key=self._root + key, UploadId=upload_id, PartNumber=number, Body=data
            )
        return answer["ETag"]

    def complete_multipart(self, key: str, upload_id: str, etags: Iterable[str]) -> None:
        """Make the object from its parts, which are numbered from 1.

        Raises:
            ObjectMissing: there is no such upload in parts; it may be complete.
        """
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, 1)]
        with _store_errors("put", key):
            self._client.complete_multipart_upload(
                Bucket=self.bucket, Key=self._root + key, UploadId=upload_id, MultipartUpload={"Parts": parts}
            )

    def abort_multipart(self, key: str, upload_id: str) -> None:
        """Discard an upload in parts, if it exists."""
        with contextlib.suppress(ObjectMissing), _store_errors("delete", key):
            self._client.abort_multipart_upload(Bucket=self.bucket, Key=self._root + key, UploadId=upload_id)

    def abort_multiparts(self, prefix: str) -> None:
        """Discard every upload in parts to a key that begins with `prefix`."""
        with _store_errors("list", prefix):
            answer = self._client.list_multipart_uploads(Bucket=self.bucket, Prefix=self._root + prefix)
        for found in answer.get("Uploads", ()):
            self.abort_multipart(found["Key"].removeprefix(self._root), found["UploadId"])

    def presign(
        self, key: str, seconds: int = 21600, download_name: str | None = None, *, is_shown: bool = False
    ) -> str:
        """A presigned URL for reading the object, valid for `seconds`.

        Browsers save it as `download_name`, if set, and show it if `is_shown`.

        Raises:
            StoreError: the store belongs to a granted run, which cannot presign.
        """
        if self._root:
            raise StoreError(f"A granted run cannot presign a URL for {key}; link to the API instead.")
        if not 1 <= seconds <= _MAX_PRESIGN_SECONDS:
            raise ValueError(f"A presigned URL is valid for 1 to {_MAX_PRESIGN_SECONDS} seconds, not {seconds}.")
        params = {"Bucket": self.bucket, "Key": key}
        if download_name is not None:
            params["ResponseContentDisposition"] = _attachment(download_name)
        elif is_shown:
            params["ResponseContentDisposition"] = "inline"
        with _store_errors("presign", key):
            return self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=seconds)

    def probe(self) -> None:
        """Put an object and read it back, because a bucket that can be listed may still refuse writes.

        The content is random, and large enough to be refused by a server that is out of space.

        Raises:
            StoreError: the bucket refuses it, or returns something else.
        """
        key, sent = f"ready/{socket.gethostname()}", os.urandom(_PROBE_BYTES)
        next(self.list(key), None)  # fails if the bucket is missing: some servers would create it on the first put
        self.put_bytes(key, sent, "application/octet-stream")
        if len(self.get_bytes(key)) != len(sent):
            raise StoreError("The bucket does not return what was stored in it.")

    def ensure_bucket(self) -> None:
        """Create the bucket if it is missing."""
        try:
            with _store_errors("look for", self.bucket):
                self._client.head_bucket(Bucket=self.bucket)
        except ObjectMissing:
            with _store_errors("create", self.bucket):
                self._client.create_bucket(Bucket=self.bucket)

    def _head(self, key: str) -> Any:
        try:
            with _store_errors("look for", key):
                return self._client.head_object(Bucket=self.bucket, Key=self._root + key)
        except ObjectMissing:
            return None

    def _matches(self, ref: ArtifactRef) -> bool:
        head = self._head(ref.key)
        return (
            head is not None
            and head["ContentLength"] == ref.size
            and head["Metadata"].get("sha256", ref.sha256) == ref.sha256
        )

    def _digest_of(self, key: str) -> str:
        digest = hashlib.sha256()
        with _store_errors("get", key):
            for chunk in self._client.get_object(Bucket=self.bucket, Key=self._root + key)["Body"].iter_chunks(_MIB):
                digest.update(chunk)
        return digest.hexdigest()


class ObjectStream:
    """Iterates over the `length` bytes of an object in chunks. It holds a connection until it is read or closed."""

    def __init__(self, body: Any, key: str, length: int) -> None:
        self._body = body
        self._key = key
        self.length = length

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        with _store_errors("get", self._key):
            chunk = self._body.read(_MIB // 4)
        if not chunk:
            raise StopIteration
        return chunk

    def close(self) -> None:
        self._body.close()


@contextmanager
def _store_errors(action: str, key: str) -> Generator[None]:
    """Turn boto3's errors into ours, without their messages, which may contain URLs and signatures."""
    try:
        yield
    except ClientError as error:
        response = cast("dict[str, Any]", error.response)
        code = str(response.get("Error", {}).get("Code", "unknown"))
        if code in _MISSING or (code == "NoSuchBucket" and action == "look for"):
            raise ObjectMissing(f"{key} is not in the bucket.") from None
        raise StoreError(f"The bucket refused to {action} {key}: {code}.") from None
    except (BotoCoreError, Boto3Error) as error:
        raise StoreError(f"The bucket did not {action} {key}: {type(error).__name__}.") from None


def _headers(ref: ArtifactRef, content_type: str) -> dict[str, Any]:
    return {"ContentType": content_type, "Metadata": {"sha256": ref.sha256}}


def _guess_type(key: str) -> str:
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def _attachment(name: str) -> str:
    """A Content-Disposition header (RFC 6266). Every byte outside the unreserved set is percent-encoded."""
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"


def _is_intact(path: Path, ref: ArtifactRef) -> bool:
    if not path.is_file() or path.stat().st_size != ref.size:
        return False
    return not ref.sha256 or sha256_of(path) == ref.sha256
