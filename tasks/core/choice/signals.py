"""What a window of speech gives away of how it will be liked: numbers per window, no choice yet.

Everything is counted once per sentence and summed over windows by prefix sums, so that three
hours of talk take seconds. A signal becomes comparable by standardising it within the talk.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.core.media import Chapter, HeatmapPoint
from tasks.core.speech.marks import ends_question, ends_sentence
from tasks.core.speech.scripts import TOKEN
from tasks.core.speech.wordlists import WordLists
from tasks.core.transcript import Sentence

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VOCABULARY = 1500
"""Terms that tell topics apart: the most frequent ones that are not in every other sentence."""
TILING_SENTENCES = 8
"""Sentences on each side whose words are compared to find a change of topic (TextTiling, Hearst 1997)."""
LONGEST_PAUSE = 2.0
"""Seconds of a pause that count as timing; the rest is dead air."""
REACTION_SECONDS = 1.5
"""A reaction this long after the last word still belongs to the window."""
REACTION_NOISE = 0.25
"""Spectral flatness from which a sound is taken as noise, such as applause, rather than a voice."""
REACTION_LEVEL_DB = 15.0
"""How far above the talk's quiet floor such a sound must be."""
REACTION_LASTS = 0.5
"""Seconds it must last: a hiss at the edge of a word is shorter."""

_QUOTES = re.compile(r"[\"\u201c\u201d\u201e\u00ab\u00bb\u300c\u300e]")


@dataclass(frozen=True)
class Delivery:
    """How it sounds. Index 0 is the start of the source.

    `loudness` is in dBFS at `loudness_hz` values a second, `pitch` in Hz (NaN where there is no
    voice) and `noise` the spectral flatness (0 a tone, 1 white noise) at `pitch_hz` values a second.
    """

    loudness: NDArray[np.float32]
    pitch: NDArray[np.float32]
    noise: NDArray[np.float32]
    loudness_hz: float = 50.0
    pitch_hz: float = 10.0

    @property
    def duration(self) -> float:
        return len(self.loudness) / self.loudness_hz


@dataclass(frozen=True)
class Audience:
    """What viewers of the source did with it, and how its maker divided it."""

    heatmap: list[HeatmapPoint] = field(default_factory=list[HeatmapPoint])
    chapters: list[Chapter] = field(default_factory=list[Chapter])


@dataclass(frozen=True)
class Windows:
    """Candidate windows as arrays: sentences `first` to `last` inclusive, cut at `start` and `end` seconds."""

    first: Ints
    last: Ints
    start: Floats
    end: Floats

    def __len__(self) -> int:
        return len(self.first)


def tokens(text: str) -> list[str]:
    """Words of a text, case folded, without punctuation, apostrophes straightened."""
    return [token.casefold().replace("\u2019", "'") for token in TOKEN.findall(text)]


def stem(token: str) -> str:
    """A crude stem that works alike in any language: six letters say what a word is about."""
    return token.partition("'")[0][:6]


def content_words(sentence_tokens: Sequence[Sequence[str]], lists: WordLists | None) -> list[list[str]]:
    """Stems of the words that carry meaning, a sentence each.

    Function words come from the lists; without lists, words found in more than a tenth of the
    sentences of a talk are taken as such.
    """
    if lists is not None:
        stop = lists.stop
    else:
        spread = Counter(token for sentence in sentence_tokens for token in set(sentence))
        limit = max(3.0, 0.1 * len(sentence_tokens))
        stop = frozenset(token for token, count in spread.items() if count > limit)
    return [[stem(t) for t in sentence if t not in stop and not t.isdigit()] for sentence in sentence_tokens]


