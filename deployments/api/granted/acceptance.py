"""Checks what a rented machine made before its job counts as succeeded.

The objects are under the job's granted root, where the machine can still change them. Each is copied to the job's
results, which the machine cannot reach, and the copy is checked. These checks cannot tell whether the clips come
from the right video or are fit to publish.
"""

import hashlib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.api.job_documents import ERROR_BYTES, MANIFEST_BYTES, manifest_of, parsed
from infra.bucket.store import ArtifactRef, ArtifactStore
from infra.errors import ObjectMissing, ObjectTooLarge
from infra.granted.access import granted_root
from infra.jobs.record import Job
from tasks.core.object_keys import clip_name, job_key
from tasks.core.request import ClipRequest

JSON = "application/json"
_MIB = 1024**2
DOCUMENTS = {
    "meta.json": _MIB,
    "video_stats.json": _MIB // 4,
    "transcript.json": _MIB,
    "chunks.json": _MIB,
    "edl.json": _MIB,
    "face_log.json": 4 * _MIB,
}
"""Documents published with the clips, as any worker writes them, and the most bytes each may have."""
BYTES_OF_SPEECH = {"transcript.json": 600, "chunks.json": 100}
"""Extra bytes a document may have per second of the longest source: a word takes about 100 bytes."""
CLIP_BYTES = 1024**3
"""Largest clip: a hundred times the size of three minutes."""
_LENIENT_SECONDS = 0.1
"""How much longer than requested a clip may be, as the output contract allows."""


class Unacceptable(Exception):
    """Why a machine's output is rejected; the text is ours, never the machine's."""


class _Clip(BaseModel):
    model_config = ConfigDict(strict=True)

    file: str
    duration: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    size_bytes: Annotated[int, Field(gt=0, le=CLIP_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    job_id: str
    clips: Annotated[list[_Clip], Field(min_length=1, max_length=5)]


def accept(job: Job, bucket: ArtifactStore, source_seconds: int) -> None:
    """Publish what the job's machine made, the manifest last. A source lasts at most `source_seconds`.

    Raises:
        Unacceptable: a check fails; nothing is published.
        StoreError: the bucket does not answer; try again.
    """
    document, value = _document("manifest.json", job, bucket, MANIFEST_BYTES)
    found = _read(value, job)
    del value
    _check_readable(document)
    bucket.delete(job_key(job.job_id, "manifest.json"))
    for clip in found.clips:
        _publish_clip(clip, job, bucket)
    for name, most in DOCUMENTS.items():
        most_of_it = most + BYTES_OF_SPEECH.get(name, 0) * source_seconds
        bucket.put_bytes(job_key(job.job_id, name), _document(name, job, bucket, most_of_it)[0], JSON)
    bucket.put_bytes(job_key(job.job_id, "manifest.json"), document, JSON)


def keep_error(job: Job, bucket: ArtifactStore) -> None:
    """Publish the machine's account of its failure, if it is readable."""
    try:
        _, told = _document("error.json", job, bucket, ERROR_BYTES)
    except Unacceptable:
        return
    if isinstance(told, dict):
        plain = {name: value for name, value in told.items() if _is_whole(name) and _is_plain(value)}
        bucket.put_json(job_key(job.job_id, "error.json"), plain | {"attempt": job.attempt})


def _is_plain(value: Any) -> bool:
    return _is_whole(value) if isinstance(value, str) else isinstance(value, int | float | None)


def _is_whole(text: str) -> bool:
    """Whether the text can be encoded: a lone surrogate, which JSON allows, cannot."""
    return text.isascii() or text == text.encode(errors="ignore").decode()


def tidy(job_id: str, bucket: ArtifactStore) -> None:
    """Remove everything the job's machines wrote, including the source."""
    for key in list(bucket.list(granted_root(job_id))):
        bucket.delete(key)


def _read(document: Any, job: Job) -> _Manifest:
    try:
        asked, found = ClipRequest.model_validate(job.request), _Manifest.model_validate(document)
    except ValidationError:
        raise Unacceptable("Its manifest is malformed.") from None
    files = [clip.file for clip in found.clips]
    if found.job_id != job.job_id:
        raise Unacceptable("Its manifest is another job's.")
    if len(files) > asked.clip_count or not set(files) <= {clip_name(n) for n in range(1, asked.clip_count + 1)}:
        raise Unacceptable("Its manifest names clips that nobody asked for.")
    if len(set(files)) < len(files):
        raise Unacceptable("Its manifest names a clip twice.")
    if any(clip.duration > asked.clip_duration_seconds + _LENIENT_SECONDS for clip in found.clips):
        raise Unacceptable("A clip is longer than was asked for.")
    return found


def _check_readable(document: bytes) -> None:
    """Check that the manifest can be served once published."""
    try:
        manifest_of(document)
    except ValueError:
        raise Unacceptable("Its manifest is malformed.") from None


def _publish_clip(clip: _Clip, job: Job, bucket: ArtifactStore) -> None:
    """Copy the clip, then check the copy; only its bytes come from the machine."""
    key = job_key(job.job_id, clip.file)
    ref = ArtifactRef(key=granted_root(job.job_id) + key, sha256=clip.sha256, size=clip.size_bytes)
    try:
        if bucket.size(ref.key) != clip.size_bytes:
            raise Unacceptable(f"{clip.file} has not the size that the manifest says.")
        bucket.copy(ref, key, content_type="video/mp4")
    except ObjectMissing:
        raise Unacceptable(f"{clip.file} is missing.") from None
    begins, digest = _look_through(key, bucket)
    if digest != clip.sha256 or begins[4:8] != b"ftyp":
        bucket.delete(key)
        raise Unacceptable(f"{clip.file} is not the file that the manifest says.")


def _look_through(key: str, bucket: ArtifactStore) -> tuple[bytes, str]:
    """The first bytes of an object, and the SHA-256 of the whole."""
    digest, begins = hashlib.sha256(), b""
    stream = bucket.open(key)
    try:
        for chunk in stream:
            begins = begins or chunk[:16]
            digest.update(chunk)
    finally:
        stream.close()
    return begins, digest.hexdigest()


def _document(name: str, job: Job, bucket: ArtifactStore, most: int) -> tuple[bytes, Any]:
    """A JSON document from the machine and its value, read once: what is checked is what is published."""
    try:
        document = bucket.get_bounded(granted_root(job.job_id) + job_key(job.job_id, name), most)
        return document, parsed(document)
    except ObjectMissing:
        raise Unacceptable(f"{name} is missing.") from None
    except ObjectTooLarge:
        raise Unacceptable(f"{name} is too large.") from None
    except ValueError:
        raise Unacceptable(f"{name} is not JSON.") from None
