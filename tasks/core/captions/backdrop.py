"""The title on a backdrop, for sources that have only sound and no cover, as an ASS script."""

from tasks.core.captions.ass import Typeface, escape, visible_text
from tasks.core.captions.card import balanced
from tasks.core.speech.writing_systems import direction_mark, runs_right_to_left

_SHARES = (0.12, 0.10, 0.085, 0.07, 0.06)
"""An em as a share of the picture's side: the largest with which the title takes few enough lines, or else the last."""
_MOST_LINES = 5
_SECONDS = "0:00:00.00,9:59:59.99"


def backdrop(title: str, side: int, face: Typeface) -> str:
    """The script for a square picture of `side` pixels. `title` is untrusted; without one, the script shows nothing."""
    text = visible_text(title)
    tries = [(share * side, balanced(text, share * side, (side, side), face)) for share in _SHARES]
    em, lines = next((tried for tried in tries if len(tried[1]) <= _MOST_LINES), tries[-1])
    rtl = runs_right_to_left(text, "")
    shown = "\\N".join(direction_mark(line, right_to_left=rtl) + escape(line) for line in _shortened(lines))
    middle = side // 2
    return (
        "[Script Info]\nScriptType: v4.00+\nWrapStyle: 2\nYCbCr Matrix: TV.709\n"
        f"PlayResX: {side}\nPlayResY: {side}\n\n[V4+ Styles]\n"
        "Format: Name, Fontname, Fontsize, PrimaryColour, BorderStyle, Outline, Shadow, Alignment, Encoding\n"
        f"Style: Title,{face.name},{round(em * face.line)},&H00FFFFFF,1,0,0,5,-1\n\n"
        "[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
        + (f"Dialogue: 0,{_SECONDS},Title,,0,0,0,,{{\\an5\\pos({middle},{middle})}}{shown}\n" if shown else "")
    )


def _shortened(lines: list[str]) -> list[str]:
    return lines if len(lines) <= _MOST_LINES else [*lines[: _MOST_LINES - 1], lines[_MOST_LINES - 1] + "…"]
