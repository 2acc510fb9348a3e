"""Where a clip begins and ends once its picture is known: on a cut, on no sliver of a shot, on a frame worth a poster.

No word is lost or gained: both ends move only inside the pauses that they lie in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.edl import EdlClip
from tasks.core.picture.motion import is_black
from tasks.core.transcript import Word

REACH = 0.5
"""Seconds by which an end may move."""
SHORTEST_SHOT = 0.5
"""Seconds of a shot that must be seen at either end."""
SLIVER_COST, FLAW_COST, FACELESS_COST, TIGHT_COST = 10.0, 4.0, 1.5, 0.5
CUT_GAIN = 3.0
"""All in seconds of distance from where the sound wants the end."""
ATTACK = 0.05
"""Seconds that a word begins before, or goes on after, what the recogniser says."""
INSTANT = 0.01
"""Seconds that are kept behind the middle of a word: a word belongs to a clip by its middle."""
_DISTANCES = (0.1, 0.2, 0.4)
"""Seconds before and after a frame at which its neighbours are compared with it."""
_UNLIKE = 8.0
"""Grey levels by which the neighbours must differ for a mixture of them to be noticed."""
_FLAT = 6.0
"""Deviation of luma below which a frame shows nothing."""
_FLASH = 30.0
"""Grey levels by which a flash is brighter than what is before and after it."""


@dataclass(frozen=True)
class EdgeAnalysis:
    """What a look around an end of a clip saw: frame n is on show from `start` + n / `fps` seconds on.

    `cuts` are the times at which a shot begins, good to half a frame; `flawed` tells of each frame whether
    it makes no poster; `faces` are the times of looks that found a face, `looks` of all.
    """

    start: float
    fps: float
    cuts: list[float]
    flawed: list[bool]
    looks: list[float]
    faces: list[float]

    def is_flawed(self, t: float) -> bool:
        n = round((t - self.start) * self.fps)
        return 0 <= n < len(self.flawed) and self.flawed[n]

    def shows_face(self, t: float) -> bool:
        nearest = min(self.looks, key=lambda look: abs(look - t), default=None)
        return nearest in self.faces


@dataclass(frozen=True)
class Pauses:
    """The free time around both ends of a clip, in seconds of the source."""

    start: tuple[float, float]
    end: tuple[float, float]


def pauses(start: float, end: float, words: Sequence[Word], taken: Sequence[tuple[float, float]]) -> Pauses:
    """Where the ends of a clip may lie: between words, within reach, outside of the stretches that are taken."""
    said = [word for word in words if start <= word.middle < end]
    before = [_behind(word) for word in words if word.middle < start] + [b for _, b in taken if b <= start + 1e-6]
    after = [word.start for word in words if word.middle >= end] + [a for a, _ in taken if a >= end - 1e-6]
    first = min((word.start for word in said), default=start)
    last = max((_behind(word) for word in said), default=end)
    return Pauses(
        start=_span(max([0.0, start - REACH, *before]), min(first, start + REACH), start),
        end=_span(max(last, end - REACH), min([end + REACH, *after]), end),
    )


def _behind(word: Word) -> float:
    """The earliest time that is after the word's middle, and so leaves it before, even where it has no length."""
    return max(word.end, word.middle + INSTANT)


def _span(low: float, high: float, inside: float) -> tuple[float, float]:
    return (min(low, inside), max(high, inside)) if low <= high else (inside, inside)


def best_start(wanted: float, free: tuple[float, float], view: EdgeAnalysis, latest: float) -> float:
    """Where to begin inside `free`; not after `latest`, where the clip would be too short."""
    half = 0.5 / view.fps
    free = (free[0], max(min(free[1], latest), free[0]))
    expects_face = any(free[0] <= t <= free[1] + 1.0 for t in view.faces)

    def cost(t: float) -> float:
        ahead = min((cut - t for cut in view.cuts if cut > t), default=SHORTEST_SHOT)
        return (
            SLIVER_COST * (ahead < SHORTEST_SHOT)
            + FLAW_COST * view.is_flawed(t + half)
            + FACELESS_COST * (expects_face and not view.shows_face(t))
            + TIGHT_COST * (free[1] - t < ATTACK and t > wanted)
        )

    return _cheapest(wanted, free, [cut + half for cut in view.cuts], view.fps, cost)


def best_end(wanted: float, free: tuple[float, float], view: EdgeAnalysis, earliest: float, latest: float) -> float:
    """Where to end inside `free`, not before `earliest` nor after `latest`."""
    half = 0.5 / view.fps
    free = (min(max(free[0], earliest), wanted), max(min(free[1], latest), wanted))

    def cost(t: float) -> float:
        behind = min((t - cut for cut in view.cuts if cut < t), default=SHORTEST_SHOT)
        return SLIVER_COST * (behind < SHORTEST_SHOT) + TIGHT_COST * (t - free[0] < ATTACK and t < wanted)

    return _cheapest(wanted, free, [cut - half for cut in view.cuts], view.fps, cost)


def _cheapest(
    wanted: float, free: tuple[float, float], cuts: list[float], fps: float, cost: Callable[[float], float]
) -> float:
    steps = np.arange(int((free[1] - free[0]) * fps) + 1) / fps + free[0]
    options = [wanted, free[0], free[1], *(float(t) for t in steps)]
    priced = [(cost(t) + abs(t - wanted), t) for t in options if free[0] <= t <= free[1]]
    priced += [(cost(t) + abs(t - wanted) - CUT_GAIN, t) for t in cuts if free[0] <= t <= free[1]]
    return min(priced)[1]


def moved(clip: EdlClip, start: float, end: float) -> EdlClip:
    """The clip with other ends."""
    first = clip.segments[0].model_copy(update={"start": start})
    inner = [first, *clip.segments[1:]]
    return clip.model_copy(update={"segments": [*inner[:-1], inner[-1].model_copy(update={"end": end})]})


def flawed_frames(lumas: NDArray[np.uint8], fps: float) -> list[bool]:
    """Whether each frame makes no poster: (frames, rows, columns) of luma.

    Black, without any contrast, a flash, or a mixture of what comes before and after, which is what
    dissolves and fades are made of.
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
    if distance < _UNLIKE:
        return False
    share = float((change * (here - before)).sum() / (change * change).sum())
    rest = float(np.abs(here - before - share * change).mean())
    return 0.08 < share < 0.92 and rest < 0.25 * distance
