"""`manifest.json` and `error.json` of jobs that have ended, read once a minute at most.

A worker wrote them, perhaps on a stranger's machine: nothing in them is believed before it was checked.
"""

import json
import time
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from infra.artifacts import ArtifactStore
from infra.errors import StoreError
from infra.jobs import Job
from tasks.core.keys import job_key

KEPT_SECONDS = 60
_KEPT_JOBS = 256

Number = Annotated[float, Field(allow_inf_nan=False)]


class Words(BaseModel):
    text: str = ""


class ManifestClip(BaseModel):
    """A clip as the manifest tells of it; `file` is a plain name, so it leads to nothing but the job's own objects."""

    file: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$")
    title: str | None = None
    duration: Number | None = None
    hook: str | None = None
    start: Number | None = None
    end: Number | None = None
    description: str | None = None
    hashtags: list[str] | None = None
    segments: list[Words] = Field(default_factory=list[Words])
    why: str | None = None
    score: Number | None = None
    signals: dict[str, Number] | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")

    @property
    def text(self) -> str | None:
        return " ".join(words.text for words in self.segments) or None


_CLIPS = TypeAdapter(list[ManifestClip])


class Manifest(BaseModel):
    """The published clips, and the whole document as it is in the bucket."""

    model_config = ConfigDict(frozen=True)

    clips: list[ManifestClip]
    document: bytes

    def clip(self, file: str) -> ManifestClip | None:
        return next((clip for clip in self.clips if clip.file == file), None)


class Failure(BaseModel):
    """What `error.json` adds to the job's own record."""

    model_config = ConfigDict(frozen=True)

    attempt: int | None = None
    code: str | None = None
    next_step: str | None = None


class Documents:
    def __init__(self, bucket: ArtifactStore) -> None:
        self._bucket = bucket
        self._manifest = lru_cache(_KEPT_JOBS)(self._read_manifest)
        self._failure = lru_cache(_KEPT_JOBS)(self._read_failure)
        self._size = lru_cache(4 * _KEPT_JOBS)(self._read_size)

    def manifest(self, job_id: str) -> Manifest:
        """The manifest of a job that has succeeded.

        Raises:
            StoreError: it cannot be read, or is not what a manifest should be.
        """
        return self._manifest(job_id, _minute())

    def failure(self, job: Job) -> Failure:
        """Cause and next step of a job that failed; empty where its attempt left no word of them."""
        found = self._failure(job.job_id, job.attempt, _minute())
        return found if found.attempt in (None, job.attempt) else Failure()

    def clip_size(self, job_id: str, file: str) -> int:
        """Bytes of a published file, which nobody replaces.

        Raises:
            StoreError: the bucket does not tell.
        """
        return self._size(job_id, file, _minute())

    def _read_manifest(self, job_id: str, _at: int) -> Manifest:
        try:
            document = self._bucket.get_json(job_key(job_id, "manifest.json"))
            text = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
            return Manifest(clips=_clips(document), document=text)
        except (ValueError, RecursionError):
            raise StoreError(f"The manifest of {job_id} is malformed.") from None

    def _read_failure(self, job_id: str, _attempt: int, _at: int) -> Failure:
        try:
            return Failure.model_validate(self._bucket.get_json(job_key(job_id, "error.json")))
        except (StoreError, ValidationError, RecursionError):
            return Failure()

    def _read_size(self, job_id: str, file: str, _at: int) -> int:
        return self._bucket.size(job_key(job_id, file))


def _clips(document: Any) -> list[ManifestClip]:
    clips = document.get("clips") if isinstance(document, dict) else None
    return _CLIPS.validate_python(clips)


def _minute() -> int:
    return int(time.monotonic() // KEPT_SECONDS)
