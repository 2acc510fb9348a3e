"""`manifest.json` and `error.json` of ended jobs, read at most once a minute.

A worker wrote them, perhaps on an untrusted host: every value is checked, and the size is bounded.
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
from tasks.core.object_keys import job_key

KEPT_SECONDS = 60
_KEPT_JOBS = 64
MANIFEST_BYTES = 1024 * 1024
ERROR_BYTES = 64 * 1024
MOST_CLIPS = 20
"""No job has more than five, but earlier workers' jobs may."""
_MOST_SEGMENTS = 5000

Number = Annotated[float, Field(allow_inf_nan=False)]
T = TypeVar("T")


def parsed(document: bytes) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: it is not JSON; NaN, Infinity and numbers too large for a float are not.
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
    """The words of all segments as one text, which takes a fraction of the segments' memory."""
    if segments is None:
        return None
    if not isinstance(segments, list) or len(segments) > _MOST_SEGMENTS:
        raise ValueError("segments are a list, and not endless")
    return " ".join(_words(segment) for segment in segments) or None


def _words(segment: Any) -> str:
    text = segment.get("text", "") if isinstance(segment, dict) else None
    if not isinstance(text, str):
        raise ValueError("a segment has a text")  # noqa: TRY004 pydantic reports a ValueError as invalid input
    return text


class ManifestClip(BaseModel):
    """A clip in the manifest. `file` is a plain name, so it can only lead to the job's own objects."""

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
    """The published clips, and the document as stored in the bucket."""

    model_config = ConfigDict(frozen=True)

    clips: list[ManifestClip]
    document: bytes

    def clip(self, file: str) -> ManifestClip | None:
        return next((clip for clip in self.clips if clip.file == file), None)


def manifest_of(document: bytes) -> Manifest:
    """The manifest in a JSON document.

    Raises:
        ValueError: it cannot be served.
    """
    found = parsed(document)
    try:
        json.dumps(found, ensure_ascii=False).encode()  # a lone surrogate cannot be sent
    except RecursionError:
        raise ValueError("too deep") from None
    return Manifest(clips=_Clips.model_validate(found).clips, document=document)


class Failure(BaseModel):
    """What `error.json` adds to the job's own record."""

    model_config = ConfigDict(frozen=True)

    attempt: int | None = None
    code: str | None = Field(default=None, max_length=200)
    next_step: str | None = Field(default=None, max_length=2000)


class _Cache(Generic[T]):
    """A cache of one value per recently requested job, valid for a minute. Failures are not cached."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._lock = jobs, threading.Lock()
        self._values: OrderedDict[str, tuple[float, T]] = OrderedDict()

    def get(self, job_id: str, read: Callable[[], T]) -> T:
        with self._lock:
            until, value = self._values.get(job_id, (0.0, None))
        if time.monotonic() < until:
            return value  # pyright: ignore[reportReturnType] an entry with a time has a value
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
        self._manifests: _Cache[Manifest] = _Cache(_KEPT_JOBS)
        self._failures: _Cache[tuple[int, Failure]] = _Cache(_KEPT_JOBS)
        self._sizes: _Cache[dict[str, int]] = _Cache(4 * _KEPT_JOBS)

    def manifest(self, job_id: str) -> Manifest:
        """The manifest of a job that has succeeded.

        Raises:
            StoreError: it cannot be read, or is malformed.
        """
        return self._manifests.get(job_id, lambda: self._read_manifest(job_id))

    def failure(self, job: Job) -> Failure:
        """Cause and next step of a failed job; empty if its attempt left none."""
        attempt, found = self._failures.get(job.job_id, lambda: (job.attempt, self._read_failure(job.job_id)))
        if attempt != job.attempt:
            self._failures.drop(job.job_id)
            _, found = self._failures.get(job.job_id, lambda: (job.attempt, self._read_failure(job.job_id)))
        return found if found.attempt in (None, job.attempt) else Failure()

    def clip_size(self, job_id: str, file: str) -> int:
        """Size in bytes of a published file, which never changes. Only pass files that the manifest names.

        Raises:
            StoreError: the bucket does not answer.
        """
        sizes = self._sizes.get(job_id, dict)
        if file not in sizes:
            sizes[file] = self._bucket.size(job_key(job_id, file))
        return sizes[file]

    def forget(self, job_id: str) -> None:
        """Drop everything cached for a deleted job."""
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
