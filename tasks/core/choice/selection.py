"""Select the seconds that become clips: a pure function from timed sentences and signals to windows.

Candidates are all windows of the requested length that begin and end with a sentence. They are scored
by a weighted sum of signals, each standardised within the talk, and picked as a set: best first, never
overlapping, spread over topics, and as many as requested if they fit.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from tasks.core.choice.audience import Audience, audience_signals
from tasks.core.choice.cuts import (
    EVERYTHING,
    LEAD_SECONDS,
    TAIL_SECONDS,
    TOLERANCE,
    Alignment,
    Units,
    candidate_windows,
    unit_levels,
)
from tasks.core.choice.delivery import Delivery, delivery_signals
from tasks.core.choice.kinds import Kind, kind_shares
from tasks.core.choice.openings import may_close, may_open
from tasks.core.choice.signals import pause_signals, position_signals, text_signals
from tasks.core.choice.topic_match import topic_signal, topic_terms
from tasks.core.choice.topics import Topics
from tasks.core.choice.weights import applied_weights, learned
from tasks.core.choice.windows import Floats, Windows, z_scores
from tasks.core.errors import TooShort
from tasks.core.plurals import pluralize
from tasks.core.speech.sentences import join
from tasks.core.speech.terms import Line, content_words
from tasks.core.speech.wordlists import word_lists
from tasks.core.transcript import Sentence

RESERVE = 10
"""Runner-up windows to keep, for the LLM to choose from and to replace clips that fail their checks."""
SIMILARITY_COST = 1.0
"""Penalty for sharing a pick's topic, in standard deviations of the score; it keeps near copies from being picked."""
PROXIMITY_COST, PROXIMITY_SECONDS = 0.3, 90.0
"""Penalty for being next to a pick, and the distance in seconds over which it fades by a factor of e."""


class Candidate(BaseModel):
    """A window of the talk: sentences `first` to `last` (indices, inclusive), cut at `start` and `end`.

    `signals` are standardised within the talk; `counted` is what each adds to the score, their weighted sum.
    `aligned` says what its ends are aligned to, `fallback` why that is not a sentence.
    """

    start: float
    end: float
    first: int
    last: int
    text: str
    score: float
    signals: dict[str, float]
    counted: dict[str, float]
    aligned: Alignment = "sentence"
    fallback: str | None = None

    @property
    def duration(self) -> float:
        return self.end - self.start


class SelectedWindows(BaseModel):
    """`clips` become clips; `reserve` holds the runners-up. Both are best first, and no two windows overlap."""

    clips: list[Candidate]
    reserve: list[Candidate] = Field(default_factory=list[Candidate])
    notes: list[str] = Field(default_factory=list[str])
    kinds: dict[Kind, float]


@dataclass(frozen=True)
class _Scored:
    """All windows of some units, with their scores."""

    units: Units
    windows: Windows
    topics: Topics
    signals: dict[str, Floats]
    weights: dict[str, float]
    score: Floats


@dataclass
class _Picks:
    """Picked windows, best first, as (scored windows, index)."""

    picked: list[tuple[_Scored, int]] = field(default_factory=list[tuple[_Scored, int]])

    def spans(self) -> list[tuple[float, float]]:
        return sorted((float(s.windows.start[i]), float(s.windows.end[i])) for s, i in self.picked)


@dataclass(frozen=True)
class Talk:
    """What is known of a talk. `language` applies to sentences that have none of their own."""

    sentences: list[Sentence]
    language: str
    delivery: Delivery | None = None
    audience: Audience | None = None

    @property
    def languages(self) -> set[str]:
        return {sentence.language or self.language for sentence in self.sentences}

    def lines(self, items: Sequence[Sentence]) -> list[Line]:
        """Sentences, or parts of them, with the word lists of their language."""
        return [Line.of(item, word_lists(item.language or self.language)) for item in items]


@dataclass(frozen=True)
class Wanted:
    """How many windows are wanted, of which length (shortest and longest, in seconds), inside which part of the talk.

    `clock` measures their length. Windows that mention the `topic` come first.
    """

    bounds: tuple[float, float]
    count: int
    part: tuple[float, float] = EVERYTHING
    clock: Callable[[float], float] | None = None
    topic: str | None = None


def select_windows(talk: Talk, wanted: Wanted) -> SelectedWindows:
    """The best windows of the talk, as many as are wanted or as fit.

    Raises:
        TooShort: no run of speech is as long as the shortest clip.
    """
    sentences, (shortest, longest) = talk.sentences, wanted.bounds
    if not sentences or sentences[-1].end - sentences[0].start + LEAD_SECONDS + TAIL_SECONDS < shortest - TOLERANCE:
        spoken = sentences[-1].end - sentences[0].start if sentences else 0.0
        raise TooShort(f"The video has {pluralize(round(spoken), 'second')} of speech; a clip needs {shortest:.0f}.")
    picks = _Picks()
    tried: list[_Scored] = []
    terms = topic_terms(wanted.topic, sorted(talk.languages)) if wanted.topic else []
    kinds = kind_shares(talk.lines(sentences), learned().traits)
    for units in unit_levels(sentences, wanted.bounds):
        if len(picks.picked) >= wanted.count or (picks.picked and not units.is_supplement):
            break
        windows = candidate_windows(units.items, wanted.bounds, talk.delivery, wanted.part, wanted.clock, units.hold)
        if units.aligned == "sentence" and not units.any_ends:
            lines = talk.lines(units.items)
            windows = windows.only(may_open(lines)[windows.first] & may_close(lines)[windows.last])
        tried.append(_score(windows, units, talk, terms, kinds))
        _pick(tried[-1], picks, wanted.count)
    if not picks.picked:
        raise TooShort(
            f"No part of the speech can be cut to between {shortest:g} and {longest:g} seconds.",
            "Ask for shorter clips, or allow a wider range of lengths.",
        )
    chosen = len(picks.picked)
    for scored in tried:
        _pick(scored, picks, chosen + RESERVE, fill=False)
    candidates = [_candidate(scored, i) for scored, i in picks.picked]
    notes = _notes(candidates[:chosen], wanted.count, talk.delivery, talk.languages)
    if any(scored.units.any_ends for scored, _ in picks.picked[:chosen]):
        wrong = "begins with a greeting, a reply or an answer without its question, or ends with a question"
        notes.append(f"a clip {wrong}: nothing else fits")
    return SelectedWindows(
        clips=candidates[:chosen],
        reserve=candidates[chosen:],
        notes=notes,
        kinds=kinds,
    )


