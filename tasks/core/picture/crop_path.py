"""A camera path that rests until it has to move, and then moves as little and as smoothly as possible.

It is the shortest path inside a tube around the subject (the taut string of Davies and Kovac, "Local extremes,
runs, strings and multiresolution", 2001): it rests while one position fits and moves at constant speed while
the subject walks. A Hann window rounds its corners.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEP = 0.1
"""Seconds between the points of a moving path."""
ROUNDING = 1.2
"""Seconds over which a change of speed is spread."""


def constant_within(low: Array, high: Array, wanted: float) -> float | None:
    """The value nearest to `wanted` that stays between `low` and `high` everywhere, or None."""
    floor, ceiling = float(low.max()), float(high.min())
    return min(max(wanted, floor), ceiling) if floor <= ceiling else None


def taut_string(times: Array, low: Array, high: Array) -> Array:
    """Shortest path with free ends between `low` and `high`, sampled at `times`; requires low <= high."""
    first, last = _free_end(low, high), _free_end(low[::-1], high[::-1])
    low, high = low.copy(), high.copy()
    low[0] = high[0] = first
    low[-1] = high[-1] = last
    corners = [(0, first)]
    while corners[-1][0] < len(times) - 1:
        corners.append(_next_corner(times, low, high, corners[-1]))
    indexes, values = zip(*corners, strict=True)
    return np.interp(times, times[list(indexes)], values)


def _free_end(low: Array, high: Array) -> float:
    """Where a path with a free start begins: at the constant value that fits longest."""
    floor, ceiling = np.maximum.accumulate(low), np.minimum.accumulate(high)
    closed = np.flatnonzero(floor > ceiling)
    if not closed.size:
        return float((floor[-1] + ceiling[-1]) / 2)
    k = int(closed[0])
    return float(ceiling[k - 1] if floor[k] > floor[k - 1] else floor[k - 1])


def _next_corner(times: Array, low: Array, high: Array, corner: tuple[int, float]) -> tuple[int, float]:
    """The next point where the string bends, or the last point if `corner` connects to it in a straight line."""
    start, value = corner
    steepest, flattest = np.inf, -np.inf
    over = under = start
    for j in range(start + 1, len(times)):
        span = times[j] - times[start]
        up, down = (high[j] - value) / span, (low[j] - value) / span
        if down > steepest:
            return over, float(high[over])
        if up < flattest:
            return under, float(low[under])
        if up <= steepest:
            steepest, over = up, j
        if down >= flattest:
            flattest, under = down, j
    return len(times) - 1, float(high[-1])


def smooth_path(times: Array, path: Array, start: float, end: float) -> tuple[Array, Array]:
    """Round the path's corners; returns times on a grid of about STEP from `start` to `end`, and values."""
    grid = np.linspace(start, end, max(2, round((end - start) / STEP) + 1))
    window = np.hanning(round(ROUNDING / STEP) + 2)[1:-1]
    half = len(window) // 2
    padded = np.pad(np.interp(grid, times, path), (half, len(window) - 1 - half), mode="edge")
    smooth: Array = np.convolve(padded, window / window.sum(), mode="valid").astype(np.float64)
    return grid, smooth


def peak_motion(grid: Array, values: Array) -> tuple[float, float]:
    """Greatest speed (pixels/s) and acceleration (pixels/s²) of a path on an even grid."""
    step = grid[1] - grid[0]
    speed = np.diff(values) / step
    change = np.diff(speed) / step
    return float(np.abs(speed).max(initial=0.0)), float(np.abs(change).max(initial=0.0))


def key_indices(grid: Array, values: Array, tolerance: float = 0.25) -> list[int]:
    """Indices of key points; straight lines between them stay within `tolerance` of all other points."""
    kept = [0]
    for i in range(2, len(grid)):
        a = kept[-1]
        line = np.interp(grid[a : i + 1], [grid[a], grid[i]], [values[a], values[i]])
        if np.abs(line - values[a : i + 1]).max() > tolerance:
            kept.append(i - 1)
    return [*kept, len(grid) - 1]
