"""Speech as it would be written: without the sounds and repeats of a speaker who thinks."""

from collections.abc import Set as AbstractSet

from tasks.core.choice.signals import tokens
from tasks.core.speech.punctuation import CLAUSE_FINAL
from tasks.core.speech.wordlists import WordLists

LONGEST_REPEAT = 3
"""Most words that are taken back and said again: "with the, with the ice"."""


def fluent(text: str, sounds: AbstractSet[str], lists: WordLists | None) -> str:
    """The text without `sounds`, such as "um", and without words that are said again at once."""
    kept: list[str] = []
    spoken: list[str] = []
    for word in text.split():
        token = (tokens(word) or [""])[0]
        if token in sounds:
            if spoken and lists is not None and spoken[-1] in lists.function_words | lists.openers:
                kept[-1] = kept[-1].rstrip(CLAUSE_FINAL)
            continue
        kept.append(word)
        spoken.append(token)
        if lists is not None and (length := _repeated(spoken, lists)):
            del kept[-2 * length : -length], spoken[-2 * length : -length]
    return " ".join(kept)


def _repeated(spoken: list[str], lists: WordLists) -> int:
    """Number of words at the end that repeat as many before them; a single word counts only if it means nothing."""
    for length in range(LONGEST_REPEAT, 0, -1):
        again = spoken[-length:]
        if len(spoken) >= 2 * length and again == spoken[-2 * length : -length] and all(again):
            return length if length > 1 or again[0] in lists.stop else 0
    return 0
