"""How much each sentence is about a topic that was asked for, by its words."""

import unicodedata
from collections.abc import Sequence

import numpy as np

from tasks.core.choice.windows import Floats, Windows, window_sums
from tasks.core.edl import TopicMatch
from tasks.core.speech.terms import Line, tokens
from tasks.core.speech.wordlists import word_lists
from tasks.core.speech.writing_systems import UNSPACED

_SHARED, _SHARED_SHARE, _ENDING = 4, 0.6, 2
"""Words are forms of one if they begin with as many same letters, this share of the longer one, and the shorter one
ends within as many letters."""
_HALF = 0.5
"""What a term adds when it is said once, as a share of what it adds at most; each time more adds half of the rest."""


def topic_terms(topic: str, languages: Sequence[str]) -> list[str]:
    """The words of a topic that carry meaning in the talk's languages; all words if none does."""
    stop = frozenset[str]().union(*(lists.stop for code in languages if (lists := word_lists(code))))
    words = list(dict.fromkeys(plain(token) for token in tokens(topic)))
    return [word for word in words if word not in stop and (len(word) > 1 or UNSPACED.match(word))] or words


def plain(word: str) -> str:
    """The word without accents, for comparison."""
    letters = unicodedata.normalize("NFKD", word.casefold())
    return unicodedata.normalize("NFC", "".join(c for c in letters if not unicodedata.combining(c)))


def is_form_of(one: str, other: str) -> bool:
    """Whether two words, from `plain`, are likely forms of one word: piano and pianos, child and children."""
    short, long = sorted((one, other), key=len)
    if one == other or (len(short) == _SHARED - 1 and long == short + "s"):
        return True
    same = next((i for i, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))
    return same >= max(_SHARED, _SHARED_SHARE * len(long)) and len(short) - same <= _ENDING


def mentions(line: Line, term: str) -> int:
    """How often a sentence says the term. In scripts without spaces, wherever its letters occur."""
    if UNSPACED.search(term):
        return plain(line.sentence.text).count(term)
    return sum(is_form_of(plain(word), term) for word in line.words)


def topic_signal(lines: Sequence[Line], terms: Sequence[str], windows: Windows) -> Floats:
    """How much of the topic each window mentions, 0 to 1. Rare terms count more."""
    total = window_sums(windows)
    signal, most = np.zeros(len(windows)), 0.0
    for term in terms:
        said = [mentions(line, term) for line in lines]
        weight = float(np.log((len(lines) + 1) / (np.count_nonzero(said) + 0.5)))
        signal += weight * (1 - _HALF ** total(said))
        most += weight
    return signal / max(most, 1e-9)


def match_topic(topic: str, lines: Sequence[Line], terms: Sequence[str]) -> TopicMatch:
    return TopicMatch(topic=topic, terms={term: sum(mentions(line, term) > 0 for line in lines) for term in terms})
