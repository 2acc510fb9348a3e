"""How the camera may show the source, and where a whole picture lies in the clip."""

from typing import Literal, NamedTuple

Layout = Literal["still", "pan", "fit", "split", "screen", "cover"]
"""still: one crop; pan: a crop that moves; fit: the whole frame over a blurred background;
split: two crops at rest, one above the other; screen: the whole frame above a crop at rest; cover: the still picture
of a source that has only sound, in the upper half over a blurred background."""
WHOLE = ("fit", "cover")
"""The layouts that show a whole picture, smaller than the clip."""
COVER_ROWS = (0.12, 0.49)
"""The rows of a cover, in shares of the clip's height: below them is room for a waveform and captions."""
COVER_WIDTH = 0.84
"""The most that a cover is wide, as a share of the clip's width."""

MOST_ABOVE = 0.44
"""The most that the whole frame of `screen` is high, as a share of the clip's height: a face and captions need room."""


class Placement(NamedTuple):
    """A rectangle in the clip, in whole pixels with even sides."""

    left: int
    top: int
    width: int
    height: int


def placed(layout: Layout, picture: tuple[int, int], clip: tuple[int, int]) -> Placement:
    """Where a whole picture lies: a cover in the upper half, any other in the middle and as large as possible.

    Args:
        layout: `cover`, or `fit`.
        picture: its width and height in pixels.
        clip: those of the clip.
    """
    top, bottom = COVER_ROWS if layout == "cover" else (0.0, 1.0)
    across = COVER_WIDTH if layout == "cover" else 1.0
    scale = min(across * clip[0] / picture[0], (bottom - top) * clip[1] / picture[1])
    width, height = (2 * max(round(side * scale / 2), 1) for side in picture)
    middle = (top + bottom) / 2 * clip[1]
    return Placement((clip[0] - width) // 2, int(middle - height / 2), width, height)


def rows_above(picture: tuple[int, int], clip: tuple[int, int]) -> int:
    """How many rows the whole frame of `screen` has, an even number; the crop below it has the others.

    Args:
        picture: width and height of the frame in pixels.
        clip: those of the clip.
    """
    return 2 * max(round(clip[0] * picture[1] / picture[0] / 2), 1)
