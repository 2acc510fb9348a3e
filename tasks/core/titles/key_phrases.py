"""The key phrases of a clip: what it is about, in its own words, and a label made of them."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tasks.core.speech.punctuation import CLAUSE_FINAL, SENTENCE_FINAL
from tasks.core.speech.terms import Line, content_words, stem, tokens
from tasks.core.speech.wordlists import WordLists
from tasks.core.speech.writing_systems import UNSPACED
from tasks.core.titles.clauses import cleaned, sentence_case
from tasks.core.transcript import Sentence

FEWEST_PHRASES, MAX_PHRASES = 2, 3
LONGEST_PHRASE = 3
SHORTEST_UNLISTED = 5
"""Fewest letters of a key phrase in a language without word lists: shorter words are mostly function words."""

_BREAK = re.compile(rf"(?<=[{re.escape(CLAUSE_FINAL + SENTENCE_FINAL)}\u2013\u2014])\s+")
_VERB_MARKS = frozenset(("to",))
_EDGE = " \"\u201c\u201d\u00ab\u00bb'\u2019-\u2013\u2014" + CLAUSE_FINAL + SENTENCE_FINAL


@dataclass(frozen=True)
class _Phrase:
    words: tuple[str, ...]
    place: int

    @property
    def is_name(self) -> bool:
        return all(word[:1].isupper() for word in self.words)

    @property
    def terms(self) -> tuple[str, ...]:
        return tuple(stem(token) for word in self.words for token in tokens(word))


def term_weights(
    text_sentences: Sequence[str], talk_sentences: Sequence[str], lists: WordLists | None
) -> dict[str, float]:
    """Weight of each stem of the clip: high if frequent in the clip and rare in the rest of the talk."""
    talk, clip = (
        content_words([Line.of(Sentence(text=text, start=0.0, end=0.0, words=[]), lists) for text in texts])
        for texts in (talk_sentences, text_sentences)
    )
    everywhere = Counter(term for sentence in talk for term in sentence)
    here = Counter(term for sentence in clip for term in sentence)
    return {
        term: (1 + math.log(count)) * math.log(1 + (count + 0.5) / (max(everywhere[term] - count, 0) + 0.5))
        for term, count in here.items()
    }


def label(text_sentences: Sequence[str], weights: dict[str, float], lists: WordLists | None, limit: int) -> str:
    """Up to three key phrases of the clip, in the order in which they are said; "" if they say too little."""
    found = list(_phrases(text_sentences, lists))
    times = Counter(phrase.terms for phrase in found)
    chosen: list[_Phrase] = []
    for phrase in sorted(found, key=lambda one: -_worth(one, times, weights)):
        known = {term for one in chosen for term in one.terms}
        fits = len(_joined([*chosen, phrase])) <= limit and not known.intersection(phrase.terms)
        if fits and (_is_telling(phrase, times) or 0 < len(chosen) < FEWEST_PHRASES):
            chosen.append(phrase)
        if len(chosen) == MAX_PHRASES:
            break
    return sentence_case(_joined(chosen)) if len(chosen) >= FEWEST_PHRASES else ""


def _is_telling(phrase: _Phrase, times: Counter[tuple[str, ...]]) -> bool:
    """Whether it says something by itself: a name, several words, or a word that is said again."""
    return phrase.is_name or len(phrase.words) > 1 or times[phrase.terms] > 1


def _joined(phrases: Sequence[_Phrase]) -> str:
    return ", ".join(" ".join(phrase.words) for phrase in sorted(phrases, key=lambda one: one.place))


def _worth(phrase: _Phrase, times: Counter[tuple[str, ...]], weights: dict[str, float]) -> float:
    total = sum(weights.get(term, 0.0) for term in phrase.terms)
    return (
        total
        / len(phrase.terms) ** 0.5
        * (1 + math.log(times[phrase.terms]))
        * (1.3 if len(phrase.words) > 1 or phrase.is_name else 1.0)
    )


def _phrases(sentences: Sequence[str], lists: WordLists | None) -> Iterator[_Phrase]:
    place = 0
    for sentence in sentences:
        for part in _BREAK.split(cleaned(sentence)):
            words = part.split()
            yield from _listed(words, place, lists) if lists else _unlisted(words, place)
            place += len(words)


def _unlisted(words: Sequence[str], place: int) -> Iterator[_Phrase]:
    for k, word in enumerate(words):
        if len(bare := word.strip(_EDGE)) >= SHORTEST_UNLISTED and bare.isalpha() and not UNSPACED.search(bare):
            yield _Phrase((bare,), place + k)


def _listed(words: Sequence[str], place: int, lists: WordLists) -> Iterator[_Phrase]:
    """Runs of content words after a determiner or preposition, and names, without a verb at their end."""
    spoken = [(tokens(word) or [""])[0] for word in words]
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and _is_content(spoken[end], lists):
            end += 1
        following, before = spoken[end] if end < len(words) else "", spoken[start - 1] if start else ""
        governs = following in lists.determiners | lists.subjects | _VERB_MARKS
        last = end - 1 if governs else end
        if last == start + 1 and following in lists.joining:
            last = start  # an adjective among others
        is_noun = before in lists.determiners | lists.prepositions or (words[start][:1].isupper() and start > 0)
        if is_noun and start < last <= start + LONGEST_PHRASE:
            yield _Phrase(tuple(word.strip(_EDGE) for word in words[start:last]), place + start)
        start = max(end, start + 1)


def _is_content(word: str, lists: WordLists) -> bool:
    parts = word.split("-")
    return (
        len(word) > 2
        and word not in lists.outside_phrases
        and not word.endswith("'s")
        and not any(part[:1].isdigit() or part in lists.number_words for part in parts)
        and not any(word.endswith(ending) for ending in lists.past_endings)
    )
