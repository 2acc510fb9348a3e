"""The stages' return values: small JSON records that refer to artifacts in the bucket."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.bucket.store import ArtifactRef
from infra.states import WORKING_STAGES, Stage
from tasks.core.edl import Selection
from tasks.core.media import AudioTrack, MediaInfo


class StageRecord(BaseModel):
    """The artifacts by name, the stage's wall time in seconds, and warnings for the user.

    `reused`: an artifact came from the cache that jobs share. Later stages are up to date if the digests of
    `artifacts` are unchanged; the other fields do not count.
    """

    model_config = ConfigDict(frozen=True)

    artifacts: dict[str, ArtifactRef]
    seconds: float = 0.0
    reused: bool = False
    warnings: list[str] = Field(default_factory=list[str])


class SharedSource(BaseModel):
    """A source's entry in the shared cache.

    - `audio_made`: why the audio was copied or re-encoded.
    - `loudness`: integrated loudness of the whole source in LUFS, or None if it is silent.
    - `tracks`: the file's audio tracks, the best for the requested language first.
    """

    video: ArtifactRef
    audio: ArtifactRef
    audio_made: str
    info: MediaInfo
    loudness: float | None
    tracks: list[AudioTrack]
    warnings: list[str]


class SourceRecord(StageRecord):
    """DOWNLOAD: artifacts `video` and `audio` (shared by jobs), `meta` and `video_stats` (this job's)."""

    info: MediaInfo


class TranscriptRecord(StageRecord):
    """TRANSCRIPT: artifact `transcript`. `model` describes the speech model and its device."""

    language: str
    language_probability: float
    model: dict[str, Any]


class ChunksRecord(StageRecord):
    """CHUNK: artifact `chunks`."""


class EdlRecord(StageRecord):
    """SELECT: artifacts `edit` and `edl`."""

    selection: Selection


class ClipRecord(StageRecord):
    """A clip that RENDER has drawn: artifacts `clip` and `description` (JSON)."""


class RenderRecord(StageRecord):
    """RENDER: artifact `renders` (JSON with one entry per clip), and the clips by file name."""


class PublishedClip(BaseModel):
    """A published clip, as a row of the results table. `duration` is in seconds."""

    file: str
    title: str
    duration: float
    size_bytes: int
    checks_passed: int
    checks: int
    score: float


class UploadRecord(StageRecord):
    """UPLOAD: artifacts `manifest` and `face_log`, and the published clips by file name."""

    clips: list[PublishedClip]
    dropped: list[str] = Field(default_factory=list[str])


class StageRecords(BaseModel):
    """The records of the stages before UPLOAD, in pipeline order."""

    source: SourceRecord
    transcript: TranscriptRecord
    chunks: ChunksRecord
    edl: EdlRecord
    rendered: RenderRecord

    def by_stage(self) -> dict[Stage, StageRecord]:
        return dict(
            zip(WORKING_STAGES, (self.source, self.transcript, self.chunks, self.edl, self.rendered), strict=False)
        )
