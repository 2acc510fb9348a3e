"""Whether a title or hook says only what is said in its clip.

A text drawn from the transcript must consist of spoken words. An LLM may paraphrase, but numbers,
names and quotes must be spoken.
"""

import unicodedata
from collections.abc import Iterator

import regex

from tasks.core.choice.signals import stem
from tasks.core.speech.punctuation import OPENERS, ends_sentence
from tasks.core.speech.writing_systems import TOKEN, UNSPACED

_JOINED = regex.compile(r"['\u2019-]")
_NUMBER = regex.compile(r"\p{N}+")
_THOUSANDS = regex.compile(r"(?<=\p{N})[.,](?=\p{N}{3}(?!\p{N}))")
_QUOTED = regex.compile(r"[\u201c\u201e\u00ab\u300c\u300e]([^\u201d\u201c\u00bb\u300d\u300f]*)")
_BEFORE_WORD = " \t\u00bf\u00a1" + OPENERS


def unspoken_words(text: str, said: str) -> list[str]:
    """The words of a text that are not spoken, in order.

    Case, punctuation and a possessive s are ignored. Compounds are compared part by part, scripts
    without spaces letter by letter. A word before a final ellipsis may be the start of a spoken one.
    """
    heard, run = _heard(said)
    words = _parts(text)
    unspoken = [word for word in words if word not in heard and not (UNSPACED.search(word) and word in run)]
    cut_short = text.rstrip().endswith("\u2026") and unspoken and unspoken[-1] == words[-1]
    if cut_short and any(word.startswith(unspoken[-1]) for word in heard):
        unspoken.pop()
    return unspoken


def unspoken_facts(text: str, said: str) -> list[str]:
    """Facts of a text that nobody says: numbers, capitalised words within a sentence, quoted words.

    Numbers must be written as in `said`; names may have another ending. Empty if all words are spoken.
    """
    if not unspoken_words(text, said):
        return []
    text = unicodedata.normalize("NFC", text)
    numbers = frozenset(_numbers(said))
    stems = {stem(part)[:5] for part in _parts(said)}
    unspoken = [number for number in _numbers(text) if number not in numbers]
    unspoken += [name for name in _names(text) if stem(name)[:5] not in stems]
    unspoken += unspoken_words(" ".join(_quotes(text)), said)
    return list(dict.fromkeys(unspoken))


def _numbers(text: str) -> list[str]:
    return _NUMBER.findall(_THOUSANDS.sub("", text))


def _names(text: str) -> Iterator[str]:
    """Capitalised words within a sentence except the English I; none in scripts without spaces."""
    for found in TOKEN.finditer(text):
        before = text[: found.start()].rstrip(_BEFORE_WORD)
        if not before or before[-1] == ":" or ends_sentence(before) or UNSPACED.search(found.group()):
            continue
        for part in _JOINED.split(found.group()):
            if part[0].isupper() and part != "I":
                yield from _parts(part)


def _quotes(text: str) -> list[str]:
    """Quoted passages, or the whole text if a straight quotation mark is unpaired."""
    pieces = text.split('"')
    straight = pieces[1::2] if len(pieces) % 2 else [text]
    return straight + _QUOTED.findall(text)


def _heard(said: str) -> tuple[frozenset[str], str]:
    """The spoken words, and all their letters joined."""
    parts = _parts(said)
    return frozenset(parts), "".join(parts)


def _parts(text: str) -> list[str]:
    """Words normalised for comparison: case-folded, compounds split, without a possessive s."""
    found: list[str] = []
    for token in TOKEN.findall(unicodedata.normalize("NFC", text)):
        first, *rest = _JOINED.split(_folded(token))
        found += [first, *(part for part in rest if part != "s")]
    return found


def _folded(token: str) -> str:
    """Case-folded, in NFC. Turkish dotted and dotless i become one, because capitals mix them."""
    folded = unicodedata.normalize("NFC", token.casefold())
    return folded.replace("i\u0307", "i").replace("\u0131", "i")
