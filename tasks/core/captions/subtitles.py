"""Subtitle files for a clip: SubRip (`.srt`) and WebVTT (`.vtt`).

Unlike the captions in the picture, these are lines to read: whole clauses where possible, at most two lines of
42 characters, and slow enough to follow. The limits are those of Netflix's Timed Text Style Guide for English.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from pydantic import BaseModel

from infra.untrusted_text import one_line
from tasks.core.speech.punctuation import CLAUSE_FINAL, ends_sentence
from tasks.core.speech.sentences import ends_turn, join
from tasks.core.speech.writing_systems import (
    clusters,
    direction_mark,
    regroup,
    runs_right_to_left,
    whole_letters,
)
from tasks.core.transcript import Word

LINE_COLUMNS = 42
"""Longest line; a Chinese, Japanese or Korean character takes two columns."""
LINES = 2
COLUMNS_PER_SECOND = 20.0
"""Fastest text that most people can follow."""
LONGEST_CUE, SHORTEST_CUE = 7.0, 1.0
"""Seconds on screen; the shorter bound holds where the speech leaves room."""
_PAUSE = 0.8
"""Shortest silence in seconds that always ends a cue."""
_HOLD = 1.5
"""Most seconds that a cue stays after its last word, to give time to read it."""
_TAG = re.compile(r"([<{])(?=[/\\A-Za-z])")
_BREAK_GUARD = "\u2060"
"""Word joiner: invisible."""
_TOO_FAST = 20.0
"""Cost of a cue that is too fast to read: more than that of any break."""


class Cue(BaseModel):
    """One or two lines of text, from `start` to `end` in seconds of the clip."""

    start: float
    end: float
    lines: list[str]


def cues(words: Sequence[Word], language: str, duration: float) -> list[Cue]:
    """The words as cues in playing order, none overlapping the next.

    Args:
        words: on the clip's clock, in scripts without spaces as phrases. Their text is untrusted.
        language: Whisper code; decides the direction of a line.
        duration: length of the clip in seconds; no cue is longer on screen.
    """
    readable = _readable(words, duration)
    starts = [word.start for word in readable] + [duration]
    found: list[Cue] = []
    for first, last in _divided(readable, starts):
        group = readable[first:last]
        width = columns(join(word.word for word in group))
        lines = [_directed(line, language) for line in _two_lines(group)]
        found.append(Cue(start=group[0].start, end=_end(group, width, starts[last]), lines=lines))
    return found


def srt(found: Sequence[Cue]) -> str:
    """The cues as SubRip."""
    blocks = (
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{_srt_text(cue)}\n"
        for number, cue in enumerate(found, start=1)
    )
    return "\n".join(blocks)


def vtt(found: Sequence[Cue]) -> str:
    """The cues as WebVTT."""
    blocks = (
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{html.escape(_text(cue), quote=False)}\n"
        for cue in found
    )
    return "\n".join(["WEBVTT\n", *blocks])


def columns(text: str) -> int:
    """Width of a text in columns: 2 for wide characters, 0 for combining marks and invisible ones."""
    return sum(_columns_of(character) for character in text)


def _columns_of(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _readable(words: Sequence[Word], duration: float) -> list[Word]:
    """Visible words by time, within the clip; words longer than a line in parts.

    None starts before the one ahead of it, even if that is the last part of a word that overlaps the next.
    """
    ordered = sorted(whole_letters(sorted(words, key=lambda word: word.start)), key=lambda word: word.start)
    found: list[Word] = []
    for word in ordered:
        text = one_line(word.word)
        start = max([0.0, word.start, *(before.start for before in found[-1:])])
        if text and start < duration:
            times = {"start": start, "end": min(max(word.end, start), duration)}
            found += _parts(word.model_copy(update={"word": text, **times}))
    return found


def _parts(word: Word) -> list[Word]:
    if columns(word.word) <= LINE_COLUMNS:
        return [word]
    letters = clusters(word.word)
    most = max(LINE_COLUMNS // max(columns(letter) for letter in letters), 1)
    pieces = ["".join(letters[first : first + most]) for first in range(0, len(letters), most)]
    return regroup([word], pieces)


@dataclass(frozen=True)
class _Widths:
    """Columns of any run of words: `gaps` before each word, `edges` their sums up to each word's end, from 0."""

    gaps: list[int]
    edges: list[int]

    @classmethod
    def of(cls, words: list[Word]) -> "_Widths":
        own = [columns(word.word) for word in words]
        pairs = [columns(join((a.word, b.word))) for a, b in pairwise(words)]
        gaps = [0, *(pair - a - b for pair, (a, b) in zip(pairs, pairwise(own), strict=True))]
        return cls(gaps, [0, *accumulate(gap + width for gap, width in zip(gaps, own, strict=False))])

    def run(self, first: int, last: int) -> int:
        """Columns of the words from `first` up to but excluding `last`, on one line."""
        return self.edges[last] - self.edges[first] - self.gaps[first]

    def fit(self, first: int, last: int) -> bool:
        """Whether the words fit on two lines."""
        return any(self.run(first, cut) <= LINE_COLUMNS >= self.run(cut, last) for cut in range(first + 1, last))


