"""What each stage returns: a small JSON record that refers to artifacts in the bucket."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.bucket.store import ArtifactRef
from infra.states import WORKING_STAGES, Stage
from tasks.core.edl import Selection
from tasks.core.media import MediaInfo


class StageRecord(BaseModel):
    """Artifacts by name, the stage's wall time in seconds, and warnings for the user.

    `reused`: an artifact came from the cache that jobs share. Only the digests of `artifacts`
    decide whether later stages are up to date.
    """

    model_config = ConfigDict(frozen=True)

    artifacts: dict[str, ArtifactRef]
    seconds: float = 0.0
    reused: bool = False
    warnings: list[str] = Field(default_factory=list[str])


class SourceRecord(StageRecord):
    """DOWNLOAD: artifacts `video` and `audio` (shared by jobs), `meta` and `video_stats` (the job's)."""

    info: MediaInfo


class TranscriptRecord(StageRecord):
    """TRANSCRIPT: artifact `transcript`. `model` names the speech model and the device it ran on."""

    language: str
    language_probability: float
    model: dict[str, Any]


class ChunksRecord(StageRecord):
    """CHUNK: artifact `chunks`."""


class EdlRecord(StageRecord):
    """SELECT: artifact `edl`."""

    selection: Selection


class RenderRecord(StageRecord):
    """RENDER: artifact `renders` (JSON, one entry per clip) and the clips' files by name."""


class PublishedClip(BaseModel):
    """A row of the results table."""

    file: str
    title: str
    duration: float
    size_bytes: int
    checks_passed: int
    checks: int
    score: float


class UploadRecord(StageRecord):
    """UPLOAD: artifacts `manifest`, `face_log` and the published clips' files by name."""

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
