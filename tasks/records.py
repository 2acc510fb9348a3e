"""What each stage returns: a small JSON record that points at artifacts in the bucket."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.bucket.store import ArtifactRef
from infra.states import WORKING_STAGES, Stage
from tasks.core.edl import Selection
from tasks.core.media import MediaInfo


class StageRecord(BaseModel):
    """Artifacts by name, the stage's own wall time in seconds, and what people should know.

    `reused` tells that an artifact came from the cache that jobs share. Only the digests of
    `artifacts` decide whether later stages are up to date.
    """

    model_config = ConfigDict(frozen=True)

    artifacts: dict[str, ArtifactRef]
    seconds: float = 0.0
    reused: bool = False
    warnings: list[str] = Field(default_factory=list[str])


class SourceRecord(StageRecord):
    """DOWNLOAD: artifacts `video` and `audio` (shared), `meta` and `video_stats` (the job's)."""

    info: MediaInfo


class TranscriptRecord(StageRecord):
    """TRANSCRIPT: artifact `transcript`. `model` says what recognised it, on what."""

    language: str
    language_probability: float
    model: dict[str, Any]


class ChunksRecord(StageRecord):
    """CHUNK: artifact `chunks`."""


class EdlRecord(StageRecord):
    """SELECT: artifact `edl`."""

    selection: Selection


class RenderRecord(StageRecord):
    """RENDER: artifacts `renders` (what was rendered, as JSON) and each clip's file by name."""


class PublishedClip(BaseModel):
    """A row of the table that people see at the end."""

    file: str
    title: str
    duration: float
    size_bytes: int
    checks_passed: int
    checks: int
    score: float


class UploadRecord(StageRecord):
    """UPLOAD: artifacts `manifest`, `face_log` and each published clip's file by name."""

    clips: list[PublishedClip]
    dropped: list[str] = Field(default_factory=list[str])


class Made(BaseModel):
    """What the stages before UPLOAD have made, in their order."""

    source: SourceRecord
    transcript: TranscriptRecord
    chunks: ChunksRecord
    edl: EdlRecord
    rendered: RenderRecord

    def by_stage(self) -> dict[Stage, StageRecord]:
        return dict(
            zip(WORKING_STAGES, (self.source, self.transcript, self.chunks, self.edl, self.rendered), strict=False)
        )
