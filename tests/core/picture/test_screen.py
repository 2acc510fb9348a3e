"""The whole picture above its face: where the crop around the face is, and when the picture is shown alone."""

import numpy as np
import pytest

from tasks.core.picture.camera import FaceBox, Picture, RangeAnalysis, Shot
from tasks.core.picture.framing_choice import Screen
from tasks.core.picture.reframe import frame_range
from tasks.core.picture.screen import MOST_ENLARGED

WIDE, CLIP = (1920, 1080), (1080, 1920)
PART = (1080, 1920 - 608)


def face(x, y, size=150.0, start=0.0, end=10.0):
    times = np.arange(start, end - 1e-9, 0.2).round(6)
    return [FaceBox(t=float(t), x=x, y=y, width=size, height=1.3 * size, score=0.9) for t in times]


def framed(*faces, source=WIDE, output=CLIP, cuts=(), pictures=()) -> list[Shot]:
    found = sorted((each for hits in faces for each in hits), key=lambda each: each.t)
    samples = np.arange(0, 10, 0.2).round(6).tolist()
    view = RangeAnalysis(
        start=0, end=10, fps=30, cuts=list(cuts), faces=found, samples=samples, pictures=list(pictures)
    )
    return frame_range(view, source, output, Screen(kind="screen"))


@pytest.mark.parametrize("x", [90, 500, 960, 1830])
@pytest.mark.parametrize("y", [130, 540, 950])
@pytest.mark.parametrize("size", [40, 150, 400])
def test_the_crop_holds_the_face_inside_the_picture_and_is_not_mush(x, y, size):
    (shot,) = framed(face(x, y, size))
    (key,) = shot.keys
    assert (shot.layout, shot.start, shot.end, shot.faces) == ("screen", 0, 10, 1)
    assert shot.crop_width / shot.crop_height == pytest.approx(PART[0] / PART[1], rel=0.02)
    assert 0 <= key.x <= WIDE[0] - shot.crop_width
    assert 0 <= key.y <= WIDE[1] - shot.crop_height
    assert key.x <= max(x - size / 2, 0)
    assert min(x + size / 2, WIDE[0]) <= key.x + shot.crop_width
    assert key.y <= max(y - 0.65 * size, 0)
    assert min(y + 0.65 * size, WIDE[1]) <= key.y + shot.crop_height
    assert PART[1] / shot.crop_height <= 1.02 * MOST_ENLARGED


def test_the_face_is_larger_than_in_the_picture_above():
    (shot,) = framed(face(1700, 900, 100))
    assert PART[0] / shot.crop_width > 2 * CLIP[0] / WIDE[0]


def test_of_several_faces_the_largest_that_lasts_is_shown():
    (shot,) = framed(face(300, 500, 120), face(1500, 500, 160), face(900, 500, 300, end=3))
    (key,) = shot.keys
    assert key.x < 1500 < key.x + shot.crop_width
    assert not key.x < 900 < key.x + shot.crop_width


def test_an_older_screen_leaves_fewer_rows_for_the_face():
    (shot,) = framed(face(1000, 700), source=(1440, 1080))
    assert shot.layout == "screen"
    assert shot.crop_width / shot.crop_height == pytest.approx(1080 / (1920 - 810), rel=0.02)


@pytest.mark.parametrize(
    ("source", "output", "faces", "reason"),
    [
        (WIDE, CLIP, [], "no face found"),
        (WIDE, CLIP, [face(900, 500, end=3)], "no face found"),
        ((1080, 1920), CLIP, [face(500, 500)], "no room for a face below the picture"),
        *(
            (WIDE, size, [face(500, 500)], "no room for a face below the picture")
            for size in [(1080, 1350), (480, 600), (720, 900), (540, 676), (360, 450), (180, 224)]
        ),
    ],
    ids=["no face", "a face that leaves", "a picture as tall as the clip", *["a short clip"] * 6],
)
def test_otherwise_the_whole_picture_is_shown_alone(source, output, faces, reason):
    (shot,) = framed(*faces, source=source, output=output)
    assert (shot.layout, shot.reason, shot.keys) == ("fit", reason, [])


def test_each_shot_is_framed_by_itself():
    shots = framed(face(1700, 900, end=6), cuts=[6.0])
    assert [(shot.layout, shot.start, shot.end) for shot in shots] == [("screen", 0, 6), ("fit", 6, 10)]


def test_the_crop_lies_inside_the_bars_of_the_picture():
    """In a frame with bars left and right, the face touches the right one."""
    bars = Picture(left=240, top=0, width=1440, height=1080)
    (shot,) = framed(face(1600, 500), pictures=[bars])
    (key,) = shot.keys
    assert shot.layout == "screen"
    assert key.x >= 240
    assert key.x + shot.crop_width <= 1680
    assert shot.reason == "the whole picture above the face", "its bars are shown"
