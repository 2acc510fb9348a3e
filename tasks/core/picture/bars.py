"""Find bars around a picture (letterbox, pillarbox), black or of one colour, from each pixel's range of luma."""

from collections.abc import Callable

import numpy as np

from tasks.core.picture.camera import Picture

DARK = 24
"""Highest luma (0 to 255) of a black pixel: 16 plus codec noise."""
BAR_SHARE = 0.995
"""A row or column belongs to a bar if this share of it stays dark, or of the bar's colour."""
MIN_PICTURE = 0.1
"""Share of the frame's side that must remain; if less does, it is a dark scene, not a picture with bars."""
LIT_SHARE = 0.5
"""Share of the picture's first and last line that must be lit at some time: a picture's edge is straight, a dark
scene's is not."""
LOPSIDED = 0.03
"""Share of the side by which opposite bars may differ before stronger evidence is required."""
CLEARLY_LIT = 0.9
"""LIT_SHARE for opposite bars that differ by more, a single bar or a small picture."""
SMALL_PICTURE = 0.3
"""Share of the side below which a picture is small."""


NOISE = 8
"""How much each of the channels may vary in a bar of one colour, over time and from place to place."""
EDGE_LINES = 3
"""Lines within which a picture gives way to a bar of one colour, because a codec blurs their border."""
UNEVEN_LINES = 3
"""Lines by which opposite bars of one colour may differ."""
NARROWEST = 0.02
"""Share of the side that a bar of one colour has at least; a thinner one may be the border of a window."""
MOVED = 16
"""Luma by which a pixel of a moving picture changes."""
MOVED_SHARE = 0.1
"""Share of the picture that must move, or it may be part of a slide with margins."""


def picture_within(lowest: np.ndarray, highest: np.ndarray, width: int, height: int) -> Picture | None:
    """The frame of `width` x `height` pixels without its bars, or None if it has none.

    `lowest` and `highest` are the extremes of each pixel of a small copy over all sampled frames: I420, uint8
    (rows * 3 / 2, columns). One extra pixel is cut at each edge of the picture, because the small copy blended it
    with the bar.
    """
    black = _channels(highest)[0] <= DARK
    return _between(black, _confirmed, width, height) or _within_colour(
        _channels(lowest), _channels(highest), width, height
    )


def _channels(planes: np.ndarray) -> np.ndarray:
    """Y, Cb and Cr of each pixel, shape (3, rows, columns)."""
    rows, columns = planes.shape[0] * 2 // 3, planes.shape[1]
    chroma = planes[rows:].reshape(2, rows // 2, columns // 2).repeat(2, axis=1).repeat(2, axis=2)
    return np.concatenate((planes[None, :rows], chroma))


def _within_colour(lowest: np.ndarray, highest: np.ndarray, width: int, height: int) -> Picture | None:
    """The frame without bars of one colour that is not black.

    They look like walls, backdrops and the margins of slides. So they must be a pair as wide as each other, stay as
    they are, end in straight edges, and have a moving picture between them.
    """
    moved = highest[0].astype(np.int16) - lowest[0] >= MOVED
    for border in ((..., [0, -1]), (..., [0, -1], slice(None))):
        colour = np.median(highest[border].reshape(3, -1), axis=1)[:, None, None]
        same = (lowest >= colour - NOISE) & (highest <= colour + NOISE)
        plain = same[0] & same[1] & same[2]
        if (found := _between(plain, _confirmed_pair, width, height)) and _inside(moved, plain).mean() >= MOVED_SHARE:
            return found
    return None


_Confirm = Callable[[tuple[int, int], np.ndarray, int], tuple[int, int]]
"""The part of a span that lies between bars, given the plain share of each of its lines and the number of lines."""


def _inside(pixels: np.ndarray, plain: np.ndarray) -> np.ndarray:
    """The pixels in the rows and columns that are not plain."""
    return pixels[slice(*_lit(plain.mean(axis=1))), slice(*_lit(plain.mean(axis=0)))]


def _between(plain: np.ndarray, confirm: _Confirm, width: int, height: int) -> Picture | None:
    """The frame without its plain lines at the edges, as far as they are confirmed as bars, or None without any."""
    inside = _inside(plain, plain)
    if not inside.size:
        return None
    across, down = _lit(plain.mean(axis=0)), _lit(plain.mean(axis=1))
    left, right = _scaled(confirm(across, inside.mean(axis=0), len(plain[0])), len(plain[0]), width)
    top, bottom = _scaled(confirm(down, inside.mean(axis=1), len(plain)), len(plain), height)
    if (left, top, right, bottom) == (0, 0, width, height):
        return None
    return Picture(left=left, top=top, width=right - left, height=bottom - top)


def _lit(plain: np.ndarray) -> tuple[int, int]:
    """The first line that is not a bar's and one past the last; `plain` is the share of each that looks like a bar."""
    lit = np.flatnonzero(plain < BAR_SHARE)
    return (int(lit[0]), int(lit[-1]) + 1) if len(lit) else (0, 0)


def _confirmed(span: tuple[int, int], dark: np.ndarray, lines: int) -> tuple[int, int]:
    """The span of lit lines, extended to the frame's edge where the dark lines are not a bar.

    `dark` is the dark share of each line in the span, between the bars of the other axis.
    """
    first, last = span
    length = last - first
    if length < max(MIN_PICTURE * lines, 4):
        return 0, lines
    is_even = abs(first - (lines - last)) <= max(LOPSIDED * lines, 1)
    is_plain = is_even and length >= SMALL_PICTURE * lines
    most = 1 - (LIT_SHARE if is_plain else CLEARLY_LIT)
    return (first if dark[1] <= most else 0), (last if dark[-2] <= most else lines)


def _confirmed_pair(span: tuple[int, int], plain: np.ndarray, lines: int) -> tuple[int, int]:
    """The span between two bars of one colour and width, or the whole side."""
    clear = np.flatnonzero(plain <= 1 - CLEARLY_LIT)
    if not clear.size or max(clear[0], len(plain) - 1 - clear[-1]) > EDGE_LINES:
        return 0, lines
    first, last = span[0] + int(clear[0]), span[0] + int(clear[-1]) + 1
    narrower, wider = sorted((first, lines - last))
    is_pair = narrower >= NARROWEST * lines and wider - narrower <= UNEVEN_LINES
    return (first, last) if is_pair and last - first >= SMALL_PICTURE * lines else (0, lines)


def _scaled(span: tuple[int, int], lines: int, side: int) -> tuple[int, int]:
    """Scale a span of the small copy's lines to `side` pixels, rounded inwards to even numbers."""
    factor = side / lines
    first = 0 if span[0] == 0 else 2 * int(np.ceil((span[0] * factor + 1) / 2))
    last = side if span[1] == lines else 2 * int((span[1] * factor - 1) / 2)
    return first, last
