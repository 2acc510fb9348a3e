"""Signals of the source's page: replays and chapters."""

from dataclasses import dataclass, field

import numpy as np

from tasks.core.choice.windows import Floats, Windows, mean_and_deviation
from tasks.core.media import Chapter, HeatmapPoint


@dataclass(frozen=True)
class Audience:
    """How often viewers replayed each part of the source, and the chapters its creator set."""

    heatmap: list[HeatmapPoint] = field(default_factory=list[HeatmapPoint])
    chapters: list[Chapter] = field(default_factory=list[Chapter])


def audience_signals(audience: Audience, windows: Windows) -> dict[str, Floats]:
    """Signals from the source's page; those without data are omitted."""
    signals: dict[str, Floats] = {}
    points = [p for p in audience.heatmap if np.isfinite(p.value) and -np.inf < p.start_time < p.end_time < np.inf]
    if points:
        replays = np.zeros(int(windows.end.max()) + 2)
        for p in points:
            replays[int(max(p.start_time, 0)) : int(np.ceil(max(p.end_time, 0)))] = min(max(p.value, 0.0), 1.0)
        signals["replays"] = mean_and_deviation(replays, 1.0, windows)[0]
    marks = np.array(sorted({c.start_time for c in audience.chapters if 0 < c.start_time < np.inf}))
    if len(marks):
        crossed = np.searchsorted(marks, windows.end - 2.0) - np.searchsorted(marks, windows.start + 2.0)
        signals["chapter"] = -np.maximum(crossed, 0).astype(np.float64)
    return signals
