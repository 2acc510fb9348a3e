"""Find black bars around a picture (letterbox, pillarbox) from each pixel's highest brightness."""

import numpy as np

from tasks.core.picture.camera import Picture

DARK = 24
"""Highest luma (0 to 255) of a black pixel: 16 plus codec noise."""
DARK_SHARE = 0.995
"""A row or column belongs to a bar if this share of it stays dark."""
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


def picture_within(brightest: np.ndarray, width: int, height: int) -> Picture | None:
    """The frame of `width` x `height` pixels without its bars, or None if it has none.

    `brightest` is the highest luma of each pixel of a small copy over all sampled frames: uint8 (rows, columns).
    One extra pixel is cut at each edge of the picture, because the small copy blended it with the bar.
    """
    dark = brightest <= DARK
    across, down = _lit(dark.mean(axis=0)), _lit(dark.mean(axis=1))
    inside = dark[slice(*down), slice(*across)]
    if not inside.size:
        return None
    left, right = _scaled(_confirmed(across, inside.mean(axis=0), len(dark[0])), len(dark[0]), width)
    top, bottom = _scaled(_confirmed(down, inside.mean(axis=1), len(dark)), len(dark), height)
    if (left, top, right, bottom) == (0, 0, width, height):
        return None
    return Picture(left=left, top=top, width=right - left, height=bottom - top)


def _lit(dark: np.ndarray) -> tuple[int, int]:
    """The first lit line and one past the last; `dark` is the share of each line that is never lit."""
    lit = np.flatnonzero(dark < DARK_SHARE)
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


def _scaled(span: tuple[int, int], lines: int, side: int) -> tuple[int, int]:
    """Scale a span of the small copy's lines to `side` pixels, rounded inwards to even numbers."""
    factor = side / lines
    first = 0 if span[0] == 0 else 2 * int(np.ceil((span[0] * factor + 1) / 2))
    last = side if span[1] == lines else 2 * int((span[1] * factor - 1) / 2)
    return first, last
