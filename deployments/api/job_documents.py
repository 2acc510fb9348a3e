"""Reads the documents of ended jobs, and caches them for a minute.

The worker that wrote them may have run on an untrusted host, so every value is checked and sizes are limited.
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
from tasks.core.object_keys import POSTER_TYPE, SUBTITLE_TYPES, SubtitleFormat, job_key
from tasks.revisions import EditableSource, Revision, read_revision, read_source

CACHE_SECONDS = 60
_CACHED_JOBS = 64
_CACHED_SOURCES = 4
"""A source of four hours has 40,000 words, which take 20 MB."""
MANIFEST_BYTES = 1024 * 1024
ERROR_BYTES = 64 * 1024
MAX_CLIPS = 20
"""Our jobs have at most five; those of earlier workers may have more."""
_MAX_SEGMENTS = 5000

Number = Annotated[float, Field(allow_inf_nan=False)]
T = TypeVar("T")


def parse_json(document: bytes) -> Any:
    """The value of a JSON document.

    Raises:
        ValueError: it is not JSON; NaN, Infinity and numbers beyond a float count as invalid.
    """
    try:
        return json.loads(document, parse_constant=_reject_constant, parse_float=_parse_float)
    except RecursionError:
        raise ValueError("too deep") from None


def _reject_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _parse_float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _joined(segments: Any) -> Any:
    """The text of all segments, which takes a fraction of the memory of the segments."""
    if segments is None:
        return None
    if not isinstance(segments, list) or len(segments) > _MAX_SEGMENTS:
        raise ValueError("segments must be a list of limited length")
    return " ".join(_text(segment) for segment in segments) or None


def _text(segment: Any) -> str:
    text = segment.get("text", "") if isinstance(segment, dict) else None
    if not isinstance(text, str):
        raise ValueError("a segment must have a text")  # noqa: TRY004 pydantic reports a ValueError as invalid input
    return text


FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")]
"""A bare file name, so it cannot lead outside the job's prefix."""


class ManifestClip(BaseModel):
    """A clip in the manifest."""

    file: FileName
    subtitles: dict[SubtitleFormat, FileName] = Field(default_factory=dict[SubtitleFormat, FileName])
    poster: FileName | None = None
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
    counted: dict[str, Number] | None = Field(default=None, max_length=200)
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @property
    def files(self) -> dict[str, str]:
        """Content types of the clip's files by name, the video first."""
        poster = {self.poster: POSTER_TYPE} if self.poster else {}
        subtitles = {name: SUBTITLE_TYPES[form] for form, name in self.subtitles.items()}
        others = {name: kind for name, kind in (poster | subtitles).items() if name != self.file}
        return {self.file: "video/mp4"} | others


class _Clips(BaseModel):
    clips: list[ManifestClip] = Field(max_length=MAX_CLIPS)


class Manifest(BaseModel):
    """The published clips, the document as stored, and the folder of both below the job's prefix."""

    model_config = ConfigDict(frozen=True)

    clips: list[ManifestClip]
    document: bytes
    folder: str = ""

    def clip(self, file: str) -> ManifestClip | None:
        """The clip that a file belongs to: its video, its poster or its subtitles."""
        return next((clip for clip in self.clips if file in clip.files), None)


def parse_manifest(document: bytes) -> Manifest:
    """The manifest in a JSON document.

    Raises:
        ValueError: it is malformed.
    """
    content = parse_json(document)
    try:
        json.dumps(content, ensure_ascii=False).encode()  # fails on a lone surrogate
    except RecursionError:
        raise ValueError("too deep") from None
    return Manifest(clips=_Clips.model_validate(content).clips, document=document)


class Failure(BaseModel):
    """What `error.json` adds to the job's record."""

    model_config = ConfigDict(frozen=True)

    attempt: int | None = None
    code: str | None = Field(default=None, max_length=200)
    next_step: str | None = Field(default=None, max_length=2000)


