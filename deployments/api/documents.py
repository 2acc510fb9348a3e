"""`manifest.json` and `error.json` of jobs that have ended, read once a minute at most.

A worker wrote them, perhaps on a stranger's machine: nothing in them is believed before it was checked, and
nothing is read beyond the size that such a document may have.
"""

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated, Any, Generic, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from infra.bucket.store import ArtifactStore
from infra.errors import StoreError
from infra.jobs.record import Job
from tasks.core.keys import job_key

KEPT_SECONDS = 60
_KEPT_JOBS = 64
MANIFEST_BYTES = 1024 * 1024
ERROR_BYTES = 64 * 1024
MOST_CLIPS = 20
"""No job has more than five; earlier workers may have."""
_MOST_SEGMENTS = 5000

Number = Annotated[float, Field(allow_inf_nan=False)]
T = TypeVar("T")


def parsed(document: bytes) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: it is not JSON: NaN and Infinity, and numbers that are too large for a float, are not.
    """
    try:
        return json.loads(document, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("too deep") from None


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _joined(segments: Any) -> Any:
    """The words of all segments: text takes a fraction of the memory that records of it do."""
    if segments is None:
        return None
    if not isinstance(segments, list) or len(segments) > _MOST_SEGMENTS:
        raise ValueError("segments are a list, and not endless")
    return " ".join(_words(segment) for segment in segments) or None


def _words(segment: Any) -> str:
    text = segment.get("text", "") if isinstance(segment, dict) else None
    if not isinstance(text, str):
        raise ValueError("a segment has a text")  # noqa: TRY004 pydantic takes this for a fault of the input
    return text


class ManifestClip(BaseModel):
    """A clip as the manifest tells of it; `file` is a plain name, so it leads to nothing but the job's own objects."""

    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")
    title: str | None = None
    duration: Number | None = None
    hook: str | None = None
    start: Number | None = None
    end: Number | None = None
    description: str | None = None
    hashtags: list[str] | None = Field(default=None, max_length=100)
    text: Annotated[str | None, BeforeValidator(_joined)] = Field(default=None, alias="segments")
    why: str | None = None
    score: Number | None = None
    signals: dict[str, Number] | None = Field(default=None, max_length=200)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class _Clips(BaseModel):
    clips: list[ManifestClip] = Field(max_length=MOST_CLIPS)


class Manifest(BaseModel):
    """The published clips, and the whole document as it is in the bucket."""

    model_config = ConfigDict(frozen=True)

    clips: list[ManifestClip]
    document: bytes

    def clip(self, file: str) -> ManifestClip | None:
        return next((clip for clip in self.clips if clip.file == file), None)


def manifest_of(document: bytes) -> Manifest:
    """The manifest in a JSON document.

    Raises:
        ValueError: it is none that can be served.
    """
    found = parsed(document)
    try:
        json.dumps(found, ensure_ascii=False).encode()  # half a character cannot be sent
    except RecursionError:
        raise ValueError("too deep") from None
    return Manifest(clips=_Clips.model_validate(found).clips, document=document)


class Failure(BaseModel):
    """What `error.json` adds to the job's own record."""

    model_config = ConfigDict(frozen=True)

    attempt: int | None = None
    code: str | None = Field(default=None, max_length=200)
    next_step: str | None = Field(default=None, max_length=2000)


class _Kept(Generic[T]):
    """One value for each of the jobs that were asked for last, good for a minute. Failures are not kept."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._lock = jobs, threading.Lock()
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def get(self, job_id: str, read: Callable[[], T]) -> T:
        with self._lock:
            until, value = self._values.get(job_id, (0.0, None))
        if time.monotonic() < until:
            return value  # pyright: ignore[reportReturnType] what has a time has a value
        fresh = read()
        with self._lock:
            self._values[job_id] = (time.monotonic() + KEPT_SECONDS, fresh)
            self._values.move_to_end(job_id)
            while len(self._values) > self._jobs:
                self._values.popitem(last=False)
        return fresh

    def drop(self, job_id: str) -> None:
        with self._lock:
            self._values.pop(job_id, None)


class Documents:
    def __init__(self, bucket: ArtifactStore) -> None:
        self._bucket = bucket
        self._manifests: _Kept[Manifest] = _Kept(_KEPT_JOBS)
        self._failures: _Kept[tuple[int, Failure]] = _Kept(_KEPT_JOBS)
        self._sizes: _Kept[dict[str, int]] = _Kept(4 * _KEPT_JOBS)

    def manifest(self, job_id: str) -> Manifest:
        """The manifest of a job that has succeeded.

        Raises:
            StoreError: it cannot be read, or is not what a manifest should be.
        """
        return self._manifests.get(job_id, lambda: self._read_manifest(job_id))

    def failure(self, job: Job) -> Failure:
        """Cause and next step of a job that failed; empty where its attempt left no word of them."""
        attempt, found = self._failures.get(job.job_id, lambda: (job.attempt, self._read_failure(job.job_id)))
        if attempt != job.attempt:
            self._failures.drop(job.job_id)
            _, found = self._failures.get(job.job_id, lambda: (job.attempt, self._read_failure(job.job_id)))
        return found if found.attempt in (None, job.attempt) else Failure()

    def clip_size(self, job_id: str, file: str) -> int:
        """Bytes of a published file, which nobody replaces. Ask for files that the manifest names alone.

        Raises:
            StoreError: the bucket does not tell.
        """
        sizes = self._sizes.get(job_id, dict)
        if file not in sizes:
            sizes[file] = self._bucket.size(job_key(job_id, file))
        return sizes[file]

    def forget(self, job_id: str) -> None:
        """Keep nothing of a job that was deleted."""
        for kept in (self._manifests, self._failures, self._sizes):
            kept.drop(job_id)

    def _read_manifest(self, job_id: str) -> Manifest:
        document = self._bucket.get_bounded(job_key(job_id, "manifest.json"), MANIFEST_BYTES)
        try:
            return manifest_of(document)
        except ValueError:
            raise StoreError(f"The manifest of {job_id} is malformed.") from None

    def _read_failure(self, job_id: str) -> Failure:
        try:
            return Failure.model_validate(parsed(self._bucket.get_bounded(job_key(job_id, "error.json"), ERROR_BYTES)))
        except (StoreError, ValueError):
            return Failure()
