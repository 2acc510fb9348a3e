"""How a range is framed: for every shot a crop that rests or moves, or the whole frame."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tasks.core.camera import CropKey, RangeView, Shot


def frame_range(view: RangeView, source: tuple[int, int], output: tuple[int, int]) -> list[Shot]:
    """Shots that tile the range, each with its camera.

    `source` is width and height of the picture as shown, `output` those of the clip.
    """
    edges = [view.start, *(cut for cut in view.cuts if view.start < cut < view.end), view.end]
    return [_frame_shot(view, a, b, source, output) for a, b in pairwise(edges)]


def crop_size(source: tuple[int, int], output: tuple[int, int]) -> tuple[int, int]:
    """Largest even width and height inside the source that have the output's aspect."""
    width = min(source[0], source[1] * output[0] / output[1])
    height = min(source[1], source[0] * output[1] / output[0])
    return min(2 * round(width / 2), source[0] // 2 * 2), min(2 * round(height / 2), source[1] // 2 * 2)


def _frame_shot(view: RangeView, start: float, end: float, source: tuple[int, int], output: tuple[int, int]) -> Shot:
    width, height = crop_size(source, output)
    faces = [face for face in view.faces if start <= face.t < end]
    if source[0] / source[1] <= 1.02 * output[0] / output[1]:
        centre, reason = source[0] / 2, "source is vertical"
    elif not faces:
        return Shot(start=start, end=end, layout="fit", reason="no face")
    else:
        centre, reason = float(np.median([face.x for face in faces])), "face"
    x = min(max(0.0, centre - width / 2), float(source[0] - width))
    y = (source[1] - height) / 2
    return Shot(
        start=start,
        end=end,
        layout="still",
        crop_width=width,
        crop_height=height,
        keys=[CropKey(t=start, x=x, y=y)],
        faces=len(faces),
        reason=reason,
    )


def face_log_clip(index: int, shots: Sequence[Shot], view: RangeView) -> dict[str, Any]:
    """One clip of `face_log.json`: what was seen and what the camera decided."""
    return {
        "index": index,
        "segments": 1,
        "detected": sum(shot.faces > 0 for shot in shots),
        "samples": len(view.samples),
        "shots": [shot.model_dump() for shot in shots],
    }


def face_log(
    clips: list[dict[str, Any]], opencv_version: str | None, reason: str | None = None, error: str | None = None
) -> dict[str, Any]:
    """`face_log.json`. `reason` is ffprobe_failed, model_missing, video_open_failed or face_detect_failed, or null."""
    return {
        "backend": "yunet" if reason is None else None,
        "reason": reason,
        "error": error,
        "opencv_version": opencv_version,
        "clips": clips,
    }
