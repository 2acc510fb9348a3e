"""Whether a title or a hook tells only what is said in its clip.

A drawn text must consist of said words. An LLM may paraphrase, but what it states as fact must be
said: numbers, names and quotes.
"""

import unicodedata
from collections.abc import Iterator

import regex

from tasks.core.choice.signals import stem
from tasks.core.speech.marks import OPENERS, ends_sentence
from tasks.core.speech.scripts import TOKEN, UNSPACED

_JOINED = regex.compile(r"['\u2019-]")
_NUMBER = regex.compile(r"\p{N}+")
_THOUSANDS = regex.compile(r"(?<=\p{N})[.,](?=\p{N}{3}(?!\p{N}))")
_QUOTED = regex.compile(r"[\u201c\u201e\u00ab\u300c\u300e]([^\u201d\u201c\u00bb\u300d\u300f]*)")
_BEFORE_WORD = " \t\u00bf\u00a1" + OPENERS


def strange_words(text: str, said: str) -> list[str]:
    """The words of a text that are not among those said, in order.

    Case, punctuation and a possessive s do not count; compounds are compared part by part. Scripts
    without spaces are compared letter for letter. A word that an ellipsis cuts short may be the
    start of a said one.
    """
    heard, run = _heard(said)
    words = _parts(text)
    strange = [word for word in words if word not in heard and not (UNSPACED.search(word) and word in run)]
    cut_short = text.rstrip().endswith("\u2026") and strange and strange[-1] == words[-1]
    if cut_short and any(word.startswith(strange[-1]) for word in heard):
        strange.pop()
    return strange


def strange_facts(text: str, said: str) -> list[str]:
    """What a text states and nobody says: numbers, capitalised words inside a sentence, quoted words.

    Numbers must be written as in `said`; names may have another ending. A text of said words alone
    states nothing strange.
    """
    if not strange_words(text, said):
        return []
    told = unicodedata.normalize("NFC", text)
    numbers = frozenset(_numbers(said))
    stems = {stem(part)[:5] for part in _parts(said)}
    strange = [number for number in _numbers(told) if number not in numbers]
    strange += [name for name in _names(told) if stem(name)[:5] not in stems]
    strange += strange_words(" ".join(_quotes(told)), said)
    return list(dict.fromkeys(strange))


def _numbers(text: str) -> list[str]:
    return _NUMBER.findall(_THOUSANDS.sub("", text))


def _names(text: str) -> Iterator[str]:
    """Capitalised words that begin no sentence, other than the English I; nothing where no spaces part words."""
    for found in TOKEN.finditer(text):
        before = text[: found.start()].rstrip(_BEFORE_WORD)
        if not before or before[-1] == ":" or ends_sentence(before) or UNSPACED.search(found.group()):
            continue
        for part in _JOINED.split(found.group()):
            if part[0].isupper() and part != "I":
                yield from _parts(part)


def _quotes(text: str) -> list[str]:
    """Quoted stretches; the whole text where a straight quotation mark has lost its partner."""
    pieces = text.split('"')
    straight = pieces[1::2] if len(pieces) % 2 else [text]
    return straight + _QUOTED.findall(text)


def _heard(said: str) -> tuple[frozenset[str], str]:
    """The words said, and all their letters in a row."""
    parts = _parts(said)
    return frozenset(parts), "".join(parts)


def _parts(text: str) -> list[str]:
    """Words in a form that compares: folded, compounds in parts, without a possessive s."""
    found: list[str] = []
    for token in TOKEN.findall(unicodedata.normalize("NFC", text)):
        first, *rest = _JOINED.split(_folded(token))
        found += [first, *(part for part in rest if part != "s")]
    return found


def _folded(token: str) -> str:
    """Casefolded and NFC; the Turkish letters without and with a dot become one, since capitals mix them."""
    folded = unicodedata.normalize("NFC", token.casefold())
    return folded.replace("i\u0307", "i").replace("\u0131", "i")
