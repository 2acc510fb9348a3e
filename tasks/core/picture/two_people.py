"""Place two crops at rest that show one of two people each, for a picture with one above the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tasks.core.picture.tracks import Array, Track

PRESENT = 0.6
"""Share of a shot's samples in which both people must be seen."""
SLACKS = (0.08, 0.2)
"""How far from the crop's middle a face may be, in crop widths; the first for which there are crops is used."""
HEADROOM = 0.42
"""Where the face's middle is in its crop, in crop heights from its top."""
LARGEST_FACE = 0.55
"""Height of a face in its crop, in crop heights, at most."""
HAIR = 0.25
"""Room beside a face in its crop, in face widths."""
SMALLEST, STEP = 0.45, 0.02
"""Smallest size that is sharp enough, and the difference between two that are tried, as shares of the largest."""


class Crops(NamedTuple):
    """Two crops of the same even size: left and top of the upper and of the lower one, in pixels."""

    width: int
    height: int
    upper: tuple[float, float]
    lower: tuple[float, float]


@dataclass(frozen=True)
class Person:
    """Where a face is during a shot, in pixels: its middle, its size, and how far it reaches to both sides."""

    x: float
    y: float
    width: float
    height: float
    left: float
    right: float

    @classmethod
    def of(cls, track: Track) -> "Person":
        x, y, width, height = (
            np.array([getattr(box, name) for box in track.boxes]) for name in ("x", "y", "width", "height")
        )
        left, right = np.percentile(x - width / 2, 5), np.percentile(x + width / 2, 95)
        middle = float(left + right) / 2
        return cls(
            middle, float(np.median(y)), float(np.median(width)), float(np.median(height)), float(left), float(right)
        )


def two_people(
    tracks: Sequence[Track], times: Array, source: tuple[int, int], largest: tuple[int, int]
) -> Crops | None:
    """The largest crops of which each has one face, on its side of the middle between them; the left one is above.

    None if there are no two faces side by side, or not with enough room.

    Args:
        tracks: the faces of one shot, and `times` at which it was looked for them.
        source: width and height of the picture.
        largest: those of the largest crop; the crops have the same aspect.
    """
    lasting = [track for track in tracks if track.present(times).mean() >= PRESENT]
    if len(lasting) < 2:
        return None
    larger = sorted(lasting, key=lambda track: -track.area)[:2]
    left, right = sorted((Person.of(track) for track in larger), key=lambda person: person.x)
    between = (left.right + right.left) / 2
    for slack in SLACKS:
        for share in np.arange(1, SMALLEST, -STEP):
            width, height = (max(2 * round(float(share) * side / 2), 2) for side in largest)
            upper = _crop(left, 0.0, between, (width, height), source, slack)
            lower = _crop(right, between, float(source[0]), (width, height), source, slack)
            if upper and lower:
                return Crops(width, height, upper, lower)
    return None


def _crop(
    person: Person, first: float, last: float, size: tuple[int, int], source: tuple[int, int], slack: float
) -> tuple[float, float] | None:
    """Left and top of a crop between two columns that has the face nearly in its middle, or None."""
    width, height = size
    if last - first < width or person.height > LARGEST_FACE * height:
        return None
    x = min(max(person.x - width / 2, first), last - width)
    is_inside = x <= person.left - HAIR * person.width and person.right + HAIR * person.width <= x + width
    if not is_inside or abs(x + width / 2 - person.x) > slack * width:
        return None
    return x, min(max(person.y - HEADROOM * height, 0.0), float(source[1] - height))
