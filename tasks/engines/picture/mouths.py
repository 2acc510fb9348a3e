"""Measures how much a mouth moves between frames, beyond the motion of the head."""

from dataclasses import dataclass, field

import cv2
import numpy as np

SMALLEST = 8.0
"""Pixels from eyes to mouth; smaller faces are not measured."""
MIN_CONTRAST = 25.0
"""Sum of the standard deviations of the face's upper and lower part, in grey levels; below it, all is noise."""
LARGEST_SHIFT = 4.0
"""Most pixels that a head may move between two frames."""


@dataclass
class WatchedFace:
    """A YuNet row and the frame-by-frame mouth motion since it was detected."""

    row: np.ndarray
    motion: list[float] = field(default_factory=list[float])

    def watch(self, before: np.ndarray, after: np.ndarray) -> None:
        """Measure the motion between two luma planes."""
        value = mouth_motion(self.row, before, after)
        if value is not None:
            self.motion.append(value)

    @property
    def mouth(self) -> float:
        return float(np.mean(self.motion)) if self.motion else 0.0


def mouth_motion(row: np.ndarray, before: np.ndarray, after: np.ndarray) -> float | None:
    """Residual of the mouth after compensating for the head's shift, minus half that of eyes and nose.

    It is in percent of the face's contrast, which cancels lighting and skin tone: talking gives 1.5 to 5, a silent
    moving face less than 1. None if the face is too small, too dim, or leaves the frame.
    """
    eyes, mouth = (row[4:6] + row[6:8]) / 2, (row[10:12] + row[12:14]) / 2
    length = float(np.hypot(*(mouth - eyes)))
    if length < SMALLEST:
        return None
    upper = _box(eyes, 0.75 * length, 0.45 * length, before.shape)
    lower = _box(mouth + 0.15 * (mouth - eyes), 0.55 * length, 0.4 * length, before.shape)
    if upper is None or lower is None:
        return None
    contrast = float(before[upper].std() + before[lower].std())
    if contrast < MIN_CONTRAST:
        return None
    move = _shift(before[upper], after[upper])
    excess = _residual(before[lower], after[lower], move) - 0.5 * _residual(before[upper], after[upper], move)
    return 100.0 * max(0.0, excess) / contrast


def _box(
    centre: np.ndarray, half_width: float, half_height: float, shape: tuple[int, ...]
) -> tuple[slice, slice] | None:
    """Slices of the rectangle around `centre`, or None if it is not entirely inside the frame."""
    left, right = int(centre[0] - half_width), int(centre[0] + half_width) + 1
    top, bottom = int(centre[1] - half_height), int(centre[1] + half_height) + 1
    inside = left >= 0 and top >= 0 and right <= shape[1] and bottom <= shape[0]
    return (slice(top, bottom), slice(left, right)) if inside else None


def _shift(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Pixels (x, y) by which a patch has moved: one step of Lucas and Kanade's least squares (1981)."""
    down, across = np.gradient(cv2.GaussianBlur(before, (0, 0), 1.0).astype(np.float32))
    change = after.astype(np.float32) - before
    slopes = np.stack([across.ravel(), down.ravel()])
    move = np.linalg.solve(slopes @ slopes.T + np.eye(2), -slopes @ change.ravel())
    return np.clip(move, -LARGEST_SHIFT, LARGEST_SHIFT)


def _residual(before: np.ndarray, after: np.ndarray, move: np.ndarray) -> float:
    """Mean difference in grey levels after shifting `before` by `move`."""
    matrix = np.array([[1, 0, move[0]], [0, 1, move[1]]], np.float32)
    moved = cv2.warpAffine(before, matrix, before.shape[::-1], borderMode=cv2.BORDER_REPLICATE)
    return float(np.mean(cv2.absdiff(moved, after)))
