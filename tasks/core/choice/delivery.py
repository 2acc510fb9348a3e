"""Signals from the audio: loudness, melody, audience reactions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.core.choice.windows import Floats, Windows, mean_and_deviation
from tasks.core.transcript import Sentence

REACTION_SECONDS = 1.5
"""A reaction this long after a window's end still counts for it."""
REACTION_NOISE = 0.25
"""Spectral flatness above which a sound is noise, such as applause, rather than a voice."""
REACTION_LEVEL_DB = 15.0
"""Decibels by which a reaction must exceed the talk's noise floor."""
SHORTEST_REACTION = 0.5
"""Seconds; the hiss at the edge of a word is shorter."""


@dataclass(frozen=True)
class Delivery:
    """How a talk sounds over time. Index 0 is the start of the source.

    `loudness` is in dBFS, `loudness_hz` values a second. `pitch` in Hz (NaN without a voice) and
    `noise`, the spectral flatness (0 for a tone, 1 for white noise), have `pitch_hz` values a second.
    """

    loudness: NDArray[np.float32]
    pitch: NDArray[np.float32]
    noise: NDArray[np.float32]
    loudness_hz: float = 50.0
    pitch_hz: float = 10.0

    @property
    def duration(self) -> float:
        return len(self.loudness) / self.loudness_hz


def delivery_signals(sentences: Sequence[Sentence], delivery: Delivery, windows: Windows) -> dict[str, Floats]:
    """Loudness, dynamics, melody and reactions of each window; 0 without sound."""
    loudness, voiced = delivery.loudness.astype(np.float64), _semitones(delivery.pitch)
    speaking = _speaking(sentences, len(loudness), delivery.loudness_hz)
    level = np.where(speaking & (loudness > -70), loudness, np.nan)
    reaction = _reactions(sentences, delivery)
    until = Windows(windows.first, windows.last, windows.start, windows.end + REACTION_SECONDS)
    mean, spread = mean_and_deviation(level, delivery.loudness_hz, windows)
    _, melody = mean_and_deviation(voiced, delivery.pitch_hz, windows)
    return {
        "loudness": mean,
        "dynamics": spread,
        "melody": melody,
        "reaction": mean_and_deviation(reaction, delivery.pitch_hz, until)[0],
    }


def _semitones(pitch: NDArray[np.float32]) -> Floats:
    values = pitch.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(values > 0, 12 * np.log2(np.maximum(values, 1.0) / 100.0), np.nan)


def _speaking(sentences: Sequence[Sentence], count: int, rate: float, margin: float = 0.0) -> NDArray[np.bool_]:
    steps = np.zeros(count + 1, np.int64)
    for sentence in sentences:
        for word in sentence.words:
            begin = min(max(int((word.start - margin) * rate), 0), count)
            end = min(max(int(np.ceil((word.end + margin) * rate)), begin), count)
            steps[begin] += 1
            steps[end] -= 1
    return np.cumsum(steps[:-1]) > 0


def _reactions(sentences: Sequence[Sentence], delivery: Delivery) -> Floats:
    """1 where there is loud noise while nobody speaks, probably applause or laughter; else 0."""
    count = len(delivery.noise)
    if not count or not len(delivery.loudness):
        return np.zeros(count)
    at = np.minimum(
        (np.arange(count) * delivery.loudness_hz / delivery.pitch_hz).astype(int), len(delivery.loudness) - 1
    )
    level = delivery.loudness[at]
    floor = float(np.percentile(delivery.loudness, 10))
    is_loud = level > max(floor + REACTION_LEVEL_DB, -50.0)
    is_noise = delivery.noise > REACTION_NOISE
    silent = ~_speaking(sentences, count, delivery.pitch_hz, margin=0.15)
    return _lasting(is_loud & is_noise & silent, int(SHORTEST_REACTION * delivery.pitch_hz)).astype(np.float64)


def _lasting(flags: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """The flags without runs shorter than `length`."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    kept = np.zeros(len(flags), np.bool_)
    for begin, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        kept[begin:end] = end - begin >= length
    return kept
