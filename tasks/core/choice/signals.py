"""Signals from a window's words: numbers that suggest how well it works as a clip.

Everything is counted once per sentence and summed over windows with prefix sums, so three hours
of speech take seconds.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tasks.core.choice.topics import Topics
from tasks.core.choice.windows import Floats, Windows, sums_inside, window_sums, z_scores
from tasks.core.speech.punctuation import ends_question, ends_sentence
from tasks.core.speech.wordlists import WordLists
from tasks.core.speech.writing_systems import TOKEN
from tasks.core.transcript import Sentence

LONGEST_PAUSE = 2.0
"""Longest pause in seconds that still counts as timing; anything longer is dead air."""

_QUOTES = re.compile(r"[\"\u201c\u201d\u201e\u00ab\u00bb\u300c\u300e]")


def tokens(text: str) -> list[str]:
    """The words of a text, case-folded, with straight apostrophes and no punctuation."""
    return [token.casefold().replace("\u2019", "'") for token in TOKEN.findall(text)]


def stem(token: str) -> str:
    """A crude stem for any language: the first six letters."""
    return token.partition("'")[0][:6]


@dataclass(frozen=True)
class Line:
    """A sentence, its tokens, and the word lists of its language, or None if there are none."""

    sentence: Sentence
    words: list[str]
    lists: WordLists | None

    @classmethod
    def of(cls, sentence: Sentence, lists: WordLists | None) -> "Line":
        return cls(sentence, tokens(sentence.text), lists)

    @property
    def is_question(self) -> bool:
        """Judged by the question mark or, without punctuation, by the first word."""
        if ends_question(self.sentence.text):
            return True
        if self.lists is None or not self.words or ends_sentence(self.sentence.text):
            return False
        return self.words[0] in self.lists.question

    @property
    def claim_count(self) -> int:
        """Number of words and phrases that make a claim."""
        if self.lists is None:
            return 0
        return _phrases_in(self.words, self.lists.claim_phrases) + len(self.lists.claim.intersection(self.words))

    @property
    def number_count(self) -> int:
        named = self.lists.number_words if self.lists is not None else frozenset[str]()
        return sum(word[0].isdigit() or word in named for word in self.words)


def content_words(lines: Sequence[Line]) -> list[list[str]]:
    """Stems of the words that carry meaning, one list per sentence.

    Function words come from the word lists. In languages without lists, words that occur in more than a
    tenth of the sentences count as function words.
    """
    unlisted = [line.words for line in lines if line.lists is None]
    spread = Counter(token for words in unlisted for token in set(words))
    limit = max(3.0, 0.1 * len(unlisted))
    common = frozenset(token for token, count in spread.items() if count > limit)
    return [
        [stem(t) for t in line.words if t not in (line.lists.stop if line.lists else common) and not t.isdigit()]
        for line in lines
    ]


def text_signals(lines: Sequence[Line], topics: Topics, windows: Windows) -> dict[str, Floats]:
    """Signals from the words alone. Those that need word lists are omitted if no language in the talk has any."""
    total = window_sums(windows)
    words = np.maximum(total([len(line.words) for line in lines]), 1.0)
    count = (windows.last - windows.first + 1).astype(np.float64)
    depth = topics.boundaries()
    inner = np.maximum(count - 1, 1.0)
    signals = {
        "short_sentences": count / words,
        "question": total([line.is_question for line in lines]) / count,
        "word_length": total([sum(map(len, line.words)) for line in lines]) / words,
        "rare_words": total(topics.density) / words,
        "numbers": total([line.number_count for line in lines]) / words,
        "repetition": total(_repeats(lines)) / count,
        "topic": depth[windows.first] + depth[windows.last + 1] - sums_inside(depth, windows) / inner,
        "opening": opening_scores(lines)[windows.first],
        "completeness": ending_scores(lines)[windows.last],
    }
    return signals | _list_signals(lines, windows, words)


def _list_signals(lines: Sequence[Line], windows: Windows, length: Floats) -> dict[str, Floats]:
    """Signals that need word lists; NaN for windows mostly in languages without any."""
    total = window_sums(windows)
    listed = np.array([line.lists is not None for line in lines])
    if not listed.any():
        return {}

    def share(name: str) -> Floats:
        return total([_count(line, name) for line in lines]) / length

    count = windows.last - windows.first + 1
    quotes = total([len(_QUOTES.findall(line.sentence.text)) for line in lines]) / length
    signals = {
        "first_person": share("first_person"),
        "second_person": share("second_person"),
        "dialogue": share("said") + quotes,
        "discourse": share("discourse"),
        "positive": share("positive"),
        "claim": total([line.claim_count for line in lines]) / count,
        "promotion": total(
            [line.lists is not None and _has_phrase(line.words, line.lists.promotion) for line in lines]
        ),
    }
    is_listed = total(listed) >= 0.5 * count
    return {name: np.where(is_listed, values, np.nan) for name, values in signals.items()}


def _count(line: Line, name: str) -> int:
    """Number of words of the line that are in the list `name` of its language."""
    listed: frozenset[str] = getattr(line.lists, name, frozenset())
    return sum(word in listed for word in line.words)


def pause_signals(sentences: Sequence[Sentence], windows: Windows) -> dict[str, Floats]:
    """Signals from the word times: pauses, pace and dead air."""
    total = window_sums(windows)
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


def opening_scores(lines: Sequence[Line]) -> Floats:
    """How well each sentence would open a clip: (sentences,), higher is better.

    A question, a claim, a contrast or a word to the listener draws viewers in. A conjunction, a pronoun
    that refers back, or an answer without its question loses them.
    """
    points = -0.4 * _heaviness(lines)
    asked = False
    for i, line in enumerate(lines):
        sentence, words = line.sentence, line.words
        pause = sentence.start - lines[i - 1].sentence.end if i else LONGEST_PAUSE
        points[i] += 0.4 * min(pause, 1.0) + 1.0 * line.is_question + 0.4 * (3 <= len(words) <= 14)
        points[i] -= 0.8 * sentence.text[:1].islower() + 0.6 * (len(words) < 3) + 1.2 * (asked and not line.is_question)
        if line.lists is not None and words:
            points[i] += 0.8 * min(line.claim_count, 2) + _opening_words(words, line.lists)
        asked = line.is_question
    return points


def _opening_words(words: Sequence[str], lists: WordLists) -> float:
    """Points for the words of a sentence that opens a clip."""
    points = 0.5 * bool(lists.second_person.intersection(words))
    points += 0.4 * bool(lists.contrast.intersection(words[1:])) + 0.6 * _has_phrase(words, lists.story)
    points -= 0.3 if words[0] in lists.discourse else 1.2 * (words[0] in lists.conjunctions)
    return points - 1.0 * bool(lists.backward.intersection(words[:2])) - 1.5 * _has_phrase(words, lists.promotion)


def ending_scores(lines: Sequence[Line]) -> Floats:
    """How well each sentence would end a clip: (sentences,), higher is better.

    A complete, short, plain sentence followed by a pause ends well. A question, or a sentence that the
    next one depends on, does not.
    """
    points = -0.4 * _heaviness(lines)
    for i, line in enumerate(lines):
        following = lines[i + 1] if i + 1 < len(lines) else None
        pause = following.sentence.start - line.sentence.end if following else LONGEST_PAUSE
        points[i] += min(pause, 1.5) + 0.5 * (len(line.words) <= 9) - 1.5 * line.is_question
        points[i] -= 1.2 * (not ends_sentence(line.sentence.text))
        if following and following.lists is not None and following.words:
            lists, first = following.lists, following.words[0]
            points[i] -= 0.6 * (first in lists.conjunctions or first in lists.backward)
    return points


def _heaviness(lines: Sequence[Line]) -> Floats:
    """Average word length of each sentence, standardised within the talk."""
    return z_scores(np.array([sum(map(len, line.words)) / max(len(line.words), 1) for line in lines], np.float64))


def _phrases_in(words: Sequence[str], phrases: Sequence[str]) -> int:
    text = f" {' '.join(words)} "
    return sum(f" {phrase} " in text for phrase in phrases)


def _has_phrase(words: Sequence[str], phrases: Sequence[str]) -> bool:
    return _phrases_in(words, phrases) > 0


def _repeats(lines: Sequence[Line]) -> list[bool]:
    """Whether each sentence repeats one of the previous six word for word: a recogniser loop, or a chant."""
    talk = [line.words for line in lines]
    return [len(words) > 0 and words in talk[max(i - 6, 0) : i] for i, words in enumerate(talk)]


def _gaps(sentence: Sentence) -> tuple[float, float]:
    """Seconds of pause between the words of a sentence: timing, and dead air."""
    gaps = [b.start - a.end for a, b in pairwise(sentence.words)]
    return sum(min(g, LONGEST_PAUSE) for g in gaps), sum(max(g - LONGEST_PAUSE, 0.0) for g in gaps)
