"""Captions as an ASS script: a few words at a time, the spoken one highlighted.

Each state of the screen is one Dialogue event, and events never overlap, so there is never more than
one caption on screen. All states of a group have the same text, so lines stay in place while the
highlight moves. libass shapes and orders right-to-left text; the colour changes only between words,
which keeps ligatures intact. libass takes a line's direction from its first letter, so a line that starts
with a foreign word gets an invisible direction mark.

Where the preset's spoken word pops, its state is two events with the same text. In the first, that word is
transparent. In the second, which lies above, all others are, and the word grows. The text is centred both ways: a
word that grows pushes the rest of its line apart equally on both sides, and the other line away equally up and down,
so its own centre stays where it was. This needs no measured widths, and so holds in every script and font. A word
grows less if its neighbours are close or its line is full, and not at all if it has next to no room.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import NamedTuple

from infra.untrusted_text import JOINERS, one_line
from tasks.core.captions.presets import CLASSIC, LINE, SIDE, Colour, Look
from tasks.core.speech.punctuation import CLAUSE_FINAL, ends_sentence
from tasks.core.speech.sentences import ends_a_sentence
from tasks.core.speech.wordlists import abbreviations, word_lists
from tasks.core.speech.writing_systems import (
    TOKEN,
    UNSPACED,
    capitals,
    clusters,
    direction_mark,
    runs_right_to_left,
    whole_letters,
)
from tasks.core.transcript import Word

_CLAUSE = 4
"""Number of words from which on a comma ends a group."""
_LEADS_ON = 1.5
"""Cost of a group that ends on a word that leads on to the next, where a group costs 1."""
_RAGGED, _TOO_WIDE = 12.0, 10.0
"""Em of width that a line break after such a word costs; how much more an em beyond the room costs."""
_SHORT = 3
"""Letters of a word that may lead on, in a language without word lists."""
_PAUSE = 0.6
"""Shortest silence in seconds that ends a group."""
_HOLD = 0.3
"""Seconds that a group stays on screen after its last word, unless the next group begins."""
_POP_SECONDS = 0.09
"""How long a word takes to grow, and to shrink again before the next one is said."""
_GAP, _NO_GAP = 0.2, 0.06
"""Em by which a word may grow towards a neighbour, with a space between them and without."""
_WIDE_SPACE = 1.6
"""Width of a space where words pop, in spaces of the font, which are narrow: 0.19 em in Poppins ExtraBold."""
_LEAST_POP = 0.02
"""Share by which a word must be able to grow to pop at all."""
_UNSPACED = {"zh", "yue", "ja", "th", "lo", "my", "km", "bo"}
"""Whisper's languages without spaces between words."""
_BREAK_GUARD = "\u2060"
"""Word joiner: invisible; it keeps a backslash and a letter from forming a command."""


@dataclass(frozen=True)
class _Layout:
    """The width available for text, in em, the language, and the look."""

    room: float
    language: str
    look: Look

    def leads_on(self, before: Word, after: Word) -> float:
        """How much a break between the two words disturbs, from 0 to 1: "the | house", "Mr. | Hall"."""
        word = _bare(before.word)
        if word in abbreviations().never_last and before.word.endswith("."):
            return 1.0
        if before.word.endswith(tuple(CLAUSE_FINAL)) or ends_sentence(before.word):
            return 0.0
        if word[-1:].isdigit() and _bare(after.word)[:1].isdigit():
            return 1.0
        lists = word_lists(self.language)
        if lists is not None:
            return float(word in lists.function_words)
        is_short = len(word) <= _SHORT and word.isalpha() and not UNSPACED.search(word)
        return 0.5 * is_short

    @property
    def unspaced(self) -> bool:
        return self.language in _UNSPACED

    def between(self, before: Word, after: Word) -> str:
        """The separator between two words of a line: empty in scripts without spaces, whatever the language."""
        if self.unspaced:
            return " " if before.word[-1].isascii() and after.word[0].isascii() else ""
        return "" if UNSPACED.search(before.word[-2:]) and UNSPACED.match(after.word) else " "


@dataclass(frozen=True)
class _Group:
    """Words that are on screen together. `lines` are their indices; `scale` shrinks text that is too wide."""

    words: list[Word]
    lines: list[list[int]]
    scale: float

    @property
    def percent(self) -> int:
        return round(self.scale * 100)


@dataclass(frozen=True)
class Typeface:
    """A font face as libass knows it, such as "Poppins ExtraBold".

    `line` is the height of a line in em (winAscent + winDescent over unitsPerEm), `width` the width of letters
    relative to those of Poppins ExtraBold.
    """

    name: str
    line: float = LINE
    width: float = 1.0


