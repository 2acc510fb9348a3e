"""Find who is talking: the face whose mouth moves and whose voice is heard, decided over the whole shot at once."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.picture.said import Turn
from tasks.core.picture.tracks import Array, Track
from tasks.core.picture.voices import QUIET, faces_of_voices, speaking

WINDOW = 1.0
"""Seconds over which a mouth's motion is averaged."""
SWITCH_COST = 4.0
"""What a change of subject must gain, as log ratios summed over detections: at five per second, with a mouth that
moves three times as much as the other, a little less than a second of talking."""
ABSENT = -1.0
NOBODY = -1.5
CLEAR_LEAD = 1.6
"""Ratio to the others' mouth motion at which a speaker is certain."""
VOICE = 1.0
"""What the face of the voice that is heard is ahead, as a log ratio; as much as a mouth that moves three times as much
as the others."""
MIN_DWELL = 1.5
"""Least seconds the camera stays on a subject."""


def mouth_motion(track: Track, times: Array) -> Array:
    """The track's mouth motion averaged over WINDOW around each of `times`; 0 where the face was not seen."""
    seen = np.array([box.t for box in track.boxes])
    motion = np.array([box.mouth for box in track.boxes])
    near = np.abs(times[:, None] - seen[None, :]) <= WINDOW / 2
    return (near * motion).sum(axis=1) / np.maximum(near.sum(axis=1), 1)


class Subjects(NamedTuple):
    """Index of the track to show at each time, and of the one whose voice is heard then; -1 for nobody.

    `faces` is the track of each speaker whose face is known.
    """

    shown: NDArray[np.int64]
    heard: NDArray[np.int64]
    faces: dict[int, int]

    @property
    def missed(self) -> float:
        """Share of the times with a voice whose face is known at which another is shown."""
        known = self.heard >= 0
        return float((self.shown != self.heard)[known].mean()) if known.any() else 0.0


def subjects(tracks: Sequence[Track], times: Array, turns: Sequence[Turn] = ()) -> Subjects:
    """Whom to show at each of `times`.

    The best sequence (Viterbi) by how much more a mouth moves than the others and, where a voice has a known face, by
    whose turn it is, with a cost for changing the subject. Runs shorter than MIN_DWELL are then merged into a
    neighbour.
    """
    present = np.stack([track.present(times) for track in tracks])
    motion = np.stack([mouth_motion(track, times) for track in tracks]) + QUIET
    best: Array = (motion * present).max(axis=0)
    scores = np.where(present, np.log(motion) - np.log(best.clip(QUIET)), ABSENT)
    nobody = np.where(present.any(axis=0), NOBODY, 0.0)
    faces = faces_of_voices(tracks, times, turns)
    heard = np.array([faces.get(int(speaker), -1) for speaker in speaking(turns, times)], np.int64)
    for face in faces.values():
        scores[face, (heard == face) & present[face]] += VOICE
    states = _best_sequence(np.vstack([scores, nobody]))
    states = _without_short_runs(states, times)
    return Subjects(np.where(states == len(tracks), -1, states), heard, faces)


def _best_sequence(scores: Array) -> NDArray[np.int64]:
    """Viterbi over `scores` of shape (states, times), with SWITCH_COST between any two states."""
    count, steps = scores.shape
    total = scores[:, 0].copy()
    came_from = np.empty((steps, count), np.int64)
    for n in range(1, steps):
        best, floor = int(total.argmax()), float(total.max()) - SWITCH_COST
        came_from[n] = [i if total[i] >= floor else best for i in range(count)]
        total = total.clip(floor) + scores[:, n]
    states = np.empty(steps, np.int64)
    states[-1] = int(total.argmax())
    for n in range(steps - 1, 0, -1):
        states[n - 1] = came_from[n, states[n]]
    return states


def _without_short_runs(states: NDArray[np.int64], times: Array) -> NDArray[np.int64]:
    """Merge runs shorter than MIN_DWELL into the run before them, the first into the run after it."""
    states = states.copy()
    while True:
        runs = runs_of(states)
        short = [run for run in runs if times[run[1] - 1] - times[run[0]] < MIN_DWELL]
        if not short or len(runs) == 1:
            return states
        a, b = min(short, key=lambda run: times[run[1] - 1] - times[run[0]])
        states[a:b] = states[a - 1] if a else states[b]


def runs_of(states: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of equal states as (first, one past the last)."""
    edges = [0, *(int(i) + 1 for i in np.flatnonzero(np.diff(states))), len(states)]
    return list(pairwise(edges))


def lead(tracks: Sequence[Track], subject: int, times: Array) -> tuple[float, float]:
    """Mouth motion of `subject` over `times`, and its ratio to that of the liveliest other face."""
    motion = [
        float(mouth_motion(track, times)[track.present(times)].mean()) if track.present(times).any() else 0.0
        for track in tracks
    ]
    others = max((value for index, value in enumerate(motion) if index != subject), default=0.0)
    return motion[subject], (motion[subject] + QUIET) / (others + QUIET)
