"""What a better model hears differently in a part of the source, as corrections of the words heard first.

Edit documents name words by their place, so none is added or left out: a word that was missed joins the one before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from tasks.core.speech.punctuation import ends_sentence
from tasks.core.transcript import Word

LEAST_ALIKE = 0.6
"""Share of the words that both must have heard alike. With less, one of them made things up, and nothing is changed."""
FARTHEST = 1.0
"""Seconds between words that may be the same one."""
LONGEST_CHANGE = 4
"""Words in a row that may be replaced; longer runs were made up, or not heard the first time."""


@dataclass(frozen=True)
class SecondHearing:
    """Parts of the source, heard again: for each, the new text of words by their place among all words.

    `model` is the recogniser's; it is empty, and `fault` says why, if nothing could be heard.
    """

    corrected: list[dict[int, str]] = field(default_factory=list[dict[int, str]])
    model: str = ""
    fault: str | None = None

    @property
    def changed(self) -> dict[int, str]:
        """The corrections of all parts."""
        return {place: text for part in self.corrected for place, text in part.items()}


def corrections(first: Sequence[Word], again: Sequence[Word]) -> dict[int, str]:
    """New text for words of `first`, by their place in it. Punctuation around a word stays as it was first heard."""
    one, other = ([_letters(word.word) for word in words] for words in (first, again))
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    alike = sum(block.size for block in matcher.get_matching_blocks())
    if not alike or alike < LEAST_ALIKE * max(len(one), len(other)):
        return {}
    found: dict[int, str] = {}
    for kind, begin, end, from_, to in matcher.get_opcodes():
        if kind == "equal" or not 0 < to - from_ <= LONGEST_CHANGE:
            continue
        if kind == "insert":
            found |= _joined(first, begin - 1, again[from_:to])
        elif end - begin <= to - from_:
            found |= _replaced(first, begin, end, again[from_:to])
    return found


def _joined(first: Sequence[Word], place: int, missed: Sequence[Word]) -> dict[int, str]:
    """Words that were missed after the one at `place`. What lies before or after all others is not part of it."""
    return _replaced(first, place, place + 1, [first[place], *missed]) if 0 <= place < len(first) - 1 else {}


def _replaced(first: Sequence[Word], begin: int, end: int, heard: Sequence[Word]) -> dict[int, str]:
    """The places from `begin` to `end` with one of the words each, and the rest in the last."""
    if abs(first[begin].start - heard[0].start) > FARTHEST or abs(first[end - 1].end - heard[-1].end) > FARTHEST:
        return {}
    groups = [*([word] for word in heard[: end - begin - 1]), heard[end - begin - 1 :]]
    written = {place: _written(first, place, group) for place, group in zip(range(begin, end), groups, strict=True)}
    return written if all(map(_letters, written.values())) else {}


def _letters(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def _written(first: Sequence[Word], place: int, heard: Sequence[Word]) -> str:
    """What the words say, between the marks of the word that they replace."""
    old = first[place].word
    inner = [_without_marks(word.word) for word in heard]
    text = " ".join(part for part in inner if part)
    begins = place == 0 or ends_sentence(first[place - 1].word)
    if begins and old.lstrip("\"'([\u201c\u2018")[:1].isupper():
        text = text[:1].upper() + text[1:]
    return f"{old[: _marks(old)]}{text}{old[len(old) - _marks(old[::-1]) :]}"


def _marks(text: str) -> int:
    """How many characters at its beginning are neither letters nor digits."""
    return next((n for n, character in enumerate(text) if character.isalnum()), 0)


def _without_marks(text: str) -> str:
    return text[_marks(text) : len(text) - _marks(text[::-1])]
