"""Which voices speak in a window of ten seconds, frame by frame, and where each speaks alone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SECONDS = 10.0
FRAMES = 589
"""Frames that the network returns for one window."""
VOICES = 3
"""Voices that it tells apart in one window; its numbers for them mean nothing outside it."""
FRAMES_PER_SECOND = FRAMES / SECONDS

_CLASSES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]], np.float32)
"""The voices that speak in each class of the network."""

Classes = NDArray[np.float32]
"""Probability of each class, shape (windows, FRAMES, 7)."""
Activity = NDArray[np.float32]
"""How probable it is that each voice speaks, shape (frames, voices)."""


class Voice(NamedTuple):
    """One voice of a window, and the frames in which it speaks alone."""

    window: int
    number: int
    alone: NDArray[np.int64]

    @property
    def seconds(self) -> float:
        return len(self.alone) / FRAMES_PER_SECOND


def activity(classes: Classes) -> Activity:
    """How probable it is that each voice of each window speaks, shape (windows, FRAMES, VOICES)."""
    return classes @ _CLASSES


def voices(classes: Classes, least: float) -> list[Voice]:
    """The voices that speak alone for at least so many seconds of their window."""
    speaking = _CLASSES[classes.argmax(axis=2)]
    alone = (speaking == 1) & (speaking.sum(axis=2, keepdims=True) == 1)
    found = [
        Voice(window, number, np.flatnonzero(alone[window, :, number]))
        for window in range(len(classes))
        for number in range(VOICES)
    ]
    return [voice for voice in found if voice.seconds >= least]
