"""Size a picture that is fitted into the clip to the faces in it: a strip of the whole shows them small."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tasks.core.picture.camera import CropKey, Shot
from tasks.core.picture.rest_or_pan import Frame
from tasks.core.picture.tracks import Track

WORTHWHILE = 0.85
"""Share of the picture's length above which a window is not worth the loss of the rest."""
SHORTEST = 1.4
"""Least length of a window, in lengths of the crop that would fill the clip."""
ROOM = 0.5
"""Room on each side of a face, in its widths."""
CROWD = 3
"""Faces from which on some may be left out."""
MOST_FACES = 0.7
"""Share of a crowd's faces that a window must hold, the largest among them."""


class _Span(NamedTuple):
    """How far a face reaches along the axis, with room, in pixels, and its area."""

    first: float
    last: float
    area: float

    @classmethod
    def of(cls, track: Track, axis: str, start: float, end: float) -> "_Span | None":
        boxes = [box for box in track.boxes if start <= box.t < end]
        if not boxes:
            return None
        at, half = np.array([(getattr(box, axis), (0.5 + ROOM) * box.width) for box in boxes]).T
        return cls(float(np.percentile(at - half, 2)), float(np.percentile(at + half, 98)), track.area)


def sized_to_faces(shot: Shot, tracks: Sequence[Track], frame: Frame) -> Shot:
    """A fitted shot with a window that holds all its faces, or most of a crowd's; the same without such a window."""
    spans = [span for track in tracks if (span := _Span.of(track, frame.axis, shot.start, shot.end))]
    whole = frame.width if frame.axis == "x" else frame.height
    for held, what in ((spans, "all faces"), (_densest(spans), "the densest group of faces")):
        first, length = _window(held, whole, SHORTEST * frame.length)
        if held and length <= WORTHWHILE * whole:
            return _through(shot, first, length, frame, f"{shot.reason}; sized to {what}")
    return shot


def _window(spans: Sequence[_Span], whole: int, shortest: float) -> tuple[int, int]:
    """Corner and length, both even, of the smallest window of at least this length that holds the spans."""
    first = max(min((span.first for span in spans), default=0.0), 0.0)
    last = min(max((span.last for span in spans), default=float(whole)), float(whole))
    length = min(2 * int(np.ceil(max(last - first, shortest) / 2)), whole // 2 * 2)
    corner = 2 * round((first + last - length) / 4)
    return min(max(corner, 0), (whole - length) // 2 * 2), length


def _densest(spans: Sequence[_Span]) -> list[_Span]:
    """Most of a crowd, as close together as possible, with the largest face; none if it is no crowd."""
    if len(spans) < CROWD:
        return []
    count, largest = int(np.ceil(MOST_FACES * len(spans))), max(spans, key=lambda span: span.area)
    groups = [
        group
        for edge in spans
        if len(group := sorted((s for s in spans if s.first >= edge.first), key=lambda s: s.last)[:count]) == count
        and largest in group
    ]
    return min(groups, key=lambda group: group[-1].last - min(span.first for span in group), default=list[_Span]())


def _through(shot: Shot, first: int, length: int, frame: Frame, reason: str) -> Shot:
    """The shot through a window of the picture."""
    across = (frame.height if frame.axis == "x" else frame.width) // 2 * 2
    x, y, width, height = (first, 0, length, across) if frame.axis == "x" else (0, first, across, length)
    key = CropKey(t=shot.start, x=x, y=y)
    return shot.model_copy(update={"crop_width": width, "crop_height": height, "keys": [key], "reason": reason})
