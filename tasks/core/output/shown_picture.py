"""What a clip's picture shows, measured while it is encoded or from the finished file, and whether both agree."""

from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from tasks.core.output.poster import PosterCandidate
from tasks.core.output.source_match import SAMPLES_PER_SECOND, FrameMatch

THUMBNAIL = 16, 16
"""Columns and rows, whatever the picture's aspect."""
KEY_FRAME_SECONDS = 4.0
"""Most seconds from one key frame of a clip to the next."""
SAME_PICTURE = 3.0
"""Mean difference, in grey levels, between a frame before and after encoding. Of pictures at rest, in clips of two
recordings, it was at most 0.7."""

Thumbnail = np.ndarray


class ShownPicture(BaseModel):
    """Measurements of a clip's picture. Times are seconds on the clip's clock.

    `highlight` has (time, pixels of the highlight colour in the caption area) for every sampled frame.
    `frame_matches` compare the clip with its source. `poster_fault` says why no faces were looked for in the frames for
    the poster, or is None.
    """

    black: list[tuple[float, float]] = Field(default_factory=list[tuple[float, float]])
    frozen: list[tuple[float, float]] = Field(default_factory=list[tuple[float, float]])
    highlight: list[tuple[float, int]] = Field(default_factory=list[tuple[float, int]])
    frame_matches: list[FrameMatch] = Field(default_factory=list[FrameMatch])
    poster_candidates: list[PosterCandidate] = Field(default_factory=list[PosterCandidate])
    poster_fault: str | None = None


class DrawnPicture(BaseModel):
    """What was handed to the encoder: `frames` pictures, and a thumbnail of each sampled one.

    `thumbnails` are uint8 luma planes, SAMPLES_PER_SECOND of them.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    shown: ShownPicture
    frames: int
    thumbnails: bytes

    def is_like(self, key_frames: Sequence[tuple[float, Thumbnail]]) -> bool:
        """Whether these key frames of a file, by time, show what was drawn, and leave no long part of it unseen."""
        drawn = np.frombuffer(self.thumbnails, np.uint8).reshape(-1, *reversed(THUMBNAIL)).astype(np.int16)
        times = [0.0, *(t for t, _ in key_frames), len(drawn) / SAMPLES_PER_SECOND]
        is_seen = max(np.diff(times)) <= KEY_FRAME_SECONDS + 1 / SAMPLES_PER_SECOND
        return bool(is_seen) and all(_is_drawn(drawn, t, thumbnail) for t, thumbnail in key_frames)


def _is_drawn(drawn: np.ndarray, t: float, thumbnail: Thumbnail) -> bool:
    """Whether the frame is like a sample beside it, but for what changes between these samples."""
    nearest = min(round(t * SAMPLES_PER_SECOND), len(drawn) - 1)
    beside = drawn[max(nearest - 1, 0) : nearest + 2]
    changes = np.abs(np.diff(beside, axis=0)).mean(axis=(1, 2))
    differences = np.abs(beside - thumbnail.astype(np.int16)).mean(axis=(1, 2))
    return float(differences.min()) <= SAME_PICTURE + float(changes.max(initial=0.0))
