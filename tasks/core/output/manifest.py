"""`manifest.json`: the published clips, how they were chosen and made, and their measurements."""

from typing import Any

from pydantic import BaseModel, Field

from tasks.core.edl import EdlClip, Selection
from tasks.core.object_keys import SubtitleFormat
from tasks.core.output.check import Check


class ClipEntry(BaseModel):
    """A published clip. `duration` is the file's, in seconds; `history` lists fixes and replacements.

    `subtitles` holds the names of the clip's subtitle files by format; `poster` is the name of its still picture.
    """

    clip: EdlClip
    file: str
    subtitles: dict[SubtitleFormat, str] = Field(default_factory=dict[SubtitleFormat, str])
    poster: str
    duration: float
    size_bytes: int
    sha256: str
    checks: list[Check]
    encoder: str
    encoder_reason: str
    gain_db: float
    history: list[str] = Field(default_factory=list[str])
    warnings: list[str] = Field(default_factory=list[str])


class DroppedClip(BaseModel):
    """A clip that was not published, and why."""

    index: int
    title: str
    reason: str


def manifest(
    job_id: str,
    clips: list[ClipEntry],
    dropped: list[DroppedClip],
    selection: Selection,
    models: dict[str, Any],
    timings: dict[str, float],
    warnings: list[str],
    **more: Any,
) -> dict[str, Any]:
    """The manifest as JSON types.

    Args:
        models: name and version of each model used.
        timings: wall time by stage, in seconds.
        more: further top-level fields.
    """
    return {
        "job_id": job_id,
        "clips": [manifest_entry(entry) for entry in sorted(clips, key=lambda entry: entry.clip.index)],
        "selection": selection.model_dump(mode="json"),
        "dropped": [item.model_dump(mode="json") for item in dropped],
        "models": models,
        "timings": timings,
        "warnings": warnings,
        **more,
    }


def manifest_entry(entry: ClipEntry) -> dict[str, Any]:
    """A clip as the manifest has it, as JSON types."""
    clip = entry.clip
    return {
        **clip.model_dump(mode="json"),
        "start": clip.segments[0].start,
        "end": clip.segments[-1].end,
        **entry.model_dump(mode="json", exclude={"clip"}),
    }
