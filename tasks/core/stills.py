"""Stretches of a video without a picture or without motion, from its small frames."""

import numpy as np

BLACK_PIXEL = 32
BLACK_SHARE = 0.98
"""A frame is black when this share of its luma is below BLACK_PIXEL, as in ffmpeg's blackdetect."""
FROZEN_DIFFERENCE = 0.25
"""A frame is frozen when its luma differs from the last one's by less than this, of 255, as in freezedetect's 0.001."""


def is_black(luma: np.ndarray) -> bool:
    """Whether a uint8 luma plane is black."""
    return bool(np.count_nonzero(luma < BLACK_PIXEL) >= BLACK_SHARE * luma.size)


def difference(luma: np.ndarray, previous: np.ndarray | None) -> float:
    """Mean absolute difference of two uint8 luma planes, in grey levels; infinite for the first frame."""
    return float("inf") if previous is None else float(np.mean(np.abs(luma.astype(np.int16) - previous)))


def is_frozen(changed: float) -> bool:
    """Whether a frame that differs by `changed` grey levels from the one before shows the same."""
    return changed < FROZEN_DIFFERENCE


def stretches(flags: list[bool], start: float, fps: float, shortest: float) -> list[tuple[float, float]]:
    """Runs of true flags of at least `shortest` seconds, as (start, end) in seconds; flag n is at start + n / fps."""
    padded = np.diff(np.concatenate([[0], np.asarray(flags, np.int8), [0]]))
    runs = zip(np.flatnonzero(padded == 1), np.flatnonzero(padded == -1), strict=True)
    return [(start + a / fps, start + b / fps) for a, b in runs if b - a >= shortest * fps]
