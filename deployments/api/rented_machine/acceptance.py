"""Verifies and publishes a rented machine's output before its job counts as succeeded.

The objects are under the job's granted root, where the machine can still change them. Each is copied to the job's
prefix, which the machine cannot reach, and the copy is checked. The checks cannot tell whether a clip comes from the
right video or is fit to publish.
"""

import hashlib
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deployments.api.job_documents import ERROR_BYTES, MANIFEST_BYTES, parse_json, parse_manifest
from deployments.api.rented_machine.jpeg import is_plain_jpeg
from infra.bucket.store import ArtifactRef, ArtifactStore
from infra.errors import ObjectMissing, ObjectTooLarge
from infra.granted.access import granted_root
from infra.jobs.record import Job
from tasks.core.edit.document import EDIT_BYTES
from tasks.core.object_keys import POSTER_TYPE, SUBTITLE_TYPES, SubtitleFormat, clip_name, job_key
from tasks.core.request import ClipRequest

JSON = "application/json"
_MIB = 1024**2
DOCUMENTS = {
    "meta.json": _MIB,
    "video_stats.json": _MIB // 4,
    "transcript.json": _MIB,
    "chunks.json": _MIB,
    "edl.json": _MIB,
    "edit.json": EDIT_BYTES,
    "face_log.json": 4 * _MIB,
}
"""Documents published along with the clips, and the largest size of each in bytes."""
UNKNOWN_TO_OLDER_IMAGES = {"edit.json"}
"""Documents that a machine with an image older than this API does not write."""
BYTES_OF_SPEECH = {"transcript.json": 600, "chunks.json": 100}
"""Extra bytes allowed per second of the longest source; a word takes about 100 bytes."""
CLIP_BYTES = 1024**3
"""Largest clip: a hundred times the size of three minutes of video."""
SUBTITLE_BYTES = 256 * 1024
"""Largest subtitle file: fifty times the size of three minutes of speech."""
POSTER_BYTES = _MIB
"""Largest poster: twice what KangKlip writes."""
_TOLERANCE_SECONDS = 0.1
"""How much longer than requested a clip may be, as in the output contract."""


class OutputRejected(Exception):
    """Why a machine's output was rejected. The text never comes from the machine."""


