"""A headline and a hook for a clip, taken from its words.

The headline is the clip's strongest clause: one that claims, asks or contrasts, with words typical of
the clip rather than of the whole talk. It is not the clip's opening.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tasks.core.choice.signals import Line, content_words, opening_scores, stem, tokens
from tasks.core.speech.punctuation import CLAUSE_FINAL, QUESTION_MARKS, SENTENCE_FINAL, ends_question
from tasks.core.speech.sentences import join
from tasks.core.speech.wordlists import WordLists, word_lists
from tasks.core.transcript import Sentence

MAX_TITLE_CHARS = 60
MAX_HOOK_CHARS = 120
GOOD_WORDS = range(4, 11)
"""Number of words in a good headline: longer than a label, shorter than a paragraph."""

_BREAK = re.compile(rf"(?<=[\u2013\u2014{CLAUSE_FINAL}])(?!\d)\s*|\s+[-\u2013\u2014]+\s+")
_NOISE = re.compile(r"\[[^\]]*\]|\([^)]*\)|<[^>]*>|[\u266a\u266b*_#`~|<>\[\]{}\"\u201c\u201d\u00ab\u00bb]")
_STOPS = "".join(mark for mark in SENTENCE_FINAL if mark not in QUESTION_MARKS)
_EDGE = " \t-\u2013\u2014'\u2019" + CLAUSE_FINAL + _STOPS


@dataclass(frozen=True)
class _Clause:
    """Part of a sentence that could stand alone; `place` is the sentence's position in the clip, from 0 to 1."""

    text: str
    place: float
    opens_clip: bool
    whole: bool


def headline(text_sentences: Sequence[str], talk_sentences: Sequence[str], language: str) -> str:
    """At most 60 characters of whole words from a clip's sentences, or "" if none fit.

    `talk_sentences` are those of the whole talk; words common in it say little about the clip.
    """
    lists = word_lists(language)
    weights = _weights(text_sentences, talk_sentences, lists)
    best = _best(_clauses(text_sentences, lists), weights, lists)
    return _sentence_case(best or _best(_excerpts(text_sentences), weights, lists))


def hook(text_sentences: Sequence[str], language: str, title: str = "") -> str:
    """A strong early line of a clip, at most 120 characters, preferably not the one used as title."""
    lists = word_lists(language)
    texts = [" ".join(_NOISE.sub(" ", text).split()) for text in text_sentences]
    lines = [_untimed(text, i) for i, text in enumerate(texts) if tokens(text)][:5]
    if not lines:
        return ""
    strength = opening_scores([Line.of(line, lists) for line in lines])
    used = title.casefold().rstrip(QUESTION_MARKS)
    apart = [3.0 * bool(used and used in line.text.casefold()) for line in lines]
    best = max(range(len(lines)), key=lambda i: strength[i] - 0.4 * i - apart[i])
    parts = _without_lead_in([part for part in _BREAK.split(lines[best].text) if part], lists)
    line = " ".join(_without_openers(join(part.strip() for part in parts).split(), lists)) or lines[best].text
    return shorten(_sentence_case(line), MAX_HOOK_CHARS)


def fallback_title(index: int) -> str:
    """A neutral title for a clip whose words yield none."""
    return f"Clip {index}"


def shorten(text: str, limit: int) -> str:
    """The text on one line of at most `limit` characters, cut between words and ending in an ellipsis if cut."""
    line = " ".join(text.split())
    if len(line) <= limit:
        return line
    head = line[: limit - 1]
    if " " in head and not line[limit - 1].isspace():
        head = head[: head.rindex(" ")]
    return head.rstrip(_EDGE) + "\u2026"


def _best(clauses: Iterable[_Clause], weights: dict[str, float], lists: WordLists | None) -> str:
    best, best_score = "", -math.inf
    for clause in clauses:
        title, lost = _fit(clause.text, lists)
        score = _strength(title, clause, weights, lists) - 1.5 * lost if title else -math.inf
        if score > best_score:
            best, best_score = title, score
    return best


def _excerpts(text_sentences: Sequence[str]) -> Iterator[_Clause]:
    """Runs of words that fit, starting at each word: the fallback if no clause fits."""
    for i, raw in enumerate(text_sentences):
        words = _NOISE.sub(" ", raw).split()
        for k in range(len(words)):
            end, length = k, -1
            while end < len(words) and length + 1 + len(words[end]) <= MAX_TITLE_CHARS - 1:
                length += 1 + len(words[end])
                end += 1
            yield _Clause(" ".join(words[k:end]), 0.0, opens_clip=i == 0 and k == 0, whole=False)


