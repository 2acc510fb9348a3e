"""Frame one part of a shot: a crop at rest if its subject stays inside, else one that moves slowly, else all of it."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tasks.core.picture.camera import CropKey, Shot
from tasks.core.picture.crop_path import constant_within, key_indices, peak_motion, smooth_path, taut_string
from tasks.core.picture.tracks import Array, Track, steady

MARGIN = 0.2
"""Room on each side of a face for hair and ears, in face widths; less if the crop has no more."""
CENTRED = {"x": 0.5, "y": 0.42}
"""Where the face's centre belongs in the crop: in the middle, with a little less room above than below."""
REST_SLACKS = (0.15, 0.2)
"""How far from there a face may be while the camera rests, in crop lengths; the first that suffices is used."""
PAN_SLACKS = (0.15, 0.25, 0.5)
"""The same while the camera moves; the first that keeps the motion within its limits is used."""
MAX_SPEED = 0.6
MAX_ACCELERATION = 1.2
"""Crop lengths per second, and per second squared."""


@dataclass(frozen=True)
class Frame:
    """Sizes in pixels: the source as displayed, and the crop with the output's aspect.

    `across` is the crop's corner along the axis on which it rests; None is the middle.
    """

    width: int
    height: int
    crop_width: int
    crop_height: int
    aspect: float
    """The source's aspect relative to the output's; above 1, the source is wider."""
    across: float | None = None

    @property
    def axis(self) -> Literal["x", "y"]:
        """The axis along which the crop may move."""
        return "x" if self.aspect >= 1 else "y"

    @property
    def room(self) -> float:
        """How far the crop's corner may move along the axis."""
        return float(self.width - self.crop_width if self.axis == "x" else self.height - self.crop_height)

    @property
    def length(self) -> float:
        return float(self.crop_width if self.axis == "x" else self.crop_height)

    @property
    def resting_corner(self) -> float:
        """The crop's corner along the other axis."""
        if self.across is not None:
            return self.across
        return (self.height - self.crop_height if self.axis == "x" else self.width - self.crop_width) / 2


@dataclass(frozen=True)
class Subject:
    """What the camera must show: an extent along its axis at each of `times`, in pixels.

    `track` is its face, if it is only one.
    """

    times: Array
    first: Array
    last: Array
    reason: str
    faces: int
    is_speaking: bool = False
    track: Track | None = None

    def between(self, start: float, end: float) -> "Subject":
        """The same during a part of its time, in which it was looked for at least once."""
        during = (self.times >= start) & (self.times < end)
        return replace(self, times=self.times[during], first=self.first[during], last=self.last[during])


def fit_crop(source: tuple[int, int], output: tuple[int, int]) -> Frame:
    """The largest crop of the source with even sides and the output's aspect."""
    width = min(source[0], source[1] * output[0] / output[1])
    height = min(source[1], source[0] * output[1] / output[0])
    even = [min(2 * round(side / 2), limit // 2 * 2) for side, limit in zip((width, height), source, strict=True)]
    return Frame(*source, *even, aspect=source[0] * output[1] / (source[1] * output[0]))


def extent(tracks: list[Track], times: Array, frame: Frame, reason: str) -> Subject:
    """The extent of the faces: from the first one's near edge to the last one's far edge."""
    size = "width" if frame.axis == "x" else "height"
    centres = np.array([steady(track.column(frame.axis, times)) for track in tracks])
    halves = np.array([track.column(size, times).max() / 2 for track in tracks])[:, None]
    alone = tracks[0] if len(tracks) == 1 else None
    first, last = (centres - halves).min(axis=0), (centres + halves).max(axis=0)
    return Subject(times, first, last, reason, len(tracks), track=alone)


def fits(subject: Subject, frame: Frame) -> bool:
    """Whether the subject always fits into the crop, with some room."""
    return bool((subject.last - subject.first).max() <= 0.9 * frame.length)


def frame_part(part: Subject | str, start: float, end: float, frame: Frame) -> Shot:
    """The framing of one part: still if possible, else a slow enough pan, else the whole frame."""
    if isinstance(part, str):
        return fit(start, end, part, 0)
    if not fits(part, frame):
        return fit(start, end, f"{part.reason}; too wide for a crop", part.faces)
    wanted = (part.first + part.last) / 2 - CENTRED[frame.axis] * frame.length
    for slack in REST_SLACKS:
        rest = constant_within(*_tube(part, wanted, slack, frame), float(np.clip(np.median(wanted), 0, frame.room)))
        if rest is not None:
            return still(start, end, frame, rest, part.reason, part.faces)
    for slack in PAN_SLACKS:
        path = taut_string(part.times, *_tube(part, wanted, slack, frame))
        grid, values = smooth_path(part.times, path, start, end)
        speed, change = peak_motion(grid, values)
        if speed <= MAX_SPEED * frame.length and change <= MAX_ACCELERATION * frame.length:
            return _pan(frame, grid, np.clip(values, 0, frame.room), f"{part.reason}; it moves", part.faces)
    return fit(start, end, f"{part.reason}; it moves too fast to follow", part.faces)


def _tube(part: Subject, wanted: Array, slack: float, frame: Frame) -> tuple[Array, Array]:
    """Lowest and highest corner of the crop at each time: near `wanted`, in the frame, with the subject inside."""
    spare = frame.length - (part.last - part.first)
    margin = np.minimum(spare / 2, MARGIN * (part.last - part.first) / part.faces)
    low = np.maximum(wanted - slack * frame.length, part.last + margin - frame.length)
    high = np.minimum(wanted + slack * frame.length, part.first - margin)
    return np.clip(low, 0, frame.room), np.clip(np.maximum(low, high), 0, frame.room)


def _key(frame: Frame, t: float, corner: float) -> CropKey:
    x, y = (corner, frame.resting_corner) if frame.axis == "x" else (frame.resting_corner, corner)
    return CropKey(t=t, x=x, y=y)


def still(start: float, end: float, frame: Frame, corner: float, reason: str, faces: int) -> Shot:
    return Shot(
        start=start,
        end=end,
        layout="still",
        crop_width=frame.crop_width,
        crop_height=frame.crop_height,
        keys=[_key(frame, start, corner)],
        faces=faces,
        reason=reason,
    )


def _pan(frame: Frame, grid: Array, corners: Array, reason: str, faces: int) -> Shot:
    return Shot(
        start=float(grid[0]),
        end=float(grid[-1]),
        layout="pan",
        crop_width=frame.crop_width,
        crop_height=frame.crop_height,
        keys=[_key(frame, float(grid[i]), float(corners[i])) for i in key_indices(grid, corners)],
        faces=faces,
        reason=reason,
    )


def fit(start: float, end: float, reason: str, faces: int) -> Shot:
    return Shot(start=start, end=end, layout="fit", faces=faces, reason=reason)


def during(shot: Shot, start: float, end: float) -> Shot:
    """A part of a shot's time, with the same camera."""
    times = [key.t for key in shot.keys]
    edges = [start, *(t for t in times if start < t < end), end] if shot.layout == "pan" else [start]
    x, y = (np.interp(edges, times, [getattr(key, axis) for key in shot.keys]) for axis in "xy")
    keys = [CropKey(t=t, x=float(a), y=float(b)) for t, a, b in zip(edges, x, y, strict=True)]
    return shot.model_copy(update={"start": start, "end": end, "keys": keys})