@dataclass(frozen=True)
class Topics:
    """Bags of content words summed up to each sentence: `cumulative` is (sentences + 1, terms), float32."""

    cumulative: NDArray[np.float32]
    density: Floats
    """Sum of inverse document frequencies of the words of each sentence."""

    @classmethod
    def of(cls, stems: Sequence[Sequence[str]]) -> "Topics":
        count = len(stems)
        spread = Counter(term for sentence in stems for term in set(sentence))
        weight = {term: float(np.log((count + 1) / (df + 0.5))) for term, df in spread.items()}
        terms = [term for term, df in spread.most_common(VOCABULARY * 2) if df > 1][:VOCABULARY]
        column = {term: i for i, term in enumerate(terms)}
        bags = np.zeros((count + 1, len(terms)), np.float32)
        for row, sentence in enumerate(stems, start=1):
            for term in sentence:
                if term in column:
                    bags[row, column[term]] += weight[term]
        density = np.array([sum(weight[term] for term in sentence) for sentence in stems])
        return cls(np.cumsum(bags, axis=0, dtype=np.float32), density)

    def boundaries(self) -> Floats:
        """Depth of the change of topic before each sentence and after the last: (sentences + 1,), 0 or more."""
        count = len(self.cumulative) - 1
        at = np.arange(count + 1)
        before = self.cumulative[at] - self.cumulative[np.maximum(at - TILING_SENTENCES, 0)]
        after = self.cumulative[np.minimum(at + TILING_SENTENCES, count)] - self.cumulative[at]
        likeness = _cosine(before, after)
        likeness[0] = likeness[-1] = 0.0
        reach = TILING_SENTENCES
        left = np.array([likeness[max(i - reach, 0) : i + 1].max() for i in at])
        right = np.array([likeness[i : i + reach + 1].max() for i in at])
        return left + right - 2 * likeness

    def likeness(self, windows: Windows, pick: int) -> Floats:
        """Cosine of the words of each window and of window `pick`, 0 to 1."""
        vector = self.cumulative[windows.last[pick] + 1] - self.cumulative[windows.first[pick]]
        along = self.cumulative @ vector
        dots = (along[windows.last + 1] - along[windows.first]).astype(np.float64)
        norms = self.norms(windows)
        return dots / np.maximum(norms * norms[pick], 1e-9)

    def norms(self, windows: Windows) -> Floats:
        """Length of each window's bag of words."""
        parts = [
            np.linalg.norm(self.cumulative[last + 1] - self.cumulative[first], axis=1)
            for first, last in zip(_batches(windows.first), _batches(windows.last), strict=True)
        ]
        return np.concatenate(parts).astype(np.float64) if parts else np.zeros(0)


def _batches(values: Ints, size: int = 2048) -> list[Ints]:
    return [values[i : i + size] for i in range(0, len(values), size)]


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> Floats:
    dots = np.einsum("ij,ij->i", a, b).astype(np.float64)
    return dots / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-9)


def z_scores(values: Floats) -> Floats:
    """Values standardised within the talk and held within three deviations; zeros where nothing varies."""
    deviation = float(values.std()) if len(values) else 0.0
    if deviation < 1e-9:
        return np.zeros(len(values))
    return np.clip((values - values.mean()) / deviation, -3.0, 3.0)


def text_signals(
    sentences: Sequence[Sentence],
    talk: Sequence[Sequence[str]],
    topics: Topics,
    lists: WordLists | None,
    windows: Windows,
) -> dict[str, Floats]:
    """Signals of the words alone (`talk`: each sentence's tokens); some need word lists and are absent without."""
    total = _summed(windows)
    words = np.maximum(total([len(t) for t in talk]), 1.0)
    count = (windows.last - windows.first + 1).astype(np.float64)
    asks = [_asks(sentence, t, lists) for sentence, t in zip(sentences, talk, strict=True)]
    depth = topics.boundaries()
    inner = np.maximum(count - 1, 1.0)
    signals = {
        "short_sentences": count / words,
        "question": total(asks) / count,
        "word_length": total([sum(map(len, t)) for t in talk]) / words,
        "rare_words": total(topics.density) / words,
        "numbers": total([_count_numbers(t, lists) for t in talk]) / words,
        "repetition": total(_repeats(talk)) / count,
        "topic": depth[windows.first] + depth[windows.last + 1] - total_between(depth, windows) / inner,
        "opening": openings(sentences, talk, lists)[windows.first],
        "completeness": endings(sentences, talk, lists)[windows.last],
    }
    if lists is not None:
        spoken = [len(_QUOTES.findall(s.text)) for s in sentences]
        signals |= {
            "first_person": _share(talk, lists.first_person, total, words),
            "second_person": _share(talk, lists.second_person, total, words),
            "dialogue": _share(talk, lists.said, total, words) + total(spoken) / words,
            "discourse": _share(talk, lists.discourse, total, words),
            "positive": _share(talk, lists.positive, total, words),
            "claim": total([_claims(t, lists) for t in talk]) / count,
            "promotion": total([_holds(t, lists.promotion) for t in talk]),
        }
    return signals