def _score(windows: Windows, units: Units, talk: Talk, terms: Sequence[str], kinds: Mapping[Kind, float]) -> _Scored:
    lines = talk.lines(units.items)
    topics = Topics.of(content_words(lines))
    if not len(windows):
        return _Scored(units, windows, topics, {}, {}, np.zeros(0))
    signals = measured_signals(windows, lines, topics, talk)
    if terms:
        signals["asked_topic"] = z_scores(topic_signal(lines, terms, windows))
    used = applied_weights(signals, kinds)
    score = np.sum([used[name] * values for name, values in signals.items()], axis=0)
    return _Scored(units, windows, topics, signals, used, score)


def measured_signals(windows: Windows, lines: Sequence[Line], topics: Topics, talk: Talk) -> dict[str, Floats]:
    """All signals of the windows, each standardised within the talk: arrays (windows,)."""
    items = [line.sentence for line in lines]
    raw = text_signals(lines, topics, windows) | pause_signals(items, windows) | position_signals(windows)
    if talk.delivery is not None and len(talk.delivery.loudness):
        raw |= delivery_signals(items, talk.delivery, windows)
    if talk.audience is not None:
        raw |= audience_signals(talk.audience, windows)
    return {name: z_scores(values) for name, values in raw.items()}


class _Room:
    """Counts the windows that still fit. Always taking the earliest end is optimal for intervals."""

    def __init__(self, windows: Windows) -> None:
        order = np.argsort(windows.start, kind="stable")
        self.starts = windows.start[order]
        self.soonest = np.minimum.accumulate(windows.end[order][::-1])[::-1]

    def count_more(self, spans: list[tuple[float, float]], enough: int) -> int:
        """Number of further windows that fit between the sorted spans, up to `enough`."""
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
    """Add the best remaining windows to the picks until there are `count`.

    Windows near a pick or on its topic lose score. With `fill`, windows that leave too little room
    for others are skipped, so that as many clips as possible fit.
    """
    windows = scored.windows
    if not len(windows):
        return
    worth = (scored.score - scored.score.mean()) / max(float(scored.score.std()), TOLERANCE)
    cost = np.zeros(len(windows))
    for span in picks.spans():
        cost = np.maximum(cost, _proximity_cost(windows, span))
    room = _Room(windows)
    target = min(count, len(picks.picked) + room.count_more(picks.spans(), count)) if fill else 0
    while len(picks.picked) < count:
        free = _free(windows, picks.spans())
        order = np.flatnonzero(free)[np.argsort(-(worth - cost)[free], kind="stable")]
        found = next((i for i in order if _leaves_room(windows, int(i), picks, room, target)), None)
        if found is None:
            return
        pick = int(found)
        picks.picked.append((scored, pick))
        span = (float(windows.start[pick]), float(windows.end[pick]))
        alike = SIMILARITY_COST * scored.topics.similarity(windows, pick)
        cost = np.maximum(cost, alike + _proximity_cost(windows, span))


def _leaves_room(windows: Windows, i: int, picks: _Picks, room: _Room, target: int) -> bool:
    needed = target - len(picks.picked) - 1
    if needed <= 0:
        return True
    spans = sorted([*picks.spans(), (float(windows.start[i]), float(windows.end[i]))])
    return room.count_more(spans, needed) >= needed


def _free(windows: Windows, spans: list[tuple[float, float]]) -> NDArray[np.bool_]:
    free = np.ones(len(windows), np.bool_)
    for start, end in spans:
        free &= (windows.end <= start + TOLERANCE) | (windows.start >= end - TOLERANCE)
    return free


def _proximity_cost(windows: Windows, span: tuple[float, float]) -> Floats:
    distance = np.maximum(np.maximum(windows.start - span[1], span[0] - windows.end), 0.0)
    return PROXIMITY_COST * np.exp(-distance / PROXIMITY_SECONDS)


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
        counted={name: round(float(scored.weights[name] * v[i]), 4) for name, v in scored.signals.items()},
        aligned=aligned,
        fallback=None if aligned == "sentence" else units.fallback,
    )


def _notes(clips: list[Candidate], count: int, delivery: Delivery | None, languages: set[str]) -> list[str]:
    notes: list[str] = []
    if len(clips) < count:
        notes.append(f"the speech has room for only {len(clips)} of {pluralize(count, 'clip')}")
    if unlisted := sorted(repr(code) for code in languages if word_lists(code) is None):
        which = pluralize(len(unlisted), "language").partition(" ")[2]
        notes.append(
            f"no word lists for {which} {', '.join(unlisted)}: chosen by pauses, lengths, questions, subjects and sound"
        )
    if delivery is None or not len(delivery.loudness):
        notes.append("the sound was not measured")
    return notes + sorted({clip.fallback for clip in clips if clip.fallback})
