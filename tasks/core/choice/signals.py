"""Signals from a window's words: numbers that suggest how well it works as a clip.

Everything is counted once per sentence and summed over windows with prefix sums, so three hours
of speech take seconds.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tasks.core.choice.topics import Topics
from tasks.core.choice.windows import Floats, Windows, sums_inside, window_sums, z_scores
from tasks.core.speech.punctuation import ends_sentence
from tasks.core.speech.terms import Line, has_phrase
from tasks.core.speech.wordlists import WordLists
from tasks.core.transcript import Sentence

LONGEST_PAUSE = 2.0
"""Longest pause in seconds that still counts as timing; anything longer is dead air."""
UNHURRIED = 80
"""Percentile of the sentences' pace that counts as slow speech; only what takes longer is a pause that stands out."""
SHORTEST_WAIT, LONGEST_WAIT = 0.3, 8.3
"""Seconds beyond slow speech that begin to count as a pause, and beyond which they count no more."""
CLOSING_SHARE = 0.1
"""Share of a recording that is its end: thanks, questions about taste, farewells."""

EXCLAIMS = re.compile(r"[!\uff01]")
_QUOTES = re.compile(r"[\"\u201c\u201d\u201e\u00ab\u00bb\u300c\u300e]")


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
        "centrality": topics.centrality(windows),
        "variety": _variety(lines, windows) / words,
        "exclamations": total([EXCLAIMS.search(line.sentence.text) is not None for line in lines]) / count,
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
        "promotion": total([line.lists is not None and has_phrase(line.words, line.lists.promotion) for line in lines]),
    }
    is_listed = total(listed) >= 0.5 * count
    return {name: np.where(is_listed, values, np.nan) for name, values in signals.items()}


def listed_share(lines: Sequence[Line], name: str) -> float:
    """Share of all words, in languages with lists, that are in the list `name`."""
    listed = [line for line in lines if line.lists is not None]
    return sum(_count(line, name) for line in listed) / max(sum(len(line.words) for line in listed), 1)


def _count(line: Line, name: str) -> int:
    """Number of words of the line that are in the list `name` of its language."""
    listed: frozenset[str] = getattr(line.lists, name, frozenset())
    return sum(word in listed for word in line.words)


def _variety(lines: Sequence[Line], windows: Windows) -> Floats:
    """Number of different words in each window."""
    number: dict[str, int] = {}
    said = [[number.setdefault(word, len(number)) for word in line.words] for line in lines]
    spans = zip(windows.first.tolist(), windows.last.tolist(), strict=True)
    return np.array([len(set[int]().union(*said[first : last + 1])) for first, last in spans], np.float64)


def position_signals(windows: Windows) -> dict[str, Floats]:
    """Place and length of each window: `early` is 1 at the recording's beginning, `closing` 1 at its very end."""
    begin, length = float(windows.start.min()), float(windows.start.max() - windows.start.min())
    place = (windows.start - begin) / max(length, 1e-3)
    closing = np.clip(1.0 - (1.0 - place) / CLOSING_SHARE, 0.0, 1.0)
    return {"early": 1.0 - place, "closing": closing, "length": windows.end - windows.start}


def pause_signals(sentences: Sequence[Sentence], windows: Windows) -> dict[str, Floats]:
    """Signals from the times of sentences and words: pauses that stand out, and dead air."""
    total = window_sums(windows)
    between = [max(b.start - a.end - LONGEST_PAUSE, 0.0) for a, b in pairwise(sentences)] + [0.0]
    inside = [_dead_air(sentence) for sentence in sentences]
    return {
        "pauses": total(_waits(sentences)),
        "dead_air": total(between) - np.array(between)[windows.last] + total(inside),
    }


def _waits(sentences: Sequence[Sentence]) -> Floats:
    """Seconds by which each sentence, up to the next one, takes longer than slow speech: (sentences,).

    Recognisers stretch words over laughter and silence, so the time is measured against the sentence's letters
    rather than from the end of its last word.
    """
    letters = np.array([sum(len(word.word) for word in s.words) or len(s.text) for s in sentences], np.float64)
    until = [following.start for following in sentences[1:]] + [sentences[-1].end]
    seconds = np.array(until) - np.array([sentence.start for sentence in sentences])
    pace = float(np.percentile(seconds / np.maximum(letters, 1.0), UNHURRIED))
    return np.clip(seconds - pace * letters - SHORTEST_WAIT, 0.0, LONGEST_WAIT - SHORTEST_WAIT)


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
    points += 0.4 * bool(lists.contrast.intersection(words[1:])) + 0.6 * has_phrase(words, lists.story)
    points -= 0.3 if words[0] in lists.discourse else 1.2 * (words[0] in lists.conjunctions)
    return points - 1.0 * bool(lists.backward.intersection(words[:2])) - 1.5 * has_phrase(words, lists.promotion)


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


def _repeats(lines: Sequence[Line]) -> list[bool]:
    """Whether each sentence repeats one of the previous six word for word: a recogniser loop, or a chant."""
    talk = [line.words for line in lines]
    return [len(words) > 0 and words in talk[max(i - 6, 0) : i] for i, words in enumerate(talk)]


def _dead_air(sentence: Sentence) -> float:
    """Seconds by which pauses between the words of a sentence exceed the longest that counts as timing."""
    return sum(max(b.start - a.end - LONGEST_PAUSE, 0.0) for a, b in pairwise(sentence.words))
