"""What the camera would do with two people by their mouths alone, if it might split the picture then: not drawn."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from tasks.core.picture.rest_or_pan import Frame, extent, fits
from tasks.core.picture.speaker import CLEAR_LEAD, mouth_motion, runs_of
from tasks.core.picture.tracks import Array, Track
from tasks.core.picture.two_people import PRESENT, Crops
from tasks.core.picture.voices import FEWEST, QUICK, QUIET, TALKING

KNOWN = 0.5
"""Share of the time in which a speaker must be known for the camera to follow."""
SHORTEST = 2.0
"""Seconds of a shot below which nothing is decided."""


class Shadow(BaseModel):
    """What would be shown from `start` to `end`, in seconds of the source, and why."""

    start: float
    end: float
    layout: Literal["split", "follow"]
    reason: str


def shadow_of(
    tracks: Sequence[Track], times: Array, span: tuple[float, float], frame: Frame, crops: Crops | None
) -> Shadow | None:
    """The decision for one shot between two cuts; None if it does not show two people too far apart for one crop.

    Args:
        tracks: its faces, and `times` at which it was looked for them.
        span: its start and end.
        frame: the largest crop that would fill the clip.
        crops: a crop for each of the two, if the picture has room for them.
    """
    pair = [track for track in tracks if track.present(times).mean() >= PRESENT] if len(times) else []
    if len(pair) != 2 or len(tracks) != 2 or span[1] - span[0] < SHORTEST:
        return None
    if fits(extent(pair, times, frame, ""), frame):
        return None
    layout, reason = _decide(_speakers(pair, times), times)
    if layout == "split" and crops is None:
        layout, reason = "follow", f"{reason}, but there is no room for two crops"
    return Shadow(start=span[0], end=span[1], layout=layout, reason=reason)


def _decide(who: NDArray[np.int64], times: Array) -> tuple[Literal["split", "follow"], str]:
    """The layout for the speakers at `times`, of which -1 is nobody known."""
    known = float((who >= 0).mean())
    if known < KNOWN:
        return "split", f"two people far apart; a speaker is known in {known:.0%} of the time"
    turns = _turns(who, times)
    middle = float(np.median(turns))
    is_quick = len(turns) >= FEWEST and middle < QUICK
    what = f"{len(turns)} turns, half of them under {middle:.1f} s"
    return ("split", f"quick turns: {what}") if is_quick else ("follow", f"long turns: {what}")


def _speakers(pair: Sequence[Track], times: Array) -> NDArray[np.int64]:
    """Which of the two speaks at each of `times`; -1 where that is not clear."""
    motion = np.stack([mouth_motion(track, times) * track.present(times) for track in pair])
    first, second = motion.max(axis=0), motion.min(axis=0)
    is_clear = (first >= TALKING) & (first + QUIET >= CLEAR_LEAD * (second + QUIET))
    return np.where(is_clear, motion.argmax(axis=0), -1)


def _turns(who: NDArray[np.int64], times: Array) -> list[float]:
    """The lengths of turns in seconds; what is not clear between two belongs to the one before."""
    known = np.flatnonzero(who >= 0)
    begins = [float(times[known[a]]) for a, _ in runs_of(who[known])]
    return [after - before for before, after in pairwise([*begins, float(times[-1])])]
