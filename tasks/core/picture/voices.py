"""Finds the face of each voice: the one whose mouth moves most, of all, while that voice speaks."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from tasks.core.picture.said import Turn
from tasks.core.picture.tracks import Array, Track

LEAST_SECONDS = 1.5
"""A voice that is heard for less in a shot proves nothing."""
LEAD, LAST_LEAD = 0.25, 0.12
"""By how much, as a log ratio of mouth motion, a face must be ahead of all others while its voice speaks. The second
is for the last face, once all others have their voice."""
TALKING = 1.1
"""Mouth motion (FaceBox.mouth) that is speech rather than a smile."""
QUIET = 0.4
"""Motion of any mouth at rest, in units of FaceBox.mouth; keeps ratios of small numbers small."""
FEWEST, QUICK = 4, 4.0
"""Turns, and seconds of most of them. An interjection in a long speech is not worth a picture of both."""


def are_quick(turns: Sequence[Turn], start: float, end: float) -> bool:
    """Whether there are FEWEST turns or more between these times, half of them under QUICK. No pause ends a turn."""
    lengths: list[float] = []
    for _, group in groupby(turns, key=lambda turn: turn.speaker):
        theirs = list(group)
        lengths.append(min(theirs[-1].end, end) - max(theirs[0].start, start))
    inside = [length for length in lengths if length > 0]
    return len(inside) >= FEWEST and float(np.median(inside)) < QUICK


def speaking(turns: Sequence[Turn], times: Array) -> NDArray[np.int64]:
    """Whose turn it is at each of `times`; 0 if it is nobody's."""
    who = np.zeros(len(times), np.int64)
    for turn in turns:
        who[(times >= turn.start) & (times < turn.end)] = turn.speaker
    return who


def faces_of_voices(tracks: Sequence[Track], times: Array, turns: Sequence[Turn]) -> dict[int, int]:
    """Which of the tracks is each speaker's face; no face has two voices, and voices without a clear face have none."""
    if len(tracks) < 2 or len(times) < 2:
        return {}
    who, step = speaking(turns, times), float(np.median(np.diff(times)))
    motion = np.stack([track.column("mouth", times) * track.present(times) for track in tracks]) + QUIET
    leads: list[tuple[float, int, int]] = []
    for speaker in {turn.speaker for turn in turns}:
        theirs = who == speaker
        if theirs.sum() * step < LEAST_SECONDS:
            continue
        means = motion[:, theirs].mean(axis=1)
        best = int(means.argmax())
        if means[best] >= TALKING + QUIET:
            leads.append((float(np.log(means[best] / np.delete(means, best).max())), speaker, best))
    found: dict[int, int] = {}
    for lead, speaker, face in sorted(leads, reverse=True):
        needed = LAST_LEAD if len(found) == len(tracks) - 1 else LEAD
        if lead >= needed and face not in found.values():
            found[speaker] = face
    return found
