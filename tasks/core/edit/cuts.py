"""Cut removed words out of a clip's segments, and in a tight clip long pauses and fillers too."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby, pairwise
from math import inf, nextafter
from typing import NamedTuple

from tasks.core.edit.document import EditSegment, transcript_words
from tasks.core.edl import EdlClip
from tasks.core.speech.punctuation import ends_sentence
from tasks.core.speech.wordlists import fillers, slips
from tasks.core.speech.writing_systems import TOKEN
from tasks.core.transcript import Speech, Word

REACH = 0.1
"""Most seconds that a cut reaches into the silence beside a removed word: recognised times are that exact."""
SHORTEST_PART = 0.1
"""Shortest part that is played, in seconds. What removed words leave between them is often shorter."""
LONGEST_PAUSE, LEFT_SILENT = 0.6, 0.15
"""In a tight clip: the longest silence that stays as it is, and the seconds that are left of others on each side."""
LONGEST_REPEAT, LONGEST_GAP = 3, 1.0
"""Words that are said again because their speaker began anew, and the seconds between two of them."""
MOST_TIGHT_PARTS = 60
"""Parts of a tight clip; of more, the shortest pauses and fillers stay."""


class Cut(NamedTuple):
    """Seconds of the source that are left out. `asked` means that a person removed a word in it."""

    start: float
    end: float
    asked: bool = True


class SourceWords:
    """A source's words by index and by time. A word belongs to the segment that contains its middle.

    `fillers` are the indices of words that a tight clip leaves out.
    """

    def __init__(self, words: Sequence[Word], fillers: Iterable[int] = ()) -> None:
        self.words, self.fillers = words, frozenset(fillers)
        self._order = sorted(range(len(words)), key=lambda index: words[index].middle)
        self._middles = [words[index].middle for index in self._order]

    @classmethod
    def of(cls, speech: Speech) -> "SourceWords":
        return cls(transcript_words(speech.segments), filler_words(speech))

    def inside(self, start: float, end: float) -> list[int]:
        """The indices of the words between two times, in the order in which they are spoken."""
        return self._order[bisect_left(self._middles, start) : bisect_left(self._middles, end)]


class TightClock:
    """How much of a source is left in tight clips: tells the time without all that they leave out."""

    def __init__(self, source: SourceWords) -> None:
        until = max((word.end for word in source.words), default=0.0) + 1.0
        cuts = _cuts(EditSegment(start=0.0, end=until), set(), source, tight=True)
        self._starts, self._ends = [cut.start for cut in cuts], [cut.end for cut in cuts]
        self._before = list(accumulate((cut.end - cut.start for cut in cuts), initial=0.0))

    def __call__(self, t: float) -> float:
        """Seconds before `t` that tight clips keep."""
        begun = bisect_left(self._starts, t)
        inside = max(self._ends[begun - 1] - t, 0.0) if begun else 0.0
        return t - self._before[begun] + inside


def filler_words(speech: Speech) -> frozenset[int]:
    """The indices of the words that are fillers in the language of their segment, or are said again right after."""
    spoken = [(word, segment.language or speech.language) for segment in speech.segments for word in segment.words]
    sounds = {index for index, (word, code) in enumerate(spoken) if is_filler(word, code)}
    rest = [index for index in range(len(spoken)) if index not in sounds]
    repeated = _said_again([spoken[index][0] for index in rest], [spoken[index][1] for index in rest])
    return frozenset(sounds | {rest[place] for place in repeated})


def _said_again(words: Sequence[Word], languages: Sequence[str]) -> set[int]:
    """The places of words whose speaker began anew: up to three in a row, the last of which nobody says twice."""
    texts = [_letters(word) for word in words]
    found: set[int] = set()
    for place in range(len(words)):
        for length in range(1, LONGEST_REPEAT + 1):
            first, again = texts[place : place + length], texts[place + length : place + 2 * length]
            is_slip = first == again and first[-1] in slips(languages[place])
            if is_slip and _is_one_breath(words, place, 2 * length) and not _is_name(words, place + length - 1):
                found.update(range(place, place + length))
    return found


def _is_name(words: Sequence[Word], place: int) -> bool:
    """Whether a word is a letter that ends a phrase, as in "vitamin A, a nutrient": no clause begins with it."""
    text = words[place].word
    ends_phrase = len(_letters(words[place])) == 1 and text[:1].isupper() and not text[-1:].isalnum()
    return ends_phrase and place > 0 and words[place - 1].word[-1:].isalnum()


def _is_one_breath(words: Sequence[Word], first: int, count: int) -> bool:
    """Whether so many words are one speaker's, and no sentence or long pause ends between them."""
    pairs = pairwise(words[first : first + count])
    return all(
        one.speaker == other.speaker and other.start - one.end < LONGEST_GAP and not ends_sentence(one.word)
        for one, other in pairs
    )


