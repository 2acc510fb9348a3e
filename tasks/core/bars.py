"""Black bars around a picture (letterbox, pillarbox), from the brightest that each pixel ever was."""

import numpy as np

from tasks.core.camera import Picture

DARK = 24
"""Luma of 255 up to which a pixel is black: 16, and what a codec adds."""
DARK_SHARE = 0.995
"""A row or column is a bar's when this share of it stays dark."""
THINNEST = 0.015
"""Share of the frame's side below which both bars together are left alone."""
LEAST_PICTURE = 0.3
"""Share of the frame's side that must remain; less is a dark scene rather than a picture with bars."""
SHOWN_SHARE = 0.5
"""Share of the picture's first and last line that is ever lit: its edge is straight, a dark scene's is not."""
LOPSIDED = 0.03
"""Share of the side by which opposite bars may differ; beyond it the dark is the scene's own."""


def picture_within(brightest: np.ndarray, width: int, height: int) -> Picture | None:
    """The frame of `width` x `height` pixels without its bars; None where it has none.

    `brightest` is the highest luma of each pixel of a small copy over all frames looked at: uint8 (rows, columns).
    A pixel at each edge of what is left goes too, which the small copy mixed with the bar's.
    """
    dark = brightest <= DARK
    across, down = _inside(dark.mean(axis=0)), _inside(dark.mean(axis=1))
    left, right = _scaled(across, len(dark[0]), width)
    top, bottom = _scaled(down, len(dark), height)
    if (left, top, right, bottom) == (0, 0, width, height):
        return None
    return Picture(left=left, top=top, width=right - left, height=bottom - top)


def _inside(dark: np.ndarray) -> tuple[int, int]:
    """First and last line (excluded) between the bars at both ends; all lines where these are no bars.

    `dark` is the share of each line that is.
    """
    lines = len(dark)
    shown = np.flatnonzero(dark < DARK_SHARE)
    if not len(shown):
        return 0, lines
    first, last = int(shown[0]), int(shown[-1]) + 1
    length = last - first
    if lines - length < THINNEST * lines or length < max(LEAST_PICTURE * lines, 4):
        return 0, lines
    is_even = abs(first - (lines - last)) <= max(LOPSIDED * lines, 1)
    is_straight = max(dark[first + 1], dark[last - 2]) <= 1 - SHOWN_SHARE
    return (first, last) if is_even and is_straight else (0, lines)


def _scaled(span: tuple[int, int], lines: int, side: int) -> tuple[int, int]:
    """The span of a small copy's lines in pixels of the side, inwards to even numbers."""
    factor = side / lines
    first = 0 if span[0] == 0 else 2 * int(np.ceil((span[0] * factor + 1) / 2))
    last = side if span[1] == lines else 2 * int((span[1] * factor - 1) / 2)
    return first, last
