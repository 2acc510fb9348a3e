"""A waveform that moves past the middle of the picture, for clips without a moving one: as drawings in the ASS script.

Bars pass from right to left; those that have been heard are bright. They are drawn in parts of a few seconds: libass
draws a part once and then only moves it.
"""

from collections.abc import Sequence

from tasks.core.captions.ass import Typeface, centiseconds, clock
from tasks.core.captions.presets import SIDE, Band

BARS_PER_SECOND = 10
PLACES = (Band(0.5, 0.556), Band(0.78, 0.836))
"""Rows for the waveform; the first that captions leave free is used."""
SHOWN_SECONDS = 5.0
"""Seconds of sound that the picture's width shows."""
_PART = 30
"""Bars of a drawing."""
_QUIETEST_DB, _LEAST = 35.0, 0.06
"""Level below the loudest of the shortest bar, and that bar's height as a share of the rows."""
_BAR = 0.55
"""A bar's width as a share of the distance between two."""
_BRIGHT, _DIM = "\\1c&HFFFFFF&\\1a&H00&", "\\1c&HFFFFFF&\\1a&H90&"
_STYLE = "Style: Waveform,{},20,&H00FFFFFF,&H00FFFFFF,&H00000000,&H00000000,0,0,0,0,100,100,0,0,1,0,0,7,0,0,0,1\n"
"""Drawings need no font, but libass looks for the one that a style names."""


def heights(levels: Sequence[float], per_second: int) -> list[float]:
    """The height of each bar, from 0 to 1, from levels in dBFS, of which there are `per_second` in a second."""
    step = per_second // BARS_PER_SECOND
    loudest = max(levels, default=0.0)
    parts = [levels[first : first + step] for first in range(0, len(levels), step)]
    means = [sum(part) / len(part) for part in parts]
    return [max(1 + (mean - loudest) / _QUIETEST_DB, 0.0) * (1 - _LEAST) + _LEAST for mean in means]


def with_waveform(script: str, bars: Sequence[float], size: tuple[int, int], face: Typeface, captions: Band) -> str:
    """The captions' script with a waveform of these bars below the captions' layer.

    Args:
        bars: heights from 0 to 1, BARS_PER_SECOND in a second, from the clip's first frame.
        size: width and height of the clip's picture.
        face: the captions' font.
        captions: the rows of the captions.
    """
    rows = next((rows for rows in PLACES if rows.bottom <= captions.top or rows.top >= captions.bottom), PLACES[0])
    head, events = script.split("\n[Events]\n", 1)
    drawn = "".join(_events(list(bars), size, rows))
    return f"{head}{_STYLE.format(face.name)}\n[Events]\n{events}{drawn}"


def _events(bars: list[float], size: tuple[int, int], rows: Band) -> list[str]:
    left, middle, right = SIDE * size[0], size[0] / 2, (1 - SIDE) * size[0]
    top, bottom = rows.top * size[1], rows.bottom * size[1]
    step = (right - left) / (SHOWN_SECONDS * BARS_PER_SECOND)
    seconds = len(bars) / BARS_PER_SECOND
    lines: list[str] = []
    for first in range(0, len(bars), _PART):
        part = bars[first : first + _PART]
        begins, ends = first / BARS_PER_SECOND, (first + len(part)) / BARS_PER_SECOND
        start, end = max(begins - SHOWN_SECONDS / 2, 0.0), min(ends + SHOWN_SECONDS / 2, seconds)
        path = _drawing(part, step, bottom - top)
        x = [middle + (begins - at) * BARS_PER_SECOND * step for at in (start, end)]
        move = f"\\an7\\move({x[0]:.1f},{top:.1f},{x[1]:.1f},{top:.1f})\\p1"
        span = f"{clock(centiseconds(start))},{clock(centiseconds(end))}"
        for colour, (a, b) in ((_BRIGHT, (left, middle)), (_DIM, (middle, right))):
            clip = f"\\clip({a:.0f},{top:.0f},{b:.0f},{bottom:.0f})"
            lines.append(f"Dialogue: 0,{span},Waveform,,0,0,0,,{{{move}{clip}{colour}}}{path}{{\\p0}}\n")
    return lines


def _drawing(bars: list[float], step: float, height: float) -> str:
    """Upright bars around a common middle. The drawing begins at its first bar's left edge and has the full height."""
    corners = f"m 0 0 m 0 {height:.0f}"  # keeps parts of different heights in line
    drawn = [_bar(number * step, step * _BAR, bar * height, height / 2) for number, bar in enumerate(bars)]
    return " ".join([corners, *drawn])


def _bar(x: float, width: float, height: float, middle: float) -> str:
    a, b, top, bottom = x, x + width, middle - height / 2, middle + height / 2
    return f"m {a:.1f} {top:.1f} l {b:.1f} {top:.1f} {b:.1f} {bottom:.1f} {a:.1f} {bottom:.1f}"