def _divided(words: list[Word], starts: list[float]) -> list[tuple[int, int]]:
    """First and last (excluded) word of each cue, chosen to end cues where a sentence, clause or pause does."""
    widths = _Widths.of(words)
    best: list[tuple[float, int]] = [(0.0, 0)]
    for last in range(1, len(words) + 1):
        chosen = (float("inf"), last - 1)
        for first in range(last - 1, -1, -1):
            if first < last - 1 and not _may_join(words, widths, first, last):
                break
            cost = _cost(words[first:last], widths.run(first, last), starts[last])
            chosen = min(chosen, (best[first][0] + cost, first))
        best.append(chosen)
    groups: list[tuple[int, int]] = []
    last = len(words)
    while last:
        first = best[last][1]
        groups.append((first, last))
        last = first
    return groups[::-1]


def _may_join(words: list[Word], widths: _Widths, first: int, last: int) -> bool:
    """Whether the words can share a cue: no pause or end of a turn after the first, short enough, and they fit."""
    return (
        not ends_turn(words, first)
        and words[first + 1].start - words[first].end < _PAUSE
        and words[last - 1].end - words[first].start <= LONGEST_CUE
        and widths.fit(first, last)
    )


def _cost(group: list[Word], width: int, following: float) -> float:
    """How badly a group of `width` columns reads as a cue. `following` is when the next word starts."""
    seconds = _end(group, width, following) - group[0].start
    speed = width / max(seconds, 0.001)
    last = group[-1].word
    ending = 0.0 if ends_sentence(last) else 0.4 if last.endswith(tuple(CLAUSE_FINAL)) else 1.0
    hurried = _TOO_FAST * max(speed / COLUMNS_PER_SECOND - 1, 0.0)
    return 0.5 + ending + hurried + max(SHORTEST_CUE - seconds, 0.0)


def _end(group: list[Word], width: int, following: float) -> float:
    """When a cue leaves the screen: after its last word, and later if it takes longer to read and there is room."""
    wanted = max(group[0].start + max(width / COLUMNS_PER_SECOND, SHORTEST_CUE), group[-1].end)
    latest = min(following, group[-1].end + _HOLD)
    return max(min(wanted, latest), group[0].start)


def _two_lines(group: list[Word]) -> list[str]:
    """The group's text on one line if it fits, else on two of similar width, the first ending at a comma if close."""
    texts = [word.word for word in group]
    whole = join(texts)
    if columns(whole) <= LINE_COLUMNS or len(texts) == 1:
        return [whole]
    breaks = [(join(texts[:cut]), join(texts[cut:])) for cut in range(1, len(texts))]
    return list(min(breaks, key=_imbalance))


def _imbalance(lines: tuple[str, str]) -> float:
    widths = [columns(line) for line in lines]
    ends_well = ends_sentence(lines[0]) or lines[0].endswith(tuple(CLAUSE_FINAL))
    bonus = LINE_COLUMNS / 6 if ends_well else 0.0
    return max(widths) + (1000.0 if max(widths) > LINE_COLUMNS else 0.0) - bonus


def _directed(line: str, language: str) -> str:
    return direction_mark(line, right_to_left=runs_right_to_left(line, language)) + line


def _text(cue: Cue) -> str:
    return "\n".join(cue.lines)


def _srt_text(cue: Cue) -> str:
    """The text, without what players take for a tag or for a line of times."""
    return _TAG.sub(f"\\1{_BREAK_GUARD}", _text(cue)).replace("-->", f"--{_BREAK_GUARD}>")


def _clock(seconds: float, mark: str) -> str:
    milliseconds = max(round(seconds * 1000), 0)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{mark}{rest % 1000:03d}"
