"""Two people in one picture: where each one's crop is, and when there is none."""

import numpy as np
import pytest

from tasks.core.picture.camera import FaceBox, Picture, RangeAnalysis, Shot
from tasks.core.picture.framing_choice import People
from tasks.core.picture.reframe import NO_TWO, frame_range

WIDE, CLIP = (1920, 1080), (1080, 1920)


def face(x, y=400.0, size=200.0, start=0.0, end=10.0):
    times = np.arange(start, end - 1e-9, 0.2).round(6)
    return [FaceBox(t=float(t), x=x, y=y, width=size, height=1.3 * size, score=0.9) for t in times]


def framed(*people, cuts=(), end=10.0, output=CLIP, pictures=()) -> list[Shot]:
    faces = sorted((each for hits in people for each in hits), key=lambda each: each.t)
    samples = np.arange(0, end - 1e-9, 0.2).round(6).tolist()
    view = RangeAnalysis(
        start=0, end=end, fps=30, cuts=list(cuts), faces=faces, samples=samples, pictures=list(pictures)
    )
    return frame_range(view, WIDE, output, People(kind="people"))


def holds(shot: Shot, part: int, x: float, y: float, size: float) -> bool:
    """Whether the whole face, with its hair, is in the part."""
    left, top = shot.keys[part].x, shot.keys[part].y
    across = left <= x - 0.6 * size and x + 0.6 * size <= left + shot.crop_width
    return across and top <= y - size and y + 0.7 * size <= top + shot.crop_height


@pytest.mark.parametrize(("left", "right"), [(480, 1440), (300, 1200), (700, 1250), (180, 1740), (420, 900)])
def test_each_part_has_one_of_the_two_and_nothing_of_the_other(left, right):
    (shot,) = framed(face(right, y=420), face(left))
    assert (shot.layout, shot.faces) == ("split", 2)
    assert holds(shot, 0, left, 400, 200)
    assert holds(shot, 1, right, 420, 200)
    upper, lower = shot.keys
    assert upper.x + shot.crop_width <= (left + right) / 2 <= lower.x
    for key in shot.keys:
        assert 0 <= key.x <= WIDE[0] - shot.crop_width
        assert 0 <= key.y <= WIDE[1] - shot.crop_height
    assert shot.crop_width / shot.crop_height == pytest.approx(1080 / 960, rel=0.01)


@pytest.mark.parametrize(
    "people",
    [
        [face(960)],
        [face(480), face(1440, end=4.0)],
        [face(900), face(1130)],
        [face(480, size=500), face(1000, size=500)],
        [face(900, size=40), face(1000, size=40)],
        [face(960, y=250), face(960, y=800)],
        [],
    ],
    ids=["one", "one of them leaves", "head to head", "very large", "small in the background", "in a column", "none"],
)
def test_without_two_people_the_camera_follows(people):
    shots = framed(*people)
    assert "split" not in {shot.layout for shot in shots}
    assert all(NO_TWO in shot.reason for shot in shots)
    assert (shots[0].start, shots[-1].end) == (0, 10)


def test_passers_by_and_a_small_face_in_the_background_do_not_count():
    expected = framed(face(480), face(1440))
    assert framed(face(480), face(1440), face(960, start=3, end=3.5)) == expected
    (shot,) = framed(face(480), face(1440), face(960, y=300, size=110))
    assert shot.keys == expected[0].keys


def test_only_shots_with_two_people_are_split_and_a_sliver_is_framed_like_its_neighbour():
    first, second, sliver = framed(face(480, end=5), face(1440, end=5), face(960, start=5), cuts=[5, 9.8])
    assert [shot.layout for shot in (first, second, sliver)] == ["split", "still", "still"]
    early, rest = framed(face(480, start=0.2), face(1440, start=0.2), cuts=[0.2])
    assert (early.layout, early.crop_width, len(early.keys)) == ("split", rest.crop_width, 2)
    assert (early.start, early.end, early.keys[0].t) == (0, 0.2, 0)


def test_bars_are_cropped_away():
    inside = Picture(left=240, top=0, width=1440, height=1080)
    (shot,) = framed(face(600), face(1320), pictures=[inside])
    assert shot.keys[0].x >= 240
    assert shot.keys[1].x + shot.crop_width <= 1680
