"""Place a crop at rest around a face, to show it below the whole picture: for slides and screens with a small face."""

from collections.abc import Sequence
from typing import NamedTuple

from tasks.core.picture.tracks import Array, Track
from tasks.core.picture.two_people import HAIR, PRESENT, Person

FACE = 0.3
"""Height of the face in its crop, in crop heights, if that is large enough and the picture has the room."""
HEADROOM = 0.32
"""Where the face's middle is in its crop, in crop heights from its top: below it, captions need room."""
MOST_ENLARGED = 4.0
"""Enlarged more than this, the source looks like mush."""


class FaceCrop(NamedTuple):
    """A crop with even sides: left, top, width and height in pixels."""

    left: float
    top: float
    width: int
    height: int


def face_crop(tracks: Sequence[Track], times: Array, source: tuple[int, int], part: tuple[int, int]) -> FaceCrop | None:
    """The crop around the largest face that lasts, or None if there is none.

    Args:
        tracks: the faces of one shot; `times` are those at which faces were looked for.
        source: width and height of the picture.
        part: those of the part of the clip that shows the crop, which has its aspect.
    """
    lasting = [track for track in tracks if track.present(times).mean() >= PRESENT]
    if not lasting:
        return None
    face = Person.of(max(lasting, key=lambda track: track.area))
    aspect = part[0] / part[1]
    wanted = max(
        face.height / FACE,
        (face.right - face.left + 2 * HAIR * face.width) / aspect,
        part[1] / MOST_ENLARGED,
    )
    height = min(wanted, float(source[1]), source[0] / aspect)
    width, height = (2 * int(side / 2) for side in (height * aspect, height))
    left = min(max((face.left + face.right - width) / 2, 0.0), float(source[0] - width))
    top = min(max(face.y - HEADROOM * height, 0.0), float(source[1] - height))
    return FaceCrop(left, top, width, height)
