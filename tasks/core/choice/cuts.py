"""Find where a talk may be cut: between sentences, phrases or words."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tasks.core.choice.delivery import Delivery
from tasks.core.choice.windows import Floats, Ints, Windows
from tasks.core.speech.sentences import join
from tasks.core.transcript import Sentence, Word

TOLERANCE = 1e-6
"""Rounding allowance in seconds: (start + 45) - start may be 44.99999999999999."""
EVERYTHING = (0.0, math.inf)
"""The part of a source that is all of it, in seconds."""
LEAD_SECONDS = 0.25
"""Most seconds that a clip begins before its first word."""
TAIL_SECONDS = 0.5
"""Most seconds that a clip ends after its last word."""
HOLD_SECONDS = 2.0
"""Most seconds that a clip too short otherwise goes on into a pause: better than an end inside a sentence."""
IDEAL_LEAD, IDEAL_TAIL = 0.1, 0.25
"""Seconds before the first and after the last word to cut at if no point in the gap is quieter."""
DISTANCE_DB = 10.0
"""Penalty in decibels per second away from the ideal cut, because silence is never perfectly even."""
PHRASE_PAUSE = 0.25
"""Shortest pause to cut at if no run of sentences fits."""
MAX_WINDOWS = 60_000
"""Larger sets of candidates are thinned evenly; neighbours differ by only a second."""


Alignment = Literal["sentence", "pause", "word"]


@dataclass(frozen=True)
class Units:
    """The building blocks of windows: sentences or parts of them. `parent` is the sentence index of each."""

    items: list[Sentence]
    parent: list[int]
    aligned: Alignment
    fallback: str | None = None
    is_supplement: bool = False
    """Whether these add windows if there are too few: parts of sentences longer than a clip, for example."""
    hold: float = 0.0
    """Seconds by which a clip may go on into the silence after its last word, to reach the shortest length."""
    any_ends: bool = False
    """Whether clips may begin with what should not begin one, and end with what should not end one."""


def unit_levels(sentences: list[Sentence], bounds: tuple[float, float]) -> Iterator[Units]:
    """Increasingly poor units: sentences, then parts of overlong ones, then parts of all, then words."""
    shortest, longest = bounds
    order = list(range(len(sentences)))
    yield Units(sentences, order, "sentence")
    yield Units(sentences, order, "sentence", is_supplement=True, hold=HOLD_SECONDS)
    too_long = [s.end - s.start > longest for s in sentences]
    if any(too_long):
        yield _phrases(sentences, too_long, "a sentence is longer than the clip: cut at a pause", is_supplement=True)
    yield Units(sentences, order, "sentence", is_supplement=True, any_ends=True)
    yield _phrases(sentences, [True] * len(sentences), "no run of sentences fits: cut at a pause")
    grain = min(max((longest - shortest) / 2, 0.0), 1.0)
    yield _word_runs(sentences, grain, "no pause fits: cut between words")


def _phrases(sentences: list[Sentence], divide: list[bool], fallback: str, *, is_supplement: bool = False) -> Units:
    def ends_part(part: list[Word], following: Word) -> bool:
        return following.start - part[-1].end >= PHRASE_PAUSE

    return _divided(sentences, divide, ends_part, Units([], [], "pause", fallback, is_supplement))


def _word_runs(sentences: list[Sentence], seconds: float, fallback: str) -> Units:
    def ends_part(part: list[Word], following: Word) -> bool:
        return following.end - part[0].start > seconds

    return _divided(sentences, [True] * len(sentences), ends_part, Units([], [], "word", fallback))


def _divided(
    sentences: list[Sentence], divide: list[bool], ends_part: Callable[[list[Word], Word], bool], into: Units
) -> Units:
    """Fill `into` with the sentences; those flagged in `divide` are split where `ends_part` is true."""
    for index, (sentence, divided) in enumerate(zip(sentences, divide, strict=True)):
        parts = [[sentence.words[0]]]
        for word in sentence.words[1:]:
            if divided and ends_part(parts[-1], word):
                parts.append([word])
            else:
                parts[-1].append(word)
        into.items.extend(_unit(part, sentence.language) for part in parts)
        into.parent.extend([index] * len(parts))
    return into


def _unit(words: Sequence[Word], language: str | None) -> Sentence:
    text = join(w.word for w in words)
    return Sentence(text=text, start=words[0].start, end=words[-1].end, words=list(words), language=language)


def cut_points(sentences: Sequence[Sentence], delivery: Delivery | None) -> tuple[Floats, Floats]:
    """Where to cut a clip that begins, and one that ends, with each sentence: two arrays (sentences,) of seconds.

    Each cut is at the quietest point of the gap, at most `LEAD_SECONDS` before the first word or
    `TAIL_SECONDS` after the last, never inside a word or after the start of the next sentence.
    """
    ends_at = delivery.duration if delivery is not None else sentences[-1].end if sentences else 0.0
    starts, ends = np.zeros(len(sentences)), np.zeros(len(sentences))
    floor = 0.0
    for i, sentence in enumerate(sentences):
        low = min(max(floor, sentence.start - LEAD_SECONDS), sentence.start)
        starts[i] = _quietest(low, sentence.start, sentence.start - IDEAL_LEAD, delivery)
        limit = sentences[i + 1].start if i + 1 < len(sentences) else max(ends_at, sentence.end)
        high = max(min(limit, sentence.end + TAIL_SECONDS), sentence.end)
        ends[i] = floor = _quietest(sentence.end, high, sentence.end + IDEAL_TAIL, delivery)
    return starts, ends


def _quietest(low: float, high: float, ideal: float, delivery: Delivery | None) -> float:
    """The quietest time from `low` to `high`; if all are equally quiet, the one nearest `ideal`."""
    nearest = min(max(ideal, (low + high) / 2 if high - low < 0.1 else low), high)
    if delivery is None or high - low < 2 / delivery.loudness_hz:
        return nearest
    rate = delivery.loudness_hz
    frames = np.arange(int(np.ceil(low * rate)), int(high * rate) + 1)
    frames = frames[frames < len(delivery.loudness)]
    if not len(frames):
        return nearest
    around = [np.clip(frames + shift, 0, len(delivery.loudness) - 1) for shift in (-1, 0)]
    level = np.mean([delivery.loudness[at].astype(np.float64) for at in around], axis=0)
    cost = np.maximum(level, -80.0) + DISTANCE_DB * np.abs(frames / rate - ideal)
    return float(np.clip(frames[int(np.argmin(cost))] / rate, low, high))


def candidate_windows(
    sentences: Sequence[Sentence],
    bounds: tuple[float, float],
    delivery: Delivery | None = None,
    part: tuple[float, float] = EVERYTHING,
    clock: Callable[[float], float] | None = None,
    hold: float = 0.0,
) -> Windows:
    """All windows of whole sentences inside `part` whose length between the cuts is within the bounds (seconds).

    With a `clock`, lengths are measured by it. It may be wrong by the silence at a window's ends, so its shortest
    windows are left out. With `hold`, these are windows that are too short, but reach the shortest length within so
    many seconds of the pause after their last word.
    """
    starts, ends = cut_points(sentences, delivery)
    shortest, longest = bounds
    begins, closes = starts, ends
    if clock:
        begins = np.array([clock(s.start) - s.start for s in sentences]) + starts
        closes = np.array([clock(s.end) - s.end for s in sentences]) + ends
        shortest += min(LEAD_SECONDS + TAIL_SECONDS, (longest - shortest) / 2)
    at = np.arange(len(starts), dtype=np.int64)
    reaches = _held(sentences, ends, hold, delivery) if hold and not clock else closes
    low: Ints = np.maximum(np.searchsorted(reaches, begins + shortest - TOLERANCE, side="left"), at)
    within = begins + (shortest - 2 * TOLERANCE if hold else longest + TOLERANCE)
    high: Ints = np.searchsorted(closes, within, side="right").astype(np.int64)
    high = np.minimum(high, sum(sentence.end <= part[1] for sentence in sentences))
    is_inside = np.array([sentence.start >= part[0] for sentence in sentences], dtype=bool)
    number: Ints = np.where(is_inside, np.maximum(high - low, 0), 0)
    first: Ints = np.repeat(at, number)
    before: Ints = np.cumsum(number) - number
    last: Ints = np.arange(len(first), dtype=np.int64) + np.repeat(low - before, number)
    stride = -(-len(first) // MAX_WINDOWS) or 1
    first, last = first[::stride], last[::stride]
    until = np.maximum(ends[last], starts[first] + shortest) if hold else ends[last]
    return Windows(first, last, starts[first], until)


def _held(sentences: Sequence[Sentence], ends: Floats, hold: float, delivery: Delivery | None) -> Floats:
    """How long a clip that ends with each sentence may go on: (sentences,) seconds, never into the next word."""
    sound = delivery.duration if delivery is not None else 0.0
    limits = np.array([s.start for s in sentences[1:]] + [max(sound, float(ends[-1]))] if sentences else [])
    spoken = np.array([s.end for s in sentences])
    return np.maximum(ends, np.minimum(limits, spoken + hold))
