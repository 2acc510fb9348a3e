"""Word-timed captions as an ASS script: few words at a time, the spoken one highlighted.

Every state of the screen is one Dialogue event, and events never overlap, so two captions are never
on the screen at once. All states of a group hold the same text, so the lines do not move while
the highlight does.
"""

import re
import unicodedata
from dataclasses import dataclass

from tasks.core.transcript import Word

SIDE, TOP, BOTTOM = 0.08, 0.12, 0.20
"""Shares of the picture that players cover with their own controls."""
CENTRE = 0.70
"""Height of the caption's middle, as a share of the picture's."""
TEXT_COLOUR, HIGHLIGHT_COLOUR = (255, 255, 255), (255, 225, 0)
_SIZE = 0.088
"""Font size (line height as libass counts it) as a share of the picture's shorter side."""
_LINES = 2
_LONGEST_GROUP = 7
_PAUSE = 0.6
"""A silence of this many seconds ends a group."""
_HOLD = 0.3
"""Seconds that a group stays after its last word, unless the next one needs the room."""
_EM = 0.568
"""Poppins' em as a share of the font size: 1000 / (winAscent 1135 + winDescent 627)."""
_ENDS = tuple(".!?…\u3002\uff01\uff1f\u061f\u0964")
"""Also the full stops and question marks of Chinese, Japanese, Arabic and Hindi."""
_JOINERS = "\u200c\u200d"
"""Format characters that spelling needs: Persian, Indic scripts, emoji."""
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u303f\u3040-\u30ff\u3100-\u31bf\u31f0-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]"
)
"""Scripts written without spaces: Thai, Lao, Burmese, Khmer, Chinese, Japanese."""


@dataclass(frozen=True)
class _Group:
    words: list[Word]
    lines: list[list[int]]
    scale: float


def ass(words: list[Word], size: tuple[int, int], language: str, font: str) -> str:
    """An ASS script for words on the clip's clock, for a picture of `size` (width, height) in pixels.

    Args:
        words: in playing order; their text is hostile and is escaped here.
        size: of the finished picture.
        language: Whisper code; tells whether words are joined without spaces.
        font: full face name, such as "Poppins ExtraBold".
    """
    width, height = size
    points = round(_SIZE * min(width, height))
    room = (1 - 2 * SIDE) * width / (points * _EM)
    joiner = "" if language in {"zh", "ja", "th", "lo", "my", "km", "yue"} else " "
    groups = [_laid_out(g, room, joiner) for g in _grouped(_shown(words), room, joiner)]
    events = [line for i, g in enumerate(groups) for line in _events(g, _until(groups, i), size, joiner)]
    return _header(size, points, font) + "\n".join(events) + "\n"


