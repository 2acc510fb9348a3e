"""Where a clip begins and ends once its picture is known: at cuts, without slivers of shots, on a poster-worthy frame.

No word is lost or gained: each end moves only within its pause.
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
"""Costs and gain, in seconds of distance from the end that the sound prefers."""
ATTACK = 0.05
"""Seconds by which a word may begin before, or end after, the recogniser's times."""
INSTANT = 0.01
"""Seconds kept after the middle of a word, which decides whether the word belongs to a clip."""
_DISTANCES = (0.1, 0.2, 0.4)
"""Seconds between a frame and the neighbours it is compared with."""
_UNLIKE = 8.0
"""Grey levels by which the neighbours must differ for a blend of them to show."""
_FLAT = 6.0
"""Standard deviation of luma below which a frame shows nothing."""
_FLASH = 30.0
"""Grey levels by which a flash is brighter than the frames before and after it."""


@dataclass(frozen=True)
class EdgeAnalysis:
    """What the frames around one end of a clip show: frame n starts at `start` + n / `fps` seconds.

    `cuts` are the times at which a shot begins, accurate to half a frame; `flawed` says for each frame whether
    it is unfit for a poster; `looks` are the times of all face searches, `faces` of those that found one.
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
    """The pauses around both ends of a clip, in seconds of the source."""

    start: tuple[float, float]
    end: tuple[float, float]


def pauses(start: float, end: float, words: Sequence[Word], taken: Sequence[tuple[float, float]]) -> Pauses:
    """Where the ends of a clip may be: between words, within REACH, outside the `taken` stretches."""
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
    """The earliest time after the word and its middle, even if the word has no length."""
    return max(word.end, word.middle + INSTANT)


def _span(low: float, high: float, inside: float) -> tuple[float, float]:
    return (min(low, inside), max(high, inside)) if low <= high else (inside, inside)


def best_start(wanted: float, free: tuple[float, float], view: EdgeAnalysis, latest: float) -> float:
    """Where to begin within `free`, but not after `latest`, which would make the clip too short."""
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
    """Where to end within `free`, but not before `earliest` or after `latest`."""
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
    """The clip with a new start and end."""
    first = clip.segments[0].model_copy(update={"start": start})
    inner = [first, *clip.segments[1:]]
    return clip.model_copy(update={"segments": [*inner[:-1], inner[-1].model_copy(update={"end": end})]})


def flawed_frames(lumas: NDArray[np.uint8], fps: float) -> list[bool]:
    """Whether each frame is unfit for a poster; `lumas` has shape (frames, rows, columns).

    A frame is unfit if it is black, has no contrast, is a flash, or blends the frames before and after it,
    as dissolves and fades do.
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
