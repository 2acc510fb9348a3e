"""What the camera showed of the source in a published clip, for editors that draw it over the source."""

from collections.abc import Sequence
from math import isfinite
from typing import Literal

from pydantic import BaseModel, Field

from tasks.core.edit.document import EditClip
from tasks.core.picture.placement import WHOLE, Layout

FOLLOWED = ("auto", "people", "screen")
"""The framings whose pictures are not known from the document alone."""
MOST_SHOTS, MOST_KEYS = 2000, 2000


class ViewKey(BaseModel):
    """Where the crop's upper left corner is at time `t`: in shares of the source's picture, in the log in pixels."""

    t: float
    x: float
    y: float


class LoggedShot(BaseModel):
    """A shot in `face_log.json`, without numpy, as far as it is read here; `Shot` in camera.py describes it."""

    start: float
    end: float
    layout: Layout
    crop_width: int = 0
    crop_height: int = 0
    keys: list[ViewKey] = Field(default_factory=list[ViewKey])


class LoggedClip(BaseModel):
    """A clip in `face_log.json`, as far as it is read here."""

    index: int
    shots: list[LoggedShot] = Field(default_factory=list[LoggedShot], max_length=MOST_SHOTS)


class CameraView(BaseModel):
    """What the camera showed from `start` to `end`, in seconds of the source.

    `kind` is the framing of the document that it comes from. `ratio` is width to height of a crop in pixels; crops are
    `width` and `height` wide and high, in shares of the source's picture, and move linearly between the keys. `split`
    has one key for each part, the upper first; `screen` has one for the crop below the whole picture. `fit` and `cover`
    show the whole picture, and have none; `fit` may show a part of it, and has one then.
    """

    start: float
    end: float
    kind: Literal["auto", "people", "screen"]
    layout: Layout
    ratio: float = 0.0
    width: float = 1.0
    height: float = 1.0
    keys: list[ViewKey] = Field(default_factory=list[ViewKey])


def camera_views(clip: EditClip, log: LoggedClip, size: tuple[int, int]) -> list[CameraView]:
    """The views of a published clip, in the order in which they were shown; none where the camera did not follow.

    The log may come from an untrusted host: what lies outside the picture is left out.

    Args:
        clip: the clip in the document from which it was drawn.
        log: its entry in `face_log.json`.
        size: width and height of the source's picture.
    """
    views = [_view(shot, clip, size) for shot in log.shots if len(shot.keys) <= MOST_KEYS]
    return [view for view in views if view]


def _view(shot: LoggedShot, clip: EditClip, size: tuple[int, int]) -> CameraView | None:
    middle = (shot.start + shot.end) / 2
    kind = next((part.framing.kind for part in clip.segments if part.start <= middle < part.end), None)
    if kind not in FOLLOWED or not _is_inside(shot, size):
        return None
    if shot.layout in WHOLE and not shot.crop_width:
        return CameraView(start=shot.start, end=shot.end, kind=kind, layout=shot.layout)
    return CameraView(
        start=shot.start,
        end=shot.end,
        kind=kind,
        layout=shot.layout,
        ratio=shot.crop_width / shot.crop_height,
        width=shot.crop_width / size[0],
        height=shot.crop_height / size[1],
        keys=[ViewKey(t=key.t, x=key.x / size[0], y=key.y / size[1]) for key in shot.keys],
    )


def _is_inside(shot: LoggedShot, size: tuple[int, int]) -> bool:
    """Whether the crop is a part of the picture at all times, which are numbers."""
    if not all(map(isfinite, (shot.start, shot.end, *(key.t for key in shot.keys)))):
        return False
    if shot.layout in WHOLE and not shot.crop_width:
        return True
    rooms = size[0] - shot.crop_width, size[1] - shot.crop_height
    is_possible = shot.crop_width > 0 and shot.crop_height > 0 and len(shot.keys) >= _least_keys(shot.layout)
    return is_possible and all(-1 <= key.x <= rooms[0] + 1 and -1 <= key.y <= rooms[1] + 1 for key in shot.keys)


def _least_keys(layout: str) -> int:
    return 2 if layout == "split" else 1


def logged(clips: Sequence[LoggedClip], index: int) -> LoggedClip:
    """The entry of a clip, or an empty one."""
    return next((clip for clip in clips if clip.index == index), LoggedClip(index=index))
