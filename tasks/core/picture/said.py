"""What is said while a picture is shown: when sentences begin, and whose turn it is."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tasks.core.transcript import Word

LONGEST_PAUSE = 1.0
"""Seconds without a word that do not end a turn."""


class Turn(NamedTuple):
    """A speaker's words without another's or a long pause between them, in seconds of the source."""

    speaker: int
    start: float
    end: float


class Said(NamedTuple):
    """What is said in a stretch of the source: when sentences begin, and whose turn it is if speakers are known."""

    sentences: Sequence[float] = ()
    turns: Sequence[Turn] = ()

    def between(self, start: float, end: float) -> "Said":
        """What is said between two times."""
        turns = [turn for turn in self.turns if turn.start < end and turn.end > start]
        return Said([t for t in self.sentences if start <= t < end], turns)


NOTHING_SAID = Said()


def turns(words: Iterable[Word]) -> list[Turn]:
    """The turns of all words whose speaker is known."""
    found: list[Turn] = []
    for word in words:
        if word.speaker is None:
            continue
        last = found[-1] if found else None
        if last and last.speaker == word.speaker and word.start - last.end <= LONGEST_PAUSE:
            found[-1] = last._replace(end=max(last.end, word.end))
        else:
            found.append(Turn(word.speaker, word.start, word.end))
    return found