class MachineClip(BaseModel):
    """The files of a clip as a machine describes them."""

    model_config = ConfigDict(strict=True)

    file: str
    poster: str | None = None
    subtitles: dict[SubtitleFormat, str] = Field(default_factory=dict[SubtitleFormat, str])
    duration: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    size_bytes: Annotated[int, Field(gt=0, le=CLIP_BYTES)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Manifest(BaseModel):
    job_id: str
    clips: Annotated[list[MachineClip], Field(min_length=1, max_length=5)]


def accept(job: Job, bucket: ArtifactStore, source_seconds: int) -> None:
    """Verify and publish the output of the job's machine, the manifest last.

    Args:
        job: the job, whose attempt has not ended.
        bucket: holds the output under the job's granted root.
        source_seconds: longest source video that is accepted, in seconds.

    Raises:
        OutputRejected: a check failed. Clips may have been copied, but no manifest is published.
        StoreError: the bucket does not answer; try again.
    """
    job_id = job.job_id
    document, content = read_document("manifest.json", job_id, bucket, MANIFEST_BYTES)
    manifest = _checked_manifest(content, job)
    del content
    check_servable(document)
    bucket.delete(job_key(job_id, "manifest.json"))
    for clip in manifest.clips:
        publish_files(clip, "", job_id, bucket)
    for name, max_bytes in DOCUMENTS.items():
        if name in UNKNOWN_TO_OLDER_IMAGES and not bucket.exists(_granted_key(name, job_id)):
            continue
        limit = max_bytes + BYTES_OF_SPEECH.get(name, 0) * source_seconds
        bucket.put_bytes(job_key(job_id, name), read_document(name, job_id, bucket, limit)[0], JSON)
    bucket.put_bytes(job_key(job_id, "manifest.json"), document, JSON)


def publish_files(clip: MachineClip, folder: str, job_id: str, bucket: ArtifactStore) -> None:
    """Publish the files that the machine has in a folder of the job: the clip, its poster and its subtitles.

    Raises:
        OutputRejected: a check failed. Some of the files may have been copied.
    """
    _publish_clip(clip, folder, job_id, bucket)
    if clip.poster:
        name = folder + clip.poster
        bucket.put_bytes(job_key(job_id, name), _read_poster(name, job_id, bucket), POSTER_TYPE)
    for form, file in clip.subtitles.items():
        name = folder + file
        bucket.put_bytes(job_key(job_id, name), _read_subtitles(name, job_id, bucket), SUBTITLE_TYPES[form])


def publish_error(job: Job, bucket: ArtifactStore) -> None:
    """Publish the scalar fields of the machine's `error.json`, if it is readable."""
    try:
        _, content = read_document("error.json", job.job_id, bucket, ERROR_BYTES)
    except OutputRejected:
        return
    if isinstance(content, dict):
        scalars = {name: value for name, value in content.items() if _is_encodable(name) and _is_scalar(value)}
        bucket.put_json(job_key(job.job_id, "error.json"), scalars | {"attempt": job.attempt})


def _is_scalar(value: Any) -> bool:
    return _is_encodable(value) if isinstance(value, str) else isinstance(value, int | float | None)


def _is_encodable(text: str) -> bool:
    """Whether UTF-8 can encode the text; JSON allows lone surrogates, which it cannot."""
    return text.isascii() or text == text.encode(errors="ignore").decode()


def delete_granted_objects(job_id: str, bucket: ArtifactStore) -> None:
    """Delete everything that the job's machines wrote, including the source video."""
    for key in list(bucket.list(granted_root(job_id))):
        bucket.delete(key)


def _checked_manifest(content: Any, job: Job) -> _Manifest:
    try:
        request, manifest = ClipRequest.model_validate(job.request), _Manifest.model_validate(content)
    except ValidationError:
        raise OutputRejected("Its manifest is malformed.") from None
    files = [clip.file for clip in manifest.clips]
    if manifest.job_id != job.job_id:
        raise OutputRejected("Its manifest belongs to another job.")
    if len(files) > request.clip_count or not set(files) <= {clip_name(n) for n in range(1, request.clip_count + 1)}:
        raise OutputRejected("Its manifest names clips that were not requested.")
    if any(clip.poster not in (None, PurePosixPath(clip.file).stem + ".jpg") for clip in manifest.clips):
        raise OutputRejected("Its manifest names a poster that belongs to no clip.")
    if any(
        name != PurePosixPath(clip.file).stem + f".{form}"
        for clip in manifest.clips
        for form, name in clip.subtitles.items()
    ):
        raise OutputRejected("Its manifest names subtitles that belong to no clip.")
    if len(set(files)) < len(files):
        raise OutputRejected("Its manifest names a clip twice.")
    if any(clip.duration > request.clip_duration_seconds + _TOLERANCE_SECONDS for clip in manifest.clips):
        raise OutputRejected("A clip is longer than requested.")
    return manifest


def check_servable(document: bytes) -> None:
    """Check that the API can serve the manifest once it is published."""
    try:
        parse_manifest(document)
    except ValueError:
        raise OutputRejected("Its manifest is malformed.") from None


def _publish_clip(clip: MachineClip, folder: str, job_id: str, bucket: ArtifactStore) -> None:
    """Copy the clip, then check the copy. Only its bytes come from the machine."""
    key = job_key(job_id, folder + clip.file)
    ref = ArtifactRef(key=granted_root(job_id) + key, sha256=clip.sha256, size=clip.size_bytes)
    try:
        if bucket.size(ref.key) != clip.size_bytes:
            raise OutputRejected(f"{clip.file} does not have the size in the manifest.")
        bucket.copy(ref, key, content_type="video/mp4")
    except ObjectMissing:
        raise OutputRejected(f"{clip.file} is missing.") from None
    head, digest = _head_and_digest(key, bucket)
    if digest != clip.sha256 or head[4:8] != b"ftyp":
        bucket.delete(key)
        raise OutputRejected(f"{clip.file} is not the file described in the manifest.")


def _head_and_digest(key: str, bucket: ArtifactStore) -> tuple[bytes, str]:
    """An object's first bytes and its SHA-256."""
    digest, head = hashlib.sha256(), b""
    stream = bucket.open(key)
    try:
        for chunk in stream:
            head = head or chunk[:16]
            digest.update(chunk)
    finally:
        stream.close()
    return head, digest.hexdigest()


def read_document(name: str, job_id: str, bucket: ArtifactStore, max_bytes: int) -> tuple[bytes, Any]:
    """A JSON document from the machine and its content, read once so that the checked bytes are the published ones.

    Raises:
        OutputRejected: it is missing, too large, or not JSON.
    """
    document = _read_bounded(name, job_id, bucket, max_bytes)
    try:
        return document, parse_json(document)
    except ValueError:
        raise OutputRejected(f"{name} is not JSON.") from None


def _read_subtitles(name: str, job_id: str, bucket: ArtifactStore) -> bytes:
    """A subtitle file from the machine."""
    content = _read_bounded(name, job_id, bucket, SUBTITLE_BYTES)
    try:
        content.decode()
    except UnicodeDecodeError:
        raise OutputRejected(f"{name} is not UTF-8 text.") from None
    return content


def _read_poster(name: str, job_id: str, bucket: ArtifactStore) -> bytes:
    """A poster from the machine."""
    content = _read_bounded(name, job_id, bucket, POSTER_BYTES)
    if not is_plain_jpeg(content):
        raise OutputRejected(f"{name} is not a plain JPEG picture.")
    return content


def _read_bounded(name: str, job_id: str, bucket: ArtifactStore, max_bytes: int) -> bytes:
    """An object from the machine, of at most `max_bytes` bytes."""
    try:
        return bucket.get_bounded(_granted_key(name, job_id), max_bytes)
    except ObjectMissing:
        raise OutputRejected(f"{name} is missing.") from None
    except ObjectTooLarge:
        raise OutputRejected(f"{name} is too large.") from None


def _granted_key(name: str, job_id: str) -> str:
    """Where the machine writes one of the job's objects."""
    return granted_root(job_id) + job_key(job_id, name)
