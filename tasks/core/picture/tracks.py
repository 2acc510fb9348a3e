"""Link faces detected at single moments into people tracked through a shot."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tasks.core.picture.camera import FaceBox

Array = NDArray[np.float64]

LONGEST_GAP = 2.0
"""Seconds without a detection after which a face in the same place counts as a new one."""
PRESENT_GAP = 0.7
"""Seconds before and after a detection during which the face counts as present."""
MIN_SHARE = 0.3
"""A track in a smaller share of the shot's samples is chance, unless it is one steady appearance."""
STEADY_SECONDS = 2.5
BACKGROUND = 0.15
"""A face with less than this share of the largest face's area belongs to the background."""


@dataclass
class Track:
    """One face tracked through a shot; its boxes are sorted by time."""

    boxes: list[FaceBox] = field(default_factory=list[FaceBox])

    def distance(self, face: FaceBox) -> float:
        """Distance of `face` from the track's last position, in face widths; infinite if it cannot be the same face."""
        last = self.boxes[-1]
        size = max(last.width, face.width)
        alike = 0.5 < face.width / last.width < 2.0 and face.t - last.t <= LONGEST_GAP
        return float(np.hypot(face.x - last.x, face.y - last.y)) / size if alike else float("inf")

    @property
    def area(self) -> float:
        """Median area of the boxes, in square pixels."""
        return float(np.median([box.width * box.height for box in self.boxes]))

    def column(self, name: str, times: Array) -> Array:
        """One field of the boxes at `times`: linear between boxes, constant outside."""
        return np.interp(times, [box.t for box in self.boxes], [getattr(box, name) for box in self.boxes])

    def present(self, times: Array) -> NDArray[np.bool_]:
        """Whether the face was seen near each of `times`."""
        seen = np.array([box.t for box in self.boxes])
        return np.abs(times[:, None] - seen[None, :]).min(axis=1) <= PRESENT_GAP


def steady(values: Array) -> Array:
    """Median of five neighbours: a single detector error does not move the camera."""
    if len(values) < 5:
        return np.full_like(values, np.median(values))
    padded = np.pad(values, 2, mode="edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 5), axis=1)


def track_faces(faces: Sequence[FaceBox], times: Sequence[float]) -> list[Track]:
    """Tracks of the people in one shot sampled at `times`, most often seen first."""
    tracks: list[Track] = []
    for t in times:
        _extend(tracks, [face for face in faces if face.t == t])
    lasting = [track for track in tracks if _lasts(track, times)]
    largest = max((track.area for track in lasting), default=0.0)
    return sorted((t for t in lasting if t.area >= BACKGROUND * largest), key=lambda track: -len(track.boxes))


def _extend(tracks: list[Track], faces: list[FaceBox]) -> None:
    """Add each face to the nearest track within one face width, nearest pairs first; the rest start new tracks."""
    pairs = sorted((track.distance(face), i, j) for i, track in enumerate(tracks) for j, face in enumerate(faces))
    extended: set[int] = set()
    matched: set[int] = set()
    for distance, i, j in pairs:
        if distance < 1.0 and i not in extended and j not in matched:
            tracks[i].boxes.append(faces[j])
            extended.add(i)
            matched.add(j)
    tracks += [Track([face]) for j, face in enumerate(faces) if j not in matched]


def _lasts(track: Track, times: Sequence[float]) -> bool:
    hits = len(track.boxes)
    first, last = track.boxes[0].t, track.boxes[-1].t
    while_there = sum(first <= t <= last for t in times)
    steady = last - first >= STEADY_SECONDS and hits >= 0.5 * while_there
    return steady or hits >= max(MIN_SHARE * len(times), 2 if len(times) > 2 else 1)