def pause_signals(sentences: Sequence[Sentence], windows: Windows) -> dict[str, Floats]:
    """Signals of the word times: pauses that tell of timing, and gaps that are dead."""
    total = _summed(windows)
    spoken = [sum(word.end - word.start for word in s.words) for s in sentences]
    inside = [_gaps(s) for s in sentences]
    after = [b.start - a.end for a, b in pairwise(sentences)]
    short = [min(gap, LONGEST_PAUSE) for gap in after] + [0.0]
    dead = [max(gap - LONGEST_PAUSE, 0.0) for gap in after] + [0.0]
    length = np.maximum(windows.end - windows.start, 1e-3)
    words = total([len(s.words) for s in sentences])
    between = total(short) - np.array(short)[windows.last]
    return {
        "pauses": (between + total([x[0] for x in inside])) / length,
        "slow_speech": -words / np.maximum(total(spoken), 1e-3),
        "dead_air": total(dead) - np.array(dead)[windows.last] + total([x[1] for x in inside]),
    }


def delivery_signals(sentences: Sequence[Sentence], delivery: Delivery, windows: Windows) -> dict[str, Floats]:
    """Signals of the sound against the talk's own baseline; all zero where there is no sound."""
    loudness, voiced = delivery.loudness.astype(np.float64), _semitones(delivery.pitch)
    speaking = _speaking(sentences, len(loudness), delivery.loudness_hz)
    level = np.where(speaking & (loudness > -70), loudness, np.nan)
    reaction = _reactions(sentences, delivery)
    until = Windows(windows.first, windows.last, windows.start, windows.end + REACTION_SECONDS)
    mean, spread = _moments(level, delivery.loudness_hz, windows)
    _, melody = _moments(voiced, delivery.pitch_hz, windows)
    return {
        "loudness": mean,
        "dynamics": spread,
        "melody": melody,
        "reaction": _moments(reaction, delivery.pitch_hz, until)[0],
    }


def audience_signals(audience: Audience, windows: Windows) -> dict[str, Floats]:
    """Signals of the source's page; absent where it tells nothing."""
    signals: dict[str, Floats] = {}
    points = [p for p in audience.heatmap if np.isfinite(p.value) and -np.inf < p.start_time < p.end_time < np.inf]
    if points:
        replays = np.zeros(int(windows.end.max()) + 2)
        for p in points:
            replays[int(max(p.start_time, 0)) : int(np.ceil(max(p.end_time, 0)))] = min(max(p.value, 0.0), 1.0)
        signals["replays"] = _moments(replays, 1.0, windows)[0]
    marks = np.array(sorted({c.start_time for c in audience.chapters if 0 < c.start_time < np.inf}))
    if len(marks):
        crossed = np.searchsorted(marks, windows.end - 2.0) - np.searchsorted(marks, windows.start + 2.0)
        signals["chapter"] = -np.maximum(crossed, 0).astype(np.float64)
    return signals


def openings(sentences: Sequence[Sentence], talk: Sequence[Sequence[str]], lists: WordLists | None) -> Floats:
    """How well each sentence would open a clip: (sentences,), higher is better.

    A question, a claim, a contrast or a word to the listener draw in; a conjunction, a pronoun
    that points back or an answer without its question leaves the viewer out.
    """
    points = -0.4 * _heaviness(talk)
    asked = False
    for i, (sentence, words) in enumerate(zip(sentences, talk, strict=True)):
        pause = sentence.start - sentences[i - 1].end if i else LONGEST_PAUSE
        asks = _asks(sentence, words, lists)
        points[i] += 0.4 * min(pause, 1.0) + 1.0 * asks + 0.4 * (3 <= len(words) <= 14)
        points[i] -= 0.8 * sentence.text[:1].islower() + 0.6 * (len(words) < 3) + 1.2 * (asked and not asks)
        if lists is not None and words:
            points[i] += 0.8 * min(_claims(words, lists), 2) + 0.5 * bool(lists.second_person.intersection(words))
            points[i] += 0.4 * bool(lists.contrast.intersection(words[1:]))
            points[i] += 0.6 * _holds(words, lists.story)
            points[i] -= 0.3 if words[0] in lists.discourse else 1.2 * (words[0] in lists.conjunctions)
            points[i] -= 1.0 * bool(lists.backward.intersection(words[:2])) + 1.5 * _holds(words, lists.promotion)
        asked = asks
    return points