def is_filler(word: Word, language: str) -> bool:
    """Whether a word is a filler in its language, a Whisper code."""
    return _letters(word) in fillers(language)


def _letters(word: Word) -> str:
    """The word in lower case, without marks around it."""
    return "".join(TOKEN.findall(word.word.lower()))


def played(
    segments: Sequence[EditSegment], removed: set[int], source: SourceWords, *, tight: bool = False
) -> list[EditSegment]:
    """What is left of the segments without the removed words, in playing order; empty if nothing is.

    In a `tight` clip, fillers and all but a little of long pauses are left out too.
    """
    cuts = [_cuts(segment, removed, source, tight=tight) for segment in segments]
    optional = sorted((cut for found in cuts for cut in found if not cut.asked), key=lambda cut: cut.start - cut.end)
    asked = sum(cut.asked for found in cuts for cut in found)
    kept = set(optional[: max(MOST_TIGHT_PARTS - len(segments) - asked, 0)])
    return [
        part
        for segment, found in zip(segments, cuts, strict=True)
        for part in _parts(segment, [cut for cut in found if cut.asked or cut in kept])
    ]


def left_out(clip: EdlClip, source: SourceWords) -> float:
    """The seconds of a clip that are left out if it is tight."""
    segments = [EditSegment(start=span.start, end=span.end) for span in clip.segments]
    return clip.duration - sum(part.end - part.start for part in played(segments, set(), source, tight=True))


def _parts(segment: EditSegment, cuts: Sequence[Cut]) -> list[EditSegment]:
    if not cuts:
        return [segment]
    begins = [segment.start, *(cut.end for cut in cuts)]
    ends = [*(cut.start for cut in cuts), segment.end]
    parts = [segment.model_copy(update={"start": a, "end": b}) for a, b in zip(begins, ends, strict=True)]
    return [part for part in parts if part.end - part.start >= SHORTEST_PART]


def _cuts(segment: EditSegment, removed: set[int], source: SourceWords, *, tight: bool) -> list[Cut]:
    """What is cut out of a segment, in order, without overlaps."""
    inside, words = source.inside(segment.start, segment.end), source.words
    gone = removed | source.fillers if tight else removed
    ended, resumes = _silences([None if index in gone else words[index] for index in inside])
    cuts: list[Cut] = []
    for is_gone, run in groupby(range(len(inside)), key=lambda place: inside[place] in gone):
        places = list(run)
        if is_gone:
            start, end = _before(words, inside, places[0], segment), _after(words, inside, places[-1], segment)
            if tight and places[0] > 0:
                start = min(start, ended[places[0] - 1] + LEFT_SILENT)
            if tight and places[-1] < len(inside) - 1:
                end = max(end, resumes[places[-1] + 1] - LEFT_SILENT)
            cuts.append(Cut(start, end, asked=any(inside[place] in removed for place in places)))
        elif tight:
            cuts += [
                Cut(ended[a] + LEFT_SILENT, resumes[b] - LEFT_SILENT, asked=False)
                for a, b in pairwise(places)
                if resumes[b] - ended[a] > LONGEST_PAUSE
            ]
    return cuts


def _silences(words: Sequence[Word | None]) -> tuple[list[float], list[float]]:
    """For each word, when it and all before it have ended, and when the first of it and all after it begins.

    Words may overlap. None is a word that is cut out.
    """
    ended = list(accumulate((word.end if word else -inf for word in words), max))
    resumes = list(accumulate((word.start if word else inf for word in reversed(words)), min))[::-1]
    return ended, resumes


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
