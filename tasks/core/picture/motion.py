"""Black stretches, frozen stretches and motion of a video, from its small frames."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.core.picture.camera import Shot

BLACK_PIXEL = 32
BLACK_SHARE = 0.98
"""A frame is black if this share of its pixels is below BLACK_PIXEL, as in ffmpeg's blackdetect."""
FROZEN_DIFFERENCE = 0.25
"""A frame is frozen if its luma differs from the previous one's by less than this, of 255; freezedetect uses 0.001."""


def is_black(luma: np.ndarray) -> bool:
    """Whether a uint8 luma plane is black."""
    return bool(np.count_nonzero(luma < BLACK_PIXEL) >= BLACK_SHARE * luma.size)


def difference(luma: np.ndarray, previous: np.ndarray | None) -> float:
    """Mean absolute difference of two uint8 luma planes, in grey levels; infinite for the first frame."""
    return float("inf") if previous is None else float(np.mean(np.abs(luma.astype(np.int16) - previous)))


def is_frozen(changed: float) -> bool:
    """Whether a frame that differs by `changed` grey levels from the previous one counts as unchanged."""
    return changed < FROZEN_DIFFERENCE


def shown_boxes(shots: Sequence[Shot], times: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """What the camera shows at each of `times`: left, top, right, bottom as shares of a frame of `size` pixels.

    Of a split picture, that is the smallest part of the frame that holds both crops.
    """
    boxes = np.tile([0.0, 0.0, 1.0, 1.0], (len(times), 1))
    for shot in shots:
        if not shot.keys or shot.layout == "screen":  # which shows the whole frame too
            continue
        during = (times >= shot.start - 1e-6) & (times < shot.end - 1e-6)
        if shot.layout == "split":
            (left, right), (top, bottom) = (
                [f(getattr(key, axis) for key in shot.keys) for f in (min, max)] for axis in "xy"
            )
            edges = [left, top, right + shot.crop_width, bottom + shot.crop_height]
            boxes[during] = np.array(edges) / np.array([*size, *size])
            continue
        at = [key.t for key in shot.keys]
        left, top = (np.interp(times[during], at, [getattr(key, axis) for key in shot.keys]) for axis in "xy")
        edges = [left / size[0], top / size[1], (left + shot.crop_width) / size[0], (top + shot.crop_height) / size[1]]
        boxes[during] = np.stack(edges, axis=1)
    return boxes


def motion_inside(motion: NDArray[np.float32], boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean motion of each frame inside its box.

    Args:
        motion: grey levels by which each cell of each frame differs from the previous frame: (frames, rows, columns).
        boxes: left, top, right, bottom as shares of the frame: (frames, 4).
    """
    down, across = (_covered(boxes[:, i], boxes[:, i + 2], motion.shape[2 - i]) for i in (1, 0))
    return np.einsum("nrc,nr,nc->n", motion, down, across) / (down.sum(axis=1) * across.sum(axis=1))


def _covered(first: NDArray[np.float64], last: NDArray[np.float64], cells: int) -> NDArray[np.float64]:
    """The part of each cell along an axis that is between `first` and `last`: (frames, cells)."""
    edges = np.arange(cells + 1) / cells
    return np.clip(np.minimum(last[:, None], edges[1:]) - np.maximum(first[:, None], edges[:-1]), 0, None)


def stretches(flags: list[bool], start: float, fps: float, shortest: float) -> list[tuple[float, float]]:
    """Runs of true flags of at least `shortest` seconds, as (start, end) in seconds; flag n is at start + n / fps."""
    padded = np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]]))
    runs = zip(np.flatnonzero(padded == 1), np.flatnonzero(padded == -1), strict=True)
    return [(start + a / fps, start + b / fps) for a, b in runs if b - a >= shortest * fps]