def _clauses(text_sentences: Sequence[str], lists: WordLists | None) -> Iterator[_Clause]:
    for i, raw in enumerate(text_sentences):
        text = " ".join(_NOISE.sub(" ", raw).split())
        place = i / max(len(text_sentences) - 1, 1)
        parts = _without_lead_in([part for part in _BREAK.split(text) if part], lists)
        for k in range(len(parts)):
            for size in range(1, len(parts) - k + 1):
                yield _Clause(
                    join(p.strip() for p in parts[k : k + size]), place, i == 0 and k == 0, size == len(parts)
                )
        yield from _linked(text, place, i == 0, lists)


def _without_lead_in(parts: list[str], lists: WordLists | None) -> list[str]:
    """Drop a short lead-in such as "he said" or "the truth is" from the parts of a sentence."""
    if lists is None or len(parts) < 2:
        return parts
    first = tokens(parts[0])
    leads = bool(lists.said.intersection(first)) or (bool(first) and first[-1] in lists.finite & lists.stop)
    return parts[1:] if leads and len(first) <= 4 else parts


def _linked(text: str, place: float, opens: bool, lists: WordLists | None) -> Iterator[_Clause]:
    """Clauses that end before or start after a conjunction."""
    if lists is None:
        return
    words = text.split()
    for k in range(3, len(words) - 2):
        word = words[k].strip(_EDGE).casefold()
        if word in lists.conjunctions:
            yield _Clause(" ".join(words[:k]), place, opens, whole=False)
            yield _Clause(" ".join(words[k + 1 :]), place, opens_clip=False, whole=False)


def _fit(text: str, lists: WordLists | None) -> tuple[str, int]:
    """The clause without leading fillers and trailing function words ("" if too long), and the count of the latter."""
    asks = text.rstrip()[-1:] if text.rstrip().endswith(tuple(QUESTION_MARKS)) else ""
    words = text.strip(_EDGE + QUESTION_MARKS).split()
    words = _without_openers(words, lists)
    length = len(words)
    while not asks and lists is not None and words and (tokens(words[-1]) or [""])[-1] in lists.stop:
        words.pop()
    title = " ".join(words).strip(_EDGE)
    title = title and title + asks
    return (title if len(title) <= MAX_TITLE_CHARS else ""), length - len(words)


def _without_openers(words: list[str], lists: WordLists | None) -> list[str]:
    while lists is not None and (length := _opening(words, lists)):
        words = words[length:]
    return words


def _opening(words: list[str], lists: WordLists) -> int:
    """Number of leading filler words: the length of a filler phrase, else 1 for a filler or punctuation, else 0."""
    for phrase in lists.opening_phrases:
        length = len(phrase.split())
        if tokens(" ".join(words[:length])) == tokens(phrase):
            return length
    return int(bool(words) and set(tokens(words[0])) <= lists.openers)


def _weights(text_sentences: Sequence[str], talk_sentences: Sequence[str], lists: WordLists | None) -> dict[str, float]:
    """Weight of each stem of the clip: high if frequent in the clip and rare in the rest of the talk."""
    talk, clip = (
        content_words([Line.of(_untimed(text), lists) for text in texts]) for texts in (talk_sentences, text_sentences)
    )
    everywhere = Counter(term for sentence in talk for term in sentence)
    here = Counter(term for sentence in clip for term in sentence)
    return {
        term: (1 + math.log(count)) * math.log(1 + (count + 0.5) / (max(everywhere[term] - count, 0) + 0.5))
        for term, count in here.items()
    }


def _strength(title: str, clause: _Clause, weights: dict[str, float], lists: WordLists | None) -> float:
    words = tokens(title)
    if not words:
        return -math.inf
    topical = sorted((weights.get(stem(word), 0.0) for word in set(words)), reverse=True)
    score = sum(topical[:3]) * 0.5
    score += 0.8 * clause.whole - 3.0 * clause.opens_clip + 0.3 * clause.place
    score += 1.0 if ends_question(title) else 0.0
    score -= 1.3 * max(GOOD_WORDS.start - len(words), 0) + 0.2 * max(len(words) - GOOD_WORDS.stop + 1, 0)
    if lists is None:
        return score
    padded = f" {' '.join(words)} "
    score += 0.8 * min(len(lists.claim.intersection(words)), 2)
    score += 0.8 * any(f" {phrase} " in padded for phrase in lists.claim_phrases)
    score += 0.4 * bool(lists.contrast.intersection(words)) + 0.4 * bool(lists.second_person.intersection(words))
    score += (1.5 + 0.5 * clause.whole) * bool(lists.finite.intersection(words)) - 1.0 * (not clause.whole)
    score -= 2.0 * (words[0] in lists.backward) + 1.5 * (words[0] in lists.conjunctions)
    score -= 1.0 * (ends_question(title) and words[-1] in lists.stop)
    return score - 0.5 * (words[0] in lists.links)


def _sentence_case(title: str) -> str:
    return title[:1].upper() + title[1:]


def _untimed(text: str, at: float = 0.0) -> Sentence:
    return Sentence(text=text, start=at, end=at, words=[])
