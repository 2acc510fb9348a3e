"""`face_log.json`: what was seen, and every decision about the picture with its reason."""

from collections.abc import Sequence
from typing import Any, Literal

from tasks.core.picture.camera import RangeAnalysis, Shot
from tasks.core.picture.shadow import Shadow


def face_log_clip(
    index: int, shots: Sequence[Shot], *views: RangeAnalysis, shadow: Sequence[Shadow] = ()
) -> dict[str, Any]:
    """One clip in `face_log.json`.

    `views` are the analyses of the clip's segments; `segments` counts them, and `detected` those with a
    face. `shots` are the framing decisions with their reasons; `shadow` are decisions that were not drawn.
    """
    return {
        "index": index,
        "segments": len(views),
        "detected": sum(bool(view.faces) for view in views),
        "looks": sum(len(view.samples) for view in views),
        "cuts": [cut for view in views for cut in view.cuts],
        "shots": [shot.model_dump() for shot in shots],
        "shadow": [decision.model_dump() for decision in shadow],
    }


def face_log(
    clips: Sequence[dict[str, Any]],
    opencv_version: str | None,
    reason: Literal["ffprobe_failed", "model_missing", "video_open_failed", "face_detect_failed"] | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """`face_log.json`. `reason` and `error` say why face detection did not run, or are None if it did."""
    return {
        "backend": None if reason else "yunet",
        "reason": reason,
        "error": error,
        "opencv_version": opencv_version,
        "clips": list(clips),
    }
