"""Cut removed words out of a clip's segments."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import groupby
from math import inf, nextafter

from tasks.core.edit.document import EditSegment
from tasks.core.transcript import Word

REACH = 0.1
"""Most seconds that a cut reaches into the silence beside a removed word: recognised times are that exact."""
SHORTEST_PART = 0.1
"""Shortest part that is played, in seconds. What removed words leave between them is often shorter."""


class SourceWords:
    """A source's words by index and by time. A word belongs to the segment that contains its middle."""

    def __init__(self, words: Sequence[Word]) -> None:
        self.words = words
        self._order = sorted(range(len(words)), key=lambda index: words[index].middle)
        self._middles = [words[index].middle for index in self._order]

    def inside(self, start: float, end: float) -> list[int]:
        """The indices of the words between two times, in the order in which they are spoken."""
        return self._order[bisect_left(self._middles, start) : bisect_left(self._middles, end)]


def played(segments: Sequence[EditSegment], removed: set[int], source: SourceWords) -> list[EditSegment]:
    """What is left of the segments without the removed words, in playing order; empty if nothing is."""
    return [part for segment in segments for part in _parts(segment, removed, source)]


def _parts(segment: EditSegment, removed: set[int], source: SourceWords) -> list[EditSegment]:
    inside = source.inside(segment.start, segment.end)
    if not any(index in removed for index in inside):
        return [segment]
    begins = segment.start
    parts: list[EditSegment] = []
    for is_removed, run in groupby(range(len(inside)), key=lambda place: inside[place] in removed):
        places = list(run)
        if is_removed:
            cut = _before(source.words, inside, places[0], segment), _after(source.words, inside, places[-1], segment)
            parts.append(segment.model_copy(update={"start": begins, "end": cut[0]}))
            begins = cut[1]
    parts.append(segment.model_copy(update={"start": begins}))
    return [part for part in parts if part.end - part.start >= SHORTEST_PART]


def _before(words: Sequence[Word], inside: list[int], place: int, segment: EditSegment) -> float:
    """Where the cut before a removed word begins; at the segment's start if no word is left before it."""
    if place == 0:
        return segment.start
    kept, gone = words[inside[place - 1]], words[inside[place]]
    return max(min(max(_between(kept, gone), gone.start - REACH), gone.middle), nextafter(kept.middle, inf))


def _after(words: Sequence[Word], inside: list[int], place: int, segment: EditSegment) -> float:
    """Where the cut after a removed word ends; at the segment's end if no word is left after it."""
    if place == len(inside) - 1:
        return segment.end
    gone, kept = words[inside[place]], words[inside[place + 1]]
    return min(max(min(_between(gone, kept), gone.end + REACH), nextafter(gone.middle, inf)), kept.middle)


def _between(before: Word, after: Word) -> float:
    """The middle of the silence between two words, or of the time in which both are said to be spoken."""
    return (before.end + after.start) / 2
