"""Which seconds become clips: one pure function from timed sentences and signals to windows.

Candidates are all windows that begin and end with a sentence and last as long as asked. They
are scored by a weighted sum of signals, each standardised within the talk, and picked together:
best first, never the same seconds twice, spread over topics, as many as were asked for if they fit.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from tasks.core.choice.signals import (
    Audience,
    Delivery,
    Floats,
    Ints,
    Topics,
    Windows,
    audience_signals,
    content_words,
    delivery_signals,
    pause_signals,
    text_signals,
    tokens,
    z_scores,
)
from tasks.core.counting import counted
from tasks.core.errors import TooShort
from tasks.core.speech.sentences import join
from tasks.core.speech.wordlists import word_lists
from tasks.core.transcript import Sentence, Word

TOLERANCE = 1e-6
"""Seconds by which sums of floats may miss a bound: (start + 45) - start may be 44.99999999999999."""
LEAD_SECONDS = 0.25
"""A clip begins at most this long before its first word."""
TAIL_SECONDS = 0.5
"""A clip ends at most this long after its last word."""
IDEAL_LEAD, IDEAL_TAIL = 0.1, 0.25
"""Where the cut goes when the gap is equally quiet, or its sound unknown."""
DISTANCE_DB = 10.0
"""Decibels that a second away from the ideal place costs: silence is never quite even."""
PHRASE_PAUSE = 0.25
"""A pause this long may be cut at where sentences do not fit."""
RESERVE = 10
"""Next best windows that are kept, for the LLM to choose from and for clips that fail their checks."""
LIKENESS_COST = 1.5
"""What talking about the same costs, in deviations of the score: a copy of a pick is no second pick."""
NEARNESS_COST, NEARNESS_SECONDS = 0.5, 90.0
"""What standing next to a pick costs, and how fast that fades."""
WINDOWS_LIMIT = 60_000
"""More candidates than this are thinned evenly: neighbours differ by a second."""

Alignment = Literal["sentence", "pause", "word"]


@dataclass(frozen=True)
class Weight:
    value: float
    reason: str


WEIGHTS: dict[str, Weight] = {
    # Measured on audiences' laughter and applause, each alone (lift over random windows). docs/measure_signals.py
    # measures them again; the numbers here are those of the first measurement, from which the weights were drawn.
    "short_sentences": Weight(1.0, "1.75 alone"),
    "dialogue": Weight(1.0, "1.60 alone"),
    "first_person": Weight(1.0, "1.56 alone"),
    "discourse": Weight(1.0, "1.50 alone"),
    "question": Weight(0.5, "1.45 alone"),
    "second_person": Weight(0.5, "1.41 alone"),
    "positive": Weight(0.5, "1.30 alone"),
    "word_length": Weight(-1.0, "0.73 alone: long words lose"),
    "rare_words": Weight(-0.5, "1.21 alone for low density"),
    "numbers": Weight(-0.5, "1.17 alone for few numbers"),
    "pauses": Weight(0.5, "2.26 alone, partly the audience heard as a pause: a quarter of what it earned"),
    "slow_speech": Weight(0.25, "2.15 alone, the same caution"),
    # Not measured; what a viewer who meets the clip alone needs.
    "opening": Weight(1.25, "the first sentence decides whether the rest is watched"),
    "completeness": Weight(0.75, "a clip must close"),
    "topic": Weight(0.5, "one thing from its beginning to its end"),
    "claim": Weight(0.5, "a point is made"),
    "loudness": Weight(0.4, "speakers raise their voice at what matters to them"),
    "dynamics": Weight(0.2, "against monotone stretches"),
    "melody": Weight(0.3, "against monotone stretches"),
    "reaction": Weight(1.0, "applause or laughter, guessed from noise while nobody speaks"),
    "replays": Weight(1.5, "viewers have voted"),
    "chapter": Weight(0.5, "its maker sees a new topic inside"),
    "promotion": Weight(-1.5, "sponsors, calls to subscribe and introductions are no highlights"),
    "repetition": Weight(-1.0, "a loop of the recogniser, or a chant"),
    "dead_air": Weight(-1.0, "seconds without a word lose the viewer"),
}


class Candidate(BaseModel):
    """A window: `first` to `last` are indices of sentences (inclusive), times are where it is cut.

    `signals` are standardised within the talk, `score` their weighted sum. `aligned` says what
    its ends rest on, `fallback` why that is not a sentence.
    """

    start: float
    end: float
    first: int
    last: int
    text: str
    score: float
    signals: dict[str, float]
    aligned: Alignment = "sentence"
    fallback: str | None = None

    @property
    def duration(self) -> float:
        return self.end - self.start


class Choice(BaseModel):
    """`clips` are to be made, `reserve` are the next best; both best first, none overlaps another."""

    clips: list[Candidate]
    reserve: list[Candidate] = Field(default_factory=list[Candidate])
    notes: list[str] = Field(default_factory=list[str])


@dataclass(frozen=True)
class _Units:
    """What windows are made of: sentences, or parts of them (`parent` is the sentence's index)."""

    items: list[Sentence]
    parent: list[int]
    aligned: Alignment
    fallback: str | None = None
    is_needed: bool = False
    """Whether these may add to what sentences gave: only parts of sentences that no clip can hold."""


@dataclass(frozen=True)
class _Scored:
    """All windows over some units, with what is needed to pick among them."""

    units: _Units
    windows: Windows
    topics: Topics
    signals: dict[str, Floats]
    score: Floats


@dataclass
class _Picks:
    """Picked windows, best first, as (level, index)."""

    taken: list[tuple[_Scored, int]] = field(default_factory=list[tuple[_Scored, int]])

    def spans(self) -> list[tuple[float, float]]:
        return sorted((float(s.windows.start[i]), float(s.windows.end[i])) for s, i in self.taken)


def choose(
    sentences: list[Sentence],
    delivery: Delivery | None,
    audience: Audience | None,
    bounds: tuple[float, float],
    count: int,
    language: str,
) -> Choice:
    """The best `count` windows of `bounds` seconds, fewer where the talk does not hold as many.

    Raises:
        TooShort: no stretch of speech is as long as the shortest clip.
    """
    shortest, longest = bounds
    if not sentences or sentences[-1].end - sentences[0].start + LEAD_SECONDS + TAIL_SECONDS < shortest - TOLERANCE:
        spoken = sentences[-1].end - sentences[0].start if sentences else 0.0
        raise TooShort(f"The video holds {counted(round(spoken), 'second')} of speech, a clip needs {shortest:.0f}.")
    picks = _Picks()
    scored: _Scored | None = None
    for units in _levels(sentences, bounds):
        if len(picks.taken) >= count or (picks.taken and not units.is_needed):
            break
        scored = _score(units, delivery, audience, bounds, language)
        _pick(scored, picks, count)
    if scored is None or not picks.taken:
        raise TooShort(
            f"No stretch of speech can be cut to between {shortest:g} and {longest:g} seconds.",
            "Ask for shorter clips, or leave more room between the shortest and the longest.",
        )
    chosen = len(picks.taken)
    _pick(scored, picks, chosen + RESERVE, fill=False)
    candidates = [_candidate(scored, i) for scored, i in picks.taken]
    return Choice(
        clips=candidates[:chosen],
        reserve=candidates[chosen:],
        notes=_notes(candidates[:chosen], count, delivery, language),
    )


def _levels(sentences: list[Sentence], bounds: tuple[float, float]) -> Iterator[_Units]:
    """Sentences first; where they do not fit, parts of those too long; then parts of all; then words."""
    shortest, longest = bounds
    yield _Units(sentences, list(range(len(sentences))), "sentence")
    too_long = [s.end - s.start > longest for s in sentences]
    if any(too_long):
        yield _phrases(sentences, too_long, "a sentence is longer than the clip: cut at a pause", is_needed=True)
    yield _phrases(sentences, [True] * len(sentences), "no run of sentences has the length: cut at a pause")
    grain = min(max((longest - shortest) / 2, 0.0), 1.0)
    yield _grains(sentences, grain, "no pause is where a cut must be: cut between words")


def _phrases(sentences: list[Sentence], divide: list[bool], fallback: str, *, is_needed: bool = False) -> _Units:
    def ends_part(part: list[Word], following: Word) -> bool:
        return following.start - part[-1].end >= PHRASE_PAUSE

    return _divided(sentences, divide, ends_part, _Units([], [], "pause", fallback, is_needed))


def _grains(sentences: list[Sentence], seconds: float, fallback: str) -> _Units:
    def ends_part(part: list[Word], following: Word) -> bool:
        return following.end - part[0].start > seconds

    return _divided(sentences, [True] * len(sentences), ends_part, _Units([], [], "word", fallback))


def _divided(
    sentences: list[Sentence], divide: list[bool], ends_part: Callable[[list[Word], Word], bool], into: _Units
) -> _Units:
    """`into` with the parts of the sentences: those to divide end where `ends_part` says."""
    for index, (sentence, divided) in enumerate(zip(sentences, divide, strict=True)):
        parts = [[sentence.words[0]]]
        for word in sentence.words[1:]:
            if divided and ends_part(parts[-1], word):
                parts.append([word])
            else:
                parts[-1].append(word)
        into.items.extend(_unit(part) for part in parts)
        into.parent.extend([index] * len(parts))
    return into


def _unit(words: Sequence[Word]) -> Sentence:
    return Sentence(text=join(w.word for w in words), start=words[0].start, end=words[-1].end, words=list(words))


def cut_points(sentences: Sequence[Sentence], delivery: Delivery | None) -> tuple[Floats, Floats]:
    """Where a clip that begins, and one that ends, with each sentence is cut: two arrays (sentences,).

    Each lies at the quietest point of the gap before its first or after its last word, at most
    `LEAD_SECONDS` before and `TAIL_SECONDS` after it, never inside a word; a sentence's end never
    lies after the next one's start.
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
    """The quietest time from `low` to `high`; near `ideal` where that makes no difference."""
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


def windows_of(sentences: Sequence[Sentence], bounds: tuple[float, float], delivery: Delivery | None = None) -> Windows:
    """All windows of whole sentences whose length, cuts included, lies within the bounds."""
    starts, ends = cut_points(sentences, delivery)
    shortest, longest = bounds
    at = np.arange(len(starts), dtype=np.int64)
    low: Ints = np.maximum(np.searchsorted(ends, starts + shortest - TOLERANCE, side="left"), at)
    high: Ints = np.searchsorted(ends, starts + longest + TOLERANCE, side="right").astype(np.int64)
    number: Ints = np.maximum(high - low, 0)
    first: Ints = np.repeat(at, number)
    before: Ints = np.cumsum(number) - number
    last: Ints = np.arange(len(first), dtype=np.int64) + np.repeat(low - before, number)
    stride = -(-len(first) // WINDOWS_LIMIT) or 1
    first, last = first[::stride], last[::stride]
    return Windows(first, last, starts[first], ends[last])


def _score(
    units: _Units, delivery: Delivery | None, audience: Audience | None, bounds: tuple[float, float], language: str
) -> _Scored:
    lists = word_lists(language)
    windows = windows_of(units.items, bounds, delivery)
    talk = [tokens(item.text) for item in units.items]
    topics = Topics.of(content_words(talk, lists))
    if not len(windows):
        return _Scored(units, windows, topics, {}, np.zeros(0))
    raw = text_signals(units.items, talk, topics, lists, windows) | pause_signals(units.items, windows)
    if delivery is not None and len(delivery.loudness):
        raw |= delivery_signals(units.items, delivery, windows)
    if audience is not None:
        raw |= audience_signals(audience, windows)
    signals = {name: z_scores(values) for name, values in raw.items()}
    score = np.sum([WEIGHTS[name].value * values for name, values in signals.items()], axis=0)
    return _Scored(units, windows, topics, signals, score)


class _Room:
    """How many windows still fit beside those taken: the earliest end first is exact for intervals."""

    def __init__(self, windows: Windows) -> None:
        order = np.argsort(windows.start, kind="stable")
        self.starts = windows.start[order]
        self.soonest = np.minimum.accumulate(windows.end[order][::-1])[::-1]

    def for_more(self, spans: list[tuple[float, float]], enough: int) -> int:
        """Number of further windows that fit between the spans (in order), at most `enough`."""
        number, at = 0, -np.inf
        for until, then in [*spans, (np.inf, np.inf)]:
            while number < enough:
                i = int(np.searchsorted(self.starts, at - TOLERANCE))
                if i == len(self.starts) or self.soonest[i] > until + TOLERANCE:
                    break
                number, at = number + 1, float(self.soonest[i])
            at = then
        return number


def _pick(scored: _Scored, picks: _Picks, count: int, *, fill: bool = True) -> None:
    """Add windows to the picks until there are `count`, each the best that is left.

    What lies near a pick or says the same is worth less. With `fill`, a window that leaves too
    little room for the rest is passed over, so that as many clips come out as fit.
    """
    windows = scored.windows
    if not len(windows):
        return
    worth = (scored.score - scored.score.mean()) / max(float(scored.score.std()), TOLERANCE)
    cost = np.zeros(len(windows))
    for span in picks.spans():
        cost = np.maximum(cost, _nearness(windows, span))
    room = _Room(windows)
    target = min(count, len(picks.taken) + room.for_more(picks.spans(), count)) if fill else 0
    while len(picks.taken) < count:
        free = _free(windows, picks.spans())
        order = np.flatnonzero(free)[np.argsort(-(worth - cost)[free], kind="stable")]
        found = next((i for i in order if _leaves_room(windows, int(i), picks, room, target)), None)
        if found is None:
            return
        pick = int(found)
        picks.taken.append((scored, pick))
        span = (float(windows.start[pick]), float(windows.end[pick]))
        alike = LIKENESS_COST * scored.topics.likeness(windows, pick)
        cost = np.maximum(cost, alike + _nearness(windows, span))


def _leaves_room(windows: Windows, i: int, picks: _Picks, room: _Room, target: int) -> bool:
    needed = target - len(picks.taken) - 1
    if needed <= 0:
        return True
    spans = sorted([*picks.spans(), (float(windows.start[i]), float(windows.end[i]))])
    return room.for_more(spans, needed) >= needed


def _free(windows: Windows, spans: list[tuple[float, float]]) -> NDArray[np.bool_]:
    free = np.ones(len(windows), np.bool_)
    for start, end in spans:
        free &= (windows.end <= start + TOLERANCE) | (windows.start >= end - TOLERANCE)
    return free


def _nearness(windows: Windows, span: tuple[float, float]) -> Floats:
    distance = np.maximum(np.maximum(windows.start - span[1], span[0] - windows.end), 0.0)
    return NEARNESS_COST * np.exp(-distance / NEARNESS_SECONDS)


def _candidate(scored: _Scored, i: int) -> Candidate:
    windows, units = scored.windows, scored.units
    first, last = int(windows.first[i]), int(windows.last[i])
    opens = first == 0 or units.parent[first - 1] != units.parent[first]
    closes = last + 1 == len(units.parent) or units.parent[last + 1] != units.parent[last]
    aligned = "sentence" if opens and closes else units.aligned
    return Candidate(
        start=float(windows.start[i]),
        end=float(windows.end[i]),
        first=units.parent[first],
        last=units.parent[last],
        text=join(unit.text for unit in units.items[first : last + 1]),
        score=round(float(scored.score[i]), 4),
        signals={name: round(float(values[i]), 4) for name, values in scored.signals.items()},
        aligned=aligned,
        fallback=None if aligned == "sentence" else units.fallback,
    )


def _notes(clips: list[Candidate], count: int, delivery: Delivery | None, language: str) -> list[str]:
    notes: list[str] = []
    if len(clips) < count:
        notes.append(f"the speech has room for {len(clips)} of {counted(count, 'clip')}")
    if word_lists(language) is None:
        notes.append(f"no word lists for language {language!r}: chosen by sentences, pauses, topics and sound")
    if delivery is None or not len(delivery.loudness):
        notes.append("the sound was not measured")
    return notes + sorted({clip.fallback for clip in clips if clip.fallback})
