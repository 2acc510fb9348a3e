"""Check that a title or hook says only what is said in its clip, whoever wrote it."""

import unicodedata

import regex

from tasks.core.speech.writing_systems import TOKEN, UNSPACED

_JOINED = regex.compile(r"['\u2019-]")


def unspoken_words(text: str, said: str) -> list[str]:
    """The words of a text that are not spoken, in order.

    Case, punctuation and a possessive s are ignored. Compounds are compared part by part, scripts
    without spaces letter by letter. The word before a final ellipsis may be the start of a spoken word.
    """
    heard, run = _spoken_words(said)
    words = _parts(text)
    unspoken = [word for word in words if word not in heard and not (UNSPACED.search(word) and word in run)]
    cut_short = text.rstrip().endswith("\u2026") and unspoken and unspoken[-1] == words[-1]
    if cut_short and any(word.startswith(unspoken[-1]) for word in heard):
        unspoken.pop()
    return unspoken


def _spoken_words(said: str) -> tuple[frozenset[str], str]:
    """The spoken words, and all of them concatenated."""
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
    """Case-folded, in NFC. Turkish dotted and dotless i become one, because their capitals get confused."""
    folded = unicodedata.normalize("NFC", token.casefold())
    return folded.replace("i\u0307", "i").replace("\u0131", "i")