def _header(size: tuple[int, int], points: int, font: str) -> str:
    return (
        "[Script Info]\nScriptType: v4.00+\nWrapStyle: 2\nScaledBorderAndShadow: yes\nYCbCr Matrix: TV.709\n"
        f"PlayResX: {size[0]}\nPlayResY: {size[1]}\n\n"
        "[V4+ Styles]\nFormat: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, "
        "Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, "
        "MarginL, MarginR, MarginV, Encoding\n"
        f"Style: Caption,{font},{points},{_colour(TEXT_COLOUR)},{_colour(TEXT_COLOUR)},&H00000000,&H80000000,"
        f"0,0,0,0,100,100,0,0,1,{points * 0.055:.1f},{points * 0.02:.1f},5,0,0,0,-1\n\n"
        "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    )


def _colour(rgb: tuple[int, int, int]) -> str:
    return "&H00{2:02X}{1:02X}{0:02X}".format(*rgb)


def escape(text: str) -> str:
    """Text that libass draws as it is: no tags, no line breaks, no control or direction characters."""
    kept = "".join(" " if c.isspace() else c for c in text if c.isspace() or _is_drawn(c))
    return " ".join(kept.replace("\\", "\\\u2060").replace("{", "\\{").replace("}", "\\}").split())


def _is_drawn(c: str) -> bool:
    return c in _JOINERS or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn"}


def _shown(words: list[Word]) -> list[Word]:
    """Words with something to draw, in order of time, each ending no later than the next begins."""
    drawn = sorted((w for w in words if escape(w.word)), key=lambda w: w.start)
    ends = [w.start for w in drawn[1:]] + [float("inf")]
    return [Word(word=w.word, start=w.start, end=min(max(w.end, w.start), e)) for w, e in zip(drawn, ends, strict=True)]


def _grouped(words: list[Word], room: float, joiner: str) -> list[list[Word]]:
    groups: list[list[Word]] = []
    for word in words:
        last = groups[-1] if groups else None
        if last is None or _breaks(last, word, room, joiner):
            groups.append([word])
        else:
            last.append(word)
    return groups


def _breaks(group: list[Word], word: Word, room: float, joiner: str) -> bool:
    before = group[-1]
    if word.start - before.end >= _PAUSE or before.word.endswith(_ENDS):
        return True
    if len(group) >= _LONGEST_GROUP and joiner:
        return True
    return len(_lines([*group, word], room, joiner)) > _LINES


def _lines(words: list[Word], room: float, joiner: str) -> list[list[int]]:
    """Indices of the words of each line, filled greedily to `room` em."""
    lines: list[list[int]] = []
    used = 0.0
    for i, word in enumerate(words):
        wide = text_width(word.word)
        if lines and used + text_width(joiner) + wide <= room:
            lines[-1].append(i)
            used += text_width(joiner) + wide
        else:
            lines.append([i])
            used = wide
    return lines


def _laid_out(words: list[Word], room: float, joiner: str) -> _Group:
    lines = _lines(words, room, joiner)
    widest = max(sum(text_width(words[i].word) for i in line) + text_width(joiner) * (len(line) - 1) for line in lines)
    return _Group(words, lines, min(1.0, room / widest))


def text_width(text: str) -> float:
    """Estimated width in em, on the safe side of Poppins ExtraBold's own."""
    return sum(_character_width(c) for c in text)


def _character_width(c: str) -> float:
    if unicodedata.combining(c):
        return 0.0
    if unicodedata.east_asian_width(c) in "WF":
        return 1.0
    if c in "mwMW@%":
        return 1.1
    if c in " .,:;'!|iIlj":
        return 0.36
    return 0.78 if c.isupper() else 0.64


def _until(groups: list[_Group], index: int) -> float:
    """When group `index` leaves the screen."""
    leaves = groups[index].words[-1].end + _HOLD
    return min(leaves, groups[index + 1].words[0].start) if index + 1 < len(groups) else leaves


def _events(group: _Group, until: float, size: tuple[int, int], joiner: str) -> list[str]:
    """One event a word; a word stays highlighted until the next begins."""
    starts = [_centiseconds(w.start) for w in group.words]
    ends = [*starts[1:], _centiseconds(until)]
    return [
        f"Dialogue: 0,{_clock(start)},{_clock(end)},Caption,,0,0,0,,{_text(group, i, size, joiner)}"
        for i, (start, end) in enumerate(zip(starts, ends, strict=True))
        if end > start
    ]


def _text(group: _Group, active: int, size: tuple[int, int], joiner: str) -> str:
    scale = f"\\fscx{group.scale * 100:.0f}\\fscy{group.scale * 100:.0f}" if group.scale < 1 else ""
    lines = [joiner.join(_word(group.words[i].word, i == active) for i in line) for line in group.lines]
    return f"{{\\an5\\pos({size[0] // 2},{round(size[1] * CENTRE)}){scale}}}" + "\\N".join(lines)


def _word(text: str, active: bool) -> str:
    drawn = escape(text)
    return f"{{\\1c{_colour(HIGHLIGHT_COLOUR)}&}}{drawn}{{\\1c{_colour(TEXT_COLOUR)}&}}" if active else drawn


def _centiseconds(seconds: float) -> int:
    return max(round(seconds * 100), 0)


def _clock(centiseconds: int) -> str:
    minutes, rest = divmod(centiseconds, 6000)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest // 100:02d}.{rest % 100:02d}"