class _Cache(Generic[T]):
    """Caches one value per key, a job's id and a folder of it, for a minute. Errors are not cached."""

    def __init__(self, jobs: int) -> None:
        self._jobs, self._lock = jobs, threading.Lock()
        self._values: OrderedDict[tuple[str, str], tuple[float, T]] = OrderedDict()

    def get(self, job_id: str, read: Callable[[], T], folder: str = "") -> T:
        key = (job_id, folder)
        with self._lock:
            expires_at, value = self._values.get(key, (0.0, None))
        if time.monotonic() < expires_at:
            return value  # pyright: ignore[reportReturnType] only a missing entry is None
        fresh = read()
        with self._lock:
            self._values[key] = (time.monotonic() + CACHE_SECONDS, fresh)
            self._values.move_to_end(key)
            while len(self._values) > self._jobs:
                self._values.popitem(last=False)
        return fresh

    def drop(self, job_id: str) -> None:
        with self._lock:
            for key in [key for key in self._values if key[0] == job_id]:
                del self._values[key]


class JobDocuments:
    """The documents of jobs, and the sizes of their clips, cached."""

    def __init__(self, bucket: ArtifactStore) -> None:
        self._bucket = bucket
        self._manifests: _Cache[Manifest] = _Cache(_CACHED_JOBS)
        self._failures: _Cache[tuple[int, Failure]] = _Cache(_CACHED_JOBS)
        self._sizes: _Cache[dict[str, int]] = _Cache(4 * _CACHED_JOBS)
        self._revisions: _Cache[Revision] = _Cache(_CACHED_JOBS)
        self._sources: _Cache[EditableSource] = _Cache(_CACHED_SOURCES)
        self._editable: _Cache[bool] = _Cache(4 * _CACHED_JOBS)

    def manifest(self, job_id: str, folder: str = "") -> Manifest:
        """The manifest of a succeeded job, in a folder below the job's prefix.

        Raises:
            StoreError: the manifest is unreadable or malformed.
        """
        return self._manifests.get(job_id, lambda: self._read_manifest(job_id, folder), folder)

    def is_editable(self, job_id: str) -> bool:
        """Whether SELECT has written a document for the job; earlier versions wrote none.

        Raises:
            StoreError: the bucket does not answer.
        """
        return self._editable.get(job_id, lambda: self._bucket.exists(job_key(job_id, "edit.json")))

    def revision(self, job_id: str, folder: str) -> Revision:
        """The revision in a folder below the job's prefix; see `read_revision`."""
        return self._revisions.get(job_id, lambda: read_revision(job_id, folder, self._bucket), folder)

    def source(self, job_id: str, revision: Revision) -> EditableSource:
        """What the job's documents are checked against; see `read_source`."""
        return self._sources.get(job_id, lambda: read_source(job_id, revision, self._bucket))

    def failure(self, job: Job) -> Failure:
        """Error code and next step of a failed job; empty if its latest attempt left none."""
        attempt, found = self._failures.get(job.job_id, lambda: (job.attempt, self._read_failure(job.job_id)))
        if attempt != job.attempt:
            self._failures.drop(job.job_id)
            _, found = self._failures.get(job.job_id, lambda: (job.attempt, self._read_failure(job.job_id)))
        return found if found.attempt in (None, job.attempt) else Failure()

    def clip_size(self, job_id: str, file: str, folder: str = "") -> int:
        """Size in bytes of a published file, which never changes. Pass only files named in the manifest.

        Raises:
            StoreError: the bucket does not answer.
        """
        sizes = self._sizes.get(job_id, dict, folder)
        if file not in sizes:
            sizes[file] = self._bucket.size(job_key(job_id, folder + file))
        return sizes[file]

    def forget(self, job_id: str) -> None:
        """Drop everything cached for a deleted job."""
        caches = (self._manifests, self._failures, self._sizes, self._revisions, self._sources, self._editable)
        for cache in caches:
            cache.drop(job_id)

    def _read_manifest(self, job_id: str, folder: str) -> Manifest:
        document = self._bucket.get_bounded(job_key(job_id, f"{folder}manifest.json"), MANIFEST_BYTES)
        try:
            return parse_manifest(document).model_copy(update={"folder": folder})
        except ValueError:
            raise StoreError(f"The manifest of {job_id} is malformed.") from None

    def _read_failure(self, job_id: str) -> Failure:
        try:
            document = self._bucket.get_bounded(job_key(job_id, "error.json"), ERROR_BYTES)
            return Failure.model_validate(parse_json(document))
        except (StoreError, ValueError):
            return Failure()
