"""Adjust a clip's start and end to its picture: at cuts, without slivers of shots, on a frame fit for a poster.

No word is lost or gained, because each end moves only within its pause.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.edl import EdlClip
from tasks.core.picture.motion import is_black
from tasks.core.transcript import Word

REACH = 0.5
"""Most seconds an end may move."""
SHORTEST_SHOT = 0.5
"""Least seconds of a shot to show at either end."""
SLIVER_COST, FLAW_COST, FACELESS_COST, TIGHT_COST = 10.0, 4.0, 1.5, 0.5
CUT_GAIN = 3.0
"""Costs and gain, in seconds of distance from the end preferred by the sound."""
WORD_MARGIN = 0.05
"""Seconds by which a word may start before, or end after, the recogniser's times."""
INSTANT = 0.01
"""Seconds to stay clear of a word's middle, which decides whether the word belongs to a clip."""
_DISTANCES = (0.1, 0.2, 0.4)
"""Seconds between a frame and the neighbours it is compared with."""
_DIFFERENT = 8.0
"""Grey levels by which two neighbours must differ before a blend of them is visible."""
_FLAT = 6.0
"""Standard deviation of luma below which a frame shows nothing."""
_FLASH = 30.0
"""Grey levels by which a flash outshines the frames before and after it."""


@dataclass(frozen=True)
class EdgeAnalysis:
    """What the frames around one end of a clip show: frame n starts at `start` + n / `fps` seconds.

    `cuts` are the times at which a shot begins, accurate to half a frame; `flawed` tells for each frame whether
    it is unfit for a poster; `samples` are the times at which face detection ran, `faces` those at which it found one.
    """

    start: float
    fps: float
    cuts: list[float]
    flawed: list[bool]
    samples: list[float]
    faces: list[float]

    def is_flawed(self, t: float) -> bool:
        n = round((t - self.start) * self.fps)
        return 0 <= n < len(self.flawed) and self.flawed[n]

    def shows_face(self, t: float) -> bool:
        nearest = min(self.samples, key=lambda sample: abs(sample - t), default=None)
        return nearest in self.faces


@dataclass(frozen=True)
class Pauses:
    """The pauses around both ends of a clip, in seconds of the source."""

    start: tuple[float, float]
    end: tuple[float, float]


def pauses(start: float, end: float, words: Sequence[Word], occupied: Sequence[tuple[float, float]]) -> Pauses:
    """Where the ends of a clip may be: between words, within REACH, outside the `occupied` stretches."""
    said = [word for word in words if start <= word.middle < end]
    before = [_end_of(word) for word in words if word.middle < start] + [b for _, b in occupied if b <= start + 1e-6]
    after = [word.start for word in words if word.middle >= end] + [a for a, _ in occupied if a >= end - 1e-6]
    first = min((word.start for word in said), default=start)
    last = max((_end_of(word) for word in said), default=end)
    return Pauses(
        start=_span(max([0.0, start - REACH, *before]), min(first, start + REACH), start),
        end=_span(max(last, end - REACH), min([end + REACH, *after]), end),
    )


def _end_of(word: Word) -> float:
    """The earliest time after the word and its middle, even if the word has no duration."""
    return max(word.end, word.middle + INSTANT)


def _span(low: float, high: float, inside: float) -> tuple[float, float]:
    return (min(low, inside), max(high, inside)) if low <= high else (inside, inside)


def best_start(preferred: float, free: tuple[float, float], view: EdgeAnalysis, latest: float) -> float:
    """Where to start within `free`, but not after `latest`, which would make the clip too short."""
    half = 0.5 / view.fps
    free = (free[0], max(min(free[1], latest), free[0]))
    expects_face = any(free[0] <= t <= free[1] + 1.0 for t in view.faces)

    def cost(t: float) -> float:
        ahead = min((cut - t for cut in view.cuts if cut > t), default=SHORTEST_SHOT)
        return (
            SLIVER_COST * (ahead < SHORTEST_SHOT)
            + FLAW_COST * view.is_flawed(t + half)
            + FACELESS_COST * (expects_face and not view.shows_face(t))
            + TIGHT_COST * (free[1] - t < WORD_MARGIN and t > preferred)
        )

    return _cheapest(preferred, free, [cut + half for cut in view.cuts], view.fps, cost)


def best_end(preferred: float, free: tuple[float, float], view: EdgeAnalysis, earliest: float, latest: float) -> float:
    """Where to end within `free`, but not before `earliest` or after `latest`."""
    half = 0.5 / view.fps
    free = (min(max(free[0], earliest), preferred), max(min(free[1], latest), preferred))

    def cost(t: float) -> float:
        behind = min((t - cut for cut in view.cuts if cut < t), default=SHORTEST_SHOT)
        return SLIVER_COST * (behind < SHORTEST_SHOT) + TIGHT_COST * (t - free[0] < WORD_MARGIN and t < preferred)

    return _cheapest(preferred, free, [cut - half for cut in view.cuts], view.fps, cost)


def _cheapest(
    preferred: float, free: tuple[float, float], cuts: list[float], fps: float, cost: Callable[[float], float]
) -> float:
    steps = np.arange(int((free[1] - free[0]) * fps) + 1) / fps + free[0]
    options = [preferred, free[0], free[1], *(float(t) for t in steps)]
    priced = [(cost(t) + abs(t - preferred), t) for t in options if free[0] <= t <= free[1]]
    priced += [(cost(t) + abs(t - preferred) - CUT_GAIN, t) for t in cuts if free[0] <= t <= free[1]]
    return min(priced)[1]


def with_ends(clip: EdlClip, start: float, end: float) -> EdlClip:
    """The clip with a new start and end."""
    first = clip.segments[0].model_copy(update={"start": start})
    inner = [first, *clip.segments[1:]]
    return clip.model_copy(update={"segments": [*inner[:-1], inner[-1].model_copy(update={"end": end})]})


def flawed_frames(lumas: NDArray[np.uint8], fps: float) -> list[bool]:
    """Whether each frame is unfit for a poster; `lumas` has shape (frames, rows, columns).

    A frame is unfit if it is black, lacks contrast, is a flash, or blends the frames before and after it, as in
    dissolves and fades.
    """
    return [
        is_black(luma) or float(luma.std()) < _FLAT or any(_is_between(lumas, n, round(s * fps)) for s in _DISTANCES)
        for n, luma in enumerate(lumas)
    ]


def _is_between(lumas: NDArray[np.uint8], n: int, away: int) -> bool:
    before, here, after = (lumas[min(max(i, 0), len(lumas) - 1)].astype(np.float32) for i in (n - away, n, n + away))
    if here.mean() > max(before.mean(), after.mean()) + _FLASH:
        return True
    change = after - before
    distance = float(np.abs(change).mean())
    if distance < _DIFFERENT:
        return False
    share = float((change * (here - before)).sum() / (change * change).sum())
    rest = float(np.abs(here - before - share * change).mean())
    return 0.08 < share < 0.92 and rest < 0.25 * distance
