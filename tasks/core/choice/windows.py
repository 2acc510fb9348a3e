"""Candidate windows of a talk as arrays, and statistics over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Candidate windows as arrays: sentences `first` to `last` inclusive, cut at `start` and `end` seconds."""

    first: Ints
    last: Ints
    start: Floats
    end: Floats

    def __len__(self) -> int:
        return len(self.first)

    def only(self, kept: NDArray[np.bool_]) -> "Windows":
        """The windows for which `kept` (windows,) is true."""
        return Windows(self.first[kept], self.last[kept], self.start[kept], self.end[kept])


def z_scores(values: Floats) -> Floats:
    """Values standardised within the talk and clipped to three deviations; 0 for NaN, or if nothing varies."""
    known = values[np.isfinite(values)]
    deviation = float(known.std()) if len(known) else 0.0
    if deviation < 1e-9:
        return np.zeros(len(values))
    return np.nan_to_num(np.clip((values - known.mean()) / deviation, -3.0, 3.0), nan=0.0)


def sums_inside(values: Floats, windows: Windows) -> Floats:
    """Sum of the values between the sentences of each window; `values` has one before each sentence."""
    prefix = np.concatenate([[0.0], np.cumsum(values)])
    return prefix[windows.last + 1] - prefix[windows.first + 1]


def window_sums(windows: Windows) -> Callable[[Sequence[float] | Floats], Floats]:
    """A function that sums per-sentence values over each window."""

    def total(values: Sequence[float] | Floats) -> Floats:
        prefix = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
        return prefix[windows.last + 1] - prefix[windows.first]

    return total


def mean_and_deviation(values: Floats, rate: float, windows: Windows) -> tuple[Floats, Floats]:
    """Mean and standard deviation of a time series within each window, ignoring NaN; 0 if a window has no values."""
    valid = np.isfinite(values)
    centre = float(values[valid].mean()) if valid.any() else 0.0
    offsets = np.where(valid, values - centre, 0.0)
    sums = [np.concatenate([[0.0], np.cumsum(v)]) for v in (valid.astype(np.float64), offsets, offsets**2)]
    begin = np.clip((windows.start * rate).astype(np.int64), 0, len(values))
    end = np.clip(np.ceil(windows.end * rate).astype(np.int64), begin, len(values))
    number, first, second = (s[end] - s[begin] for s in sums)
    safe = np.maximum(number, 1.0)
    mean = first / safe
    return mean + centre * (number > 0), np.sqrt(np.maximum(second / safe - mean**2, 0.0))