def endings(sentences: Sequence[Sentence], talk: Sequence[Sequence[str]], lists: WordLists | None) -> Floats:
    """How well each sentence would close a clip: (sentences,), higher is better.

    A finished, short, plain sentence with a pause after it closes; a question, or a sentence on
    which the next one leans, leaves the clip open.
    """
    points = -0.4 * _heaviness(talk)
    for i, (sentence, words) in enumerate(zip(sentences, talk, strict=True)):
        is_last = i + 1 == len(sentences)
        pause = LONGEST_PAUSE if is_last else sentences[i + 1].start - sentence.end
        points[i] += min(pause, 1.5) + 0.5 * (len(words) <= 9) - 1.5 * _asks(sentence, words, lists)
        points[i] -= 1.2 * (not ends_sentence(sentence.text))
        if lists is not None and not is_last and talk[i + 1]:
            leans = talk[i + 1][0] in lists.conjunctions or talk[i + 1][0] in lists.backward
            points[i] -= 0.6 * leans
    return points


def _heaviness(talk: Sequence[Sequence[str]]) -> Floats:
    """Length of the words of each sentence, standardised within the talk."""
    return z_scores(np.array([sum(map(len, words)) / max(len(words), 1) for words in talk], np.float64))


def total_between(values: Floats, windows: Windows) -> Floats:
    """Sum of what lies before each sentence but the first of a window."""
    prefix = np.concatenate([[0.0], np.cumsum(values)])
    return prefix[windows.last + 1] - prefix[windows.first + 1]


def _summed(windows: Windows) -> Callable[[Sequence[float] | Floats], Floats]:
    def total(values: Sequence[float] | Floats) -> Floats:
        prefix = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64))])
        return prefix[windows.last + 1] - prefix[windows.first]

    return total


def _share(
    talk: Sequence[Sequence[str]], words: frozenset[str], total: Callable[[list[int]], Floats], length: Floats
) -> Floats:
    return total([sum(token in words for token in sentence) for sentence in talk]) / length


def _asks(sentence: Sentence, words: Sequence[str], lists: WordLists | None) -> bool:
    if ends_question(sentence.text):
        return True
    return lists is not None and not ends_sentence(sentence.text) and bool(words) and words[0] in lists.question


def _claims(words: Sequence[str], lists: WordLists) -> int:
    text = f" {' '.join(words)} "
    return sum(f" {phrase} " in text for phrase in lists.claim_phrases) + len(lists.claim.intersection(words))


def _holds(words: Sequence[str], phrases: Sequence[str]) -> bool:
    text = f" {' '.join(words)} "
    return any(f" {phrase} " in text for phrase in phrases)


def _count_numbers(words: Sequence[str], lists: WordLists | None) -> int:
    named = lists.number_words if lists is not None else frozenset[str]()
    return sum(word[0].isdigit() or word in named for word in words)


def _repeats(talk: Sequence[Sequence[str]]) -> list[bool]:
    """Whether a sentence was said before, word for word, shortly before: a loop of the recogniser or a chant."""
    return [len(words) > 0 and words in talk[max(i - 6, 0) : i] for i, words in enumerate(talk)]


def _gaps(sentence: Sentence) -> tuple[float, float]:
    """Seconds of pauses between the words of a sentence: those that count as timing, and dead air."""
    gaps = [b.start - a.end for a, b in pairwise(sentence.words)]
    return sum(min(g, LONGEST_PAUSE) for g in gaps), sum(max(g - LONGEST_PAUSE, 0.0) for g in gaps)


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
    """1 where a loud noise is heard while nobody speaks, else 0: a guess at applause or laughter."""
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
    return _lasting(is_loud & is_noise & silent, int(REACTION_LASTS * delivery.pitch_hz)).astype(np.float64)


def _lasting(flags: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Only those runs of true values that are at least `length` long."""
    edges = np.diff(np.concatenate([[0], flags.astype(np.int8), [0]]))
    kept = np.zeros(len(flags), np.bool_)
    for begin, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        kept[begin:end] = end - begin >= length
    return kept


def _moments(values: Floats, rate: float, windows: Windows) -> tuple[Floats, Floats]:
    """Mean and deviation of the values (NaN left out) within each window; zeros where there are none."""
    valid = np.isfinite(values)
    centre = float(values[valid].mean()) if valid.any() else 0.0
    offsets = np.where(valid, values - centre, 0.0)
    sums = [np.concatenate([[0.0], np.cumsum(v)]) for v in (valid.astype(np.float64), offsets, offsets**2)]
    begin = np.clip((windows.start * rate).astype(np.int64), 0, len(values))
    end = np.clip(np.ceil(windows.end * rate).astype(np.int64), begin, len(values))
    number, first, second = (s[end] - s[begin] for s in sums)
    safe = np.maximum(number, 1.0)
    mean = first / safe
    return mean + centre * (number > 0), np.sqrt(np.maximum(second / safe - mean**2, 0.0))