def ass(words: list[Word], size: tuple[int, int], language: str, face: Typeface, look: Look = CLASSIC) -> str:
    """An ASS script for words on the clip's clock.

    Args:
        words: in playing order; their text is untrusted and gets escaped.
        size: width and height of the output picture in pixels.
        language: Whisper code; decides whether words are joined without spaces.
        face: the font.
        look: the preset and where the captions are.
    """
    em = look.em(size)
    room = ((1 - 2 * SIDE) * size[0] / em - 2 * look.preset.padding) / face.width
    layout = _Layout(room=room, language=language, look=look)
    groups = [_lay_out(group, layout) for group in _group_words(_visible_words(words, layout), layout)]
    place = f"\\an5\\pos({size[0] // 2},{round(size[1] * look.centre(size, face.line))})"
    events = [line for i, g in enumerate(groups) for line in _events(g, _group_end(groups, i), place, layout)]
    return _header(size, em, face, look) + "\n".join(events) + "\n"


def _header(size: tuple[int, int], em: float, face: Typeface, look: Look) -> str:
    preset = look.preset
    text = _colour(preset.text)
    # Style 4 is libass's own: one box around all lines, in the colour of the shadow and as much larger as it is deep.
    border, depth = (4, preset.padding) if preset.box else (1, preset.shadow)
    behind = _colour(preset.box) if preset.box else "&H80000000"
    return (
        "[Script Info]\nScriptType: v4.00+\nWrapStyle: 2\nScaledBorderAndShadow: yes\nYCbCr Matrix: TV.709\n"
        f"PlayResX: {size[0]}\nPlayResY: {size[1]}\n\n"
        "[V4+ Styles]\nFormat: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, "
        "Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, "
        "MarginL, MarginR, MarginV, Encoding\n"
        f"Style: Caption,{face.name},{round(em * face.line)},{text},{text},&H00000000,{behind},"
        f"0,0,0,0,100,100,0,0,{border},{em * preset.outline:.1f},{em * depth:.1f},5,0,0,0,-1\n\n"
        "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    )


def _colour(rgb: Colour) -> str:
    return "&H00{2:02X}{1:02X}{0:02X}".format(*rgb)


def spelled(text: str, look: Look, language: str) -> str:
    """The text as the preset writes it."""
    return capitals(text, language) if look.preset.capitals else text


def _bare(word: str) -> str:
    """The word in lower case, without punctuation."""
    found = TOKEN.search(word)
    return found[0].casefold().replace("\u2019", "'") if found else ""


def visible_text(text: str) -> str:
    """The text without line breaks and invisible characters (control, direction, unassigned)."""
    return one_line(text)


def escape(text: str) -> str:
    """Escape text from `visible_text` for libass, leaving no active tags or commands."""
    return text.replace("\\", "\\" + _BREAK_GUARD).replace("{", "\\{").replace("}", "\\}")


def _visible_words(words: list[Word], layout: _Layout) -> list[Word]:
    """The visible words sorted by time, each ending by the start of the next."""
    whole = whole_letters(sorted(words, key=lambda w: w.start))
    texts = [spelled(visible_text(w.word), layout.look, layout.language) for w in whole]
    drawn = [
        w.model_copy(update={"word": text, "end": max(w.end, w.start)})
        for w, text in zip(whole, texts, strict=True)
        if text
    ]
    parts = sorted((part for w in drawn for part in _split(w, layout)), key=lambda w: w.start)
    ends = [*(w.start for w in parts[1:]), float("inf")]
    return [w.model_copy(update={"end": min(w.end, e)}) for w, e in zip(parts, ends, strict=False)]


def _split(word: Word, layout: _Layout) -> list[Word]:
    """The word, or, if it is too wide even when shrunk, its parts with their shares of its time."""
    wide = text_width(word.word)
    if wide <= layout.room * (1 if layout.unspaced else 2):
        return [word]
    letters = clusters(word.word)
    length = ceil(len(letters) / ceil(wide / layout.room))
    texts = ["".join(letters[i : i + length]) for i in range(0, len(letters), length)]
    step = (word.end - word.start) / len(texts)
    return [
        word.model_copy(update={"word": text, "start": word.start + i * step, "end": word.start + (i + 1) * step})
        for i, text in enumerate(texts)
    ]


def _group_words(words: list[Word], layout: _Layout) -> list[list[Word]]:
    """Group words to be read together, never across a pause, or the end of a sentence or turn."""
    runs: list[list[Word]] = []
    for i, word in enumerate(words):
        if runs and not _is_break(words, i - 1):
            runs[-1].append(word)
        else:
            runs.append([word])
    return [group for run in runs for group in _split_run(run, layout)]


def _is_break(words: list[Word], place: int) -> bool:
    """Whether a pause comes after a word, or a sentence or turn ends with it."""
    return words[place + 1].start - words[place].end >= _PAUSE or ends_a_sentence(words, place)


def _split_run(run: list[Word], layout: _Layout) -> list[list[Word]]:
    """Split a run into as few groups as fit, avoiding single words and ending at commas if that adds no group."""
    best: list[tuple[float, int]] = [(0.0, 0)]
    for end in range(1, len(run) + 1):
        chosen = (float("inf"), end - 1)
        for start in range(end - 1, -1, -1):
            group = run[start:end]
            if len(group) > 1 and not _fits(group, layout):
                break
            leads_on = layout.leads_on(run[end - 1], run[end]) if end < len(run) else 0.0
            cost = _cost(group, is_last=end == len(run)) + _LEADS_ON * leads_on
            chosen = min(chosen, (best[start][0] + cost, start))
        best.append(chosen)
    groups: list[list[Word]] = []
    end = len(run)
    while end:
        start = best[end][1]
        groups.insert(0, run[start:end])
        end = start
    return groups


def _fits(group: list[Word], layout: _Layout) -> bool:
    preset = layout.look.preset
    is_short = len(group) <= preset.words or (layout.unspaced and preset.lines > 1)
    return is_short and len(_fill_lines(group, layout, layout.room)) <= preset.lines


def _cost(group: list[Word], *, is_last: bool) -> float:
    """The cost of a group: 1, plus a penalty if it is hard to read, less if it ends at a comma."""
    lonely = 2.0 if len(group) == 1 else 0.4 if len(group) == 2 else 0.0
    ends_well = not is_last and len(group) >= _CLAUSE and group[-1].word.endswith(tuple(CLAUSE_FINAL))
    return 1 + lonely - 0.9 * ends_well


def _fill_lines(words: list[Word], layout: _Layout, room: float) -> list[list[int]]:
    """Indices of the words in each line, filling each line up to `room` em."""
    lines: list[list[int]] = [[0]]
    for i in range(1, len(words)):
        if _line_width(words, [*lines[-1], i], layout) <= room:
            lines[-1].append(i)
        else:
            lines.append([i])
    return lines


def _line_width(words: list[Word], line: list[int], layout: _Layout) -> float:
    gaps = sum(text_width(layout.between(words[a], words[b])) for a, b in pairwise(line))
    return sum(text_width(words[i].word) for i in line) + gaps


def _lay_out(words: list[Word], layout: _Layout) -> _Group:
    """Lay out one line if it fits, else two of similar width, shrunk if a word is too wide."""
    lines = _fill_lines(words, layout, layout.room)
    if len(lines) == 2:
        everything = list(range(len(words)))
        breaks = [[everything[:i], everything[i:]] for i in everything[1:]]
        lines = min(breaks, key=lambda two: _unrest(words, two, layout))
    widest = max(_line_width(words, line, layout) for line in lines)
    return _Group(words, lines, layout.room / max(widest, layout.room))


def _unrest(words: list[Word], lines: list[list[int]], layout: _Layout) -> float:
    """Em by which two lines are wider than they must be, more if the first one leads on to the second."""
    widest = max(_line_width(words, line, layout) for line in lines)
    first, second = lines[0][-1], lines[1][0]
    return max(widest, layout.room) * _TOO_WIDE + widest + _RAGGED * layout.leads_on(words[first], words[second])


def text_width(text: str) -> float:
    """Estimated width in em, never below that of Poppins ExtraBold."""
    return sum(_character_width(c) for c in text)


def _character_width(c: str) -> float:
    if unicodedata.category(c)[0] == "M" or c in JOINERS:
        return 0.0
    if unicodedata.east_asian_width(c) in "WF":
        return 1.0
    if c in "mwMW@%":
        return 1.1
    if c in " .,:;'!|iIlj":
        return 0.36
    return 0.78 if c.isupper() else 0.64


def _group_end(groups: list[_Group], index: int) -> float:
    """When group `index` leaves the screen."""
    leaves = groups[index].words[-1].end + _HOLD
    return min(leaves, groups[index + 1].words[0].start) if index + 1 < len(groups) else leaves


def _events(group: _Group, until: float, place: str, layout: _Layout) -> list[str]:
    """The events of each word. A word stays highlighted until the next begins. `place` is the override tags for it."""
    starts = [centiseconds(w.start) for w in group.words]
    ends = [*starts[1:], centiseconds(until)]
    return [
        f"Dialogue: {layer},{clock(start)},{clock(end)},Caption,,0,0,0,,{text}"
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
        if end > start
        for layer, text in _state(group, _Spoken(i, (end - start) * 10, _pop(group, i, layout)), place, layout)
    ]


class _Spoken(NamedTuple):
    """The word that is said: its place in the group, for how many milliseconds, and by what share it grows."""

    place: int
    milliseconds: int
    pop: float


def _state(group: _Group, spoken: _Spoken, place: str, layout: _Layout) -> list[tuple[int, str]]:
    """The layers and texts that are on screen together while a word is said."""
    active = spoken.place
    drawn = [_word(word.word, i - active, layout.look) for i, word in enumerate(group.words)]
    if not spoken.pop:
        return [(0, _text(group, drawn, place, layout))]
    hidden = [_hidden(word.word) for word in group.words]
    rest = [*drawn[:active], hidden[active], *drawn[active + 1 :]]
    grown = _grown(drawn[active], group, spoken)
    above = [*hidden[:active], grown, *hidden[active + 1 :]]
    beside = [(0, _text(group, rest, place, layout))] if len(group.words) > 1 else []
    return [*beside, (1, _text(group, above, place, layout))]


def _pop(group: _Group, spoken: int, layout: _Layout) -> float:
    """The share by which a word grows: the preset's, or less if it would touch a neighbour or leave the line's room.

    0 if there is next to no room.
    """
    words = group.words
    line = next(line for line in group.lines if spoken in line)
    beside = (layout.room - _line_width(words, line, layout) * group.scale) / 2
    before = _GAP if layout.between(words[spoken - 1], words[spoken]) else _NO_GAP
    after = _GAP if spoken < len(words) - 1 and layout.between(words[spoken], words[spoken + 1]) else _NO_GAP
    room = min(beside if spoken == line[0] else before, beside if spoken == line[-1] else after)
    pop = min(layout.look.preset.pop, 2 * room / max(text_width(words[spoken].word) * group.scale, 0.1))
    return pop if pop >= _LEAST_POP else 0.0


def _grown(drawn: str, group: _Group, spoken: _Spoken) -> str:
    """A word that grows at once and shrinks before the next word of its group is said."""
    grown = f"{group.percent * (1 + spoken.pop):.1f}"
    large, small = (f"\\fscx{percent}\\fscy{percent}" for percent in (grown, group.percent))
    until, ease = spoken.milliseconds, min(round(_POP_SECONDS * 1000), spoken.milliseconds // 3)
    shrinks = f"\\t({until - ease},{until},{small})" if spoken.place < len(group.words) - 1 else ""
    return f"{{\\t(0,{ease},0.5,{large}){shrinks}}}{drawn}{{{small}}}"


def _text(group: _Group, drawn: Sequence[str], place: str, layout: _Layout) -> str:
    scale = f"\\fscx{group.percent}\\fscy{group.percent}" if group.percent < 100 else ""
    rtl = runs_right_to_left("".join(word.word for word in group.words), layout.language)
    lines = "\\N".join(_line(group, line, drawn, layout, right_to_left=rtl) for line in group.lines)
    return f"{{{place}{scale}}}{lines}"


def _line(group: _Group, line: list[int], drawn: Sequence[str], layout: _Layout, *, right_to_left: bool) -> str:
    mark = direction_mark("".join(group.words[i].word for i in line), right_to_left=right_to_left)
    between = (layout.between(group.words[a], group.words[b]) for a, b in pairwise(line))
    gaps = [*(_space(gap, group.percent, layout.look) for gap in between), ""]
    return mark + "".join(drawn[i] + gap for i, gap in zip(line, gaps, strict=True))


def _space(gap: str, percent: int, look: Look) -> str:
    """The separator between two words, wider where words pop."""
    if not gap or not look.preset.pop:
        return gap
    return f"{{\\fscx{percent * _WIDE_SPACE:.0f}}}{gap}{{\\fscx{percent}}}"


def _word(text: str, ahead: int, look: Look) -> str:
    """A word of a group, `ahead` words after the one that is being said; negative if it has been said."""
    preset = look.preset
    if ahead == 0 and preset.spoken != preset.text:
        return f"{{\\1c{_colour(preset.spoken)}&}}{escape(text)}{{\\1c{_colour(preset.text)}&}}"
    return _hidden(text) if ahead > 0 and preset.reveals else escape(text)


def _hidden(text: str) -> str:
    """The text, taking its room but transparent; an outline and a shadow that nobody sees would fill libass's caches.

    Where words pop, hidden ones move in every frame, and libass keeps each of their bitmaps to the end of the clip.
    """
    return f"{{\\alpha&HFF&\\bord0\\shad0}}{escape(text)}{{\\alpha\\bord\\shad}}"


def centiseconds(seconds: float) -> int:
    return max(round(seconds * 100), 0)


def clock(centiseconds: int) -> str:
    minutes, rest = divmod(centiseconds, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"
