"""Come closer to a small face: a smaller crop around it, as long as the source has the pixels for it.

Within a shot, the distance changes only where a sentence begins.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from itertools import pairwise

import numpy as np

from tasks.core.picture.camera import Shot
from tasks.core.picture.crop_path import constant_within
from tasks.core.picture.rest_or_pan import Frame, Subject, during, frame_part
from tasks.core.picture.tracks import steady

SMALL = 0.25
"""Share of the largest crop's shorter side below which a face is small."""
LARGEST_ENLARGEMENT = 1.4
"""Pixels of the clip for each of the source, at most. A crop as high as a 1080p picture is enlarged 1.78 times in a
clip of 1080x1920, so the camera stays there; from a taller source, or in a square clip, it may come closer."""
WANTED = 0.32
"""Share of the close crop's shorter side that the face shall have."""
CLOSEST = 1.4
"""Times that the close crop fits into the largest, at most."""
LEAST = 1.1
"""A smaller difference would look like a fault."""
HEIGHTS = (0.3, 0.42)
"""Where a face's middle may be in the close crop, in its heights from the top: where it was, as far as possible."""
SLACK = 0.12
"""How far from there it may be along the axis on which the crop rests, in crop lengths."""
HAIR = 0.3
"""Room above and below a face, in its heights, or on both sides, in its widths."""
LEAST_SECONDS = 2.5
"""Shortest time between two changes of distance."""


def closeness(face: float, crop: tuple[int, int], output: tuple[int, int]) -> float:
    """How many times closer the camera comes to a face; 1 if it stays.

    Args:
        face: the face's width in pixels of the source.
        crop: width and height of the largest crop.
        output: those of the clip.
    """
    share = face / min(crop)
    if share >= SMALL:
        return 1.0
    closer = min(WANTED / share, LARGEST_ENLARGEMENT * crop[1] / output[1], CLOSEST)
    return closer if closer >= LEAST else 1.0


def from_closer(
    shot: Shot, part: Subject | str, frame: Frame, output: tuple[int, int], sentences: Iterable[float]
) -> list[Shot]:
    """The shot from closer if its only face is small: all of it, else the sentences in which the face moves little."""
    if isinstance(part, str) or part.track is None or shot.layout == "fit":
        return [shot]
    face = float(np.median(part.track.column("width", part.times)))
    by = closeness(face, (frame.crop_width, frame.crop_height), output)
    if by == 1:
        return [shot]
    near = partial(_close_shot, part, frame, by)
    whole = near(shot.start, shot.end)
    return [whole] if whole else _by_sentence(shot, frame, near, changes(sentences, shot.start, shot.end))


def _by_sentence(
    shot: Shot, frame: Frame, near: Callable[[float, float], Shot | None], edges: list[float]
) -> list[Shot]:
    """The shot with the parts between `edges` from closer for which `near` finds a crop.

    Two close crops with different places side by side would look like a fault: they are joined, or one stays wide.
    """
    shots: list[Shot] = []
    for start, end in pairwise(edges):
        was_close = bool(shots) and shots[-1].crop_width < frame.crop_width
        if closer := near(shots[-1].start if was_close else start, end):
            shots[len(shots) - was_close :] = [closer]
        elif shots and not was_close:
            shots[-1] = during(shot, shots[-1].start, end)
        else:
            shots.append(during(shot, start, end))
    return shots


def changes(sentences: Iterable[float], start: float, end: float) -> list[float]:
    """The times at which the camera's distance may change: beginnings of sentences, and both ends."""
    edges = [start]
    for t in sorted(sentences):
        if t - edges[-1] >= LEAST_SECONDS and end - t >= LEAST_SECONDS:
            edges.append(t)
    return [*edges, end]


def _close_shot(part: Subject, frame: Frame, by: float, start: float, end: float) -> Shot | None:
    """A part of the subject's time from `by` times closer, or None if it moves too much for that."""
    inside = part.between(start, end)
    near = _near(inside, frame, by) if inside.times.size else None
    if near is None:
        return None
    reason = f"{part.reason}; {by:.2f} times closer, because its face is small"
    shot = frame_part(replace(inside, reason=reason), start, end, near)
    return None if shot.layout == "fit" else shot


def _near(part: Subject, frame: Frame, by: float) -> Frame | None:
    """A crop that is `by` times smaller, in which the face rests along the axis on which the crop does, or None."""
    if part.track is None:
        return None
    width, height = (2 * round(side / by / 2) for side in (frame.crop_width, frame.crop_height))
    axis, size, whole, before, after = (
        ("y", "height", frame.height, frame.crop_height, height)
        if frame.axis == "x"
        else ("x", "width", frame.width, frame.crop_width, width)
    )
    centres = steady(part.track.column(axis, part.times))
    half = float(part.track.column(size, part.times).max()) * (0.5 + HAIR)
    middle = float(np.median(centres))
    place = float(np.clip((middle - frame.resting_corner) / before, *HEIGHTS)) if axis == "y" else 0.5
    low = np.maximum(centres - (place + SLACK) * after, centres + half - after)
    high = np.minimum(centres - (place - SLACK) * after, centres - half)
    low, high = (np.clip(side, 0, whole - after) for side in (low, high))
    corner = constant_within(low, high, middle - place * after)
    return None if corner is None else replace(frame, crop_width=width, crop_height=height, across=corner)
