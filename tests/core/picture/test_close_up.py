"""Coming closer to small faces: when, how far, and where within a shot the distance may change."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.picture.camera import FaceBox, Picture, RangeAnalysis, Shot
from tasks.core.picture.close_up import CLOSEST, LARGEST_ENLARGEMENT, LEAST, LEAST_SECONDS, SMALL, changes, closeness
from tasks.core.picture.framing_choice import Crop
from tasks.core.picture.reframe import frame_range
from tasks.core.picture.said import Said

HD, UHD, UPRIGHT, CLIP = (1920, 1080), (3840, 2160), (1080, 1920), (1080, 1920)
SENTENCES = [0.0, 4.0, 8.0, 12.0, 16.0]


def face(x, y, size, start=0.0, end=20.0, mouth=0.0):
    """Detections of a face; `x`, `y` and `mouth` may be functions of time."""

    def at(value, t):
        return float(value(t)) if callable(value) else value

    return [
        FaceBox(t=float(t), x=at(x, t), y=at(y, t), width=size, height=1.3 * size, score=0.9, mouth=at(mouth, t))
        for t in np.arange(start, end - 1e-9, 0.2).round(6)
    ]


def framed(*people, source=UHD, output=CLIP, sentences=SENTENCES, **more) -> list[Shot]:
    faces = sorted((each for hits in people for each in hits), key=lambda each: each.t)
    samples = np.arange(0, 20 - 1e-9, 0.2).round(6).tolist()
    view = RangeAnalysis(start=0, end=20, fps=30, faces=faces, samples=samples, **more)
    return frame_range(view, source, output, None, Said(sentences))


def corner(shot: Shot, t: float) -> tuple[float, float]:
    at = [key.t for key in shot.keys]
    x, y = (float(np.interp(t, at, [getattr(key, axis) for key in shot.keys])) for axis in "xy")
    return x, y


def shows(shot: Shot, hit: FaceBox) -> bool:
    """Whether the whole face is in the crop."""
    (left, top), across, down = corner(shot, hit.t), hit.width / 2, hit.height / 2
    is_inside = left <= hit.x - across and hit.x + across <= left + shot.crop_width
    return is_inside and top <= hit.y - down and hit.y + down <= top + shot.crop_height


@pytest.mark.parametrize(
    ("source", "output", "is_closer"),
    [
        (HD, CLIP, False),
        (HD, (1080, 1350), True),
        (HD, (1080, 1080), True),
        (HD, (720, 1280), True),
        ((2560, 1440), CLIP, False),
        (UHD, CLIP, True),
        (UPRIGHT, CLIP, True),
        ((720, 1280), CLIP, False),
        ((1080, 2400), CLIP, True),
    ],
)
def test_the_camera_comes_closer_only_where_the_source_has_the_pixels(source, output, is_closer):
    small = 0.12 * min(source[0], source[1] * output[0] / output[1], source[1])
    hits = face(0.4 * source[0], 0.4 * source[1], small)
    (shot,) = framed(hits, source=source, output=output)
    (wide,) = framed(face(0.4 * source[0], 0.4 * source[1], 0.3 / 0.12 * small), source=source, output=output)
    assert (shot.crop_height < wide.crop_height) == is_closer
    assert ("closer" in shot.reason) == is_closer
    if is_closer:
        assert output[1] / shot.crop_height <= LARGEST_ENLARGEMENT * 1.002
        assert LEAST * 0.99 <= wide.crop_height / shot.crop_height <= CLOSEST * 1.01
        assert shot.crop_width / shot.crop_height == pytest.approx(output[0] / output[1], rel=0.005)
        assert all(shows(shot, hit) for hit in hits)


@given(
    st.floats(1, 2000),
    st.tuples(st.integers(100, 4000), st.integers(100, 4000)),
    st.tuples(st.integers(100, 2000), st.integers(100, 2000)),
)
def test_closeness_holds_all_its_bounds(width, crop, output):
    by = closeness(width, crop, output)
    assert by == 1 or LEAST <= by <= CLOSEST
    if by > 1:
        assert width / min(crop) < SMALL
        assert output[1] / (crop[1] / by) <= LARGEST_ENLARGEMENT + 1e-9


def test_a_face_that_is_large_enough_is_shown_as_before():
    (shot,) = framed(face(1500, 800, 0.26 * 1216))
    assert (shot.crop_width, shot.crop_height) == (1216, 2160)
    assert "closer" not in shot.reason


@pytest.mark.parametrize(("x", "y"), [(1500, 800), (60, 900), (3780, 90), (2000, 2090)])
def test_the_face_keeps_its_height_in_the_picture_as_far_as_it_can(x, y):
    hits = face(x, y, 100)
    (shot,) = framed(hits)
    (left, top) = corner(shot, 0)
    assert 0 <= left <= UHD[0] - shot.crop_width
    assert 0 <= top <= UHD[1] - shot.crop_height
    assert all(shows(shot, hit) for hit in hits)
    if 700 < y < 1000:
        assert (y - top) / shot.crop_height == pytest.approx(np.clip(y / 2160, 0.3, 0.42), abs=0.005)


def test_a_walk_is_followed_from_closer():
    hits = face(lambda t: 900 + 90 * t, 800, 150)
    (shot,) = framed(hits)
    assert shot.layout == "pan"
    assert shot.crop_height < 2160
    assert np.mean([shows(shot, hit) for hit in hits]) == 1


def test_the_distance_changes_only_where_sentences_begin():
    hits = face(1500, lambda t: 900 if t < 9 else 900 + 450 * np.sin(1.3 * (t - 9)), 150)
    shots = framed(hits)
    assert [(shot.start, shot.end, shot.crop_height < 2160) for shot in shots] == [(0, 8, True), (8, 20, False)]
    assert all(shows(shot, hit) for shot in shots for hit in hits if shot.start <= hit.t < shot.end)
    (without,) = framed(hits, sentences=[])
    assert without.crop_height == 2160


def test_two_close_crops_never_follow_each_other():
    hits = face(1500, lambda t: 500 + 1000 * np.clip((t - 8) / 3, 0, 1), 150)
    shots = framed(hits)
    assert any(shot.crop_height < 2160 for shot in shots)
    assert all(a.crop_height == 2160 or b.crop_height == 2160 for a, b in pairwise(shots))
    assert all(shows(shot, hit) for shot in shots for hit in hits if shot.start <= hit.t < shot.end)


def test_a_pan_that_is_cut_where_the_distance_changes_goes_on_from_there():
    def swing(t):
        return 900 if t < 12 else 900 + 450 * np.sin(1.3 * (t - 12))

    hits = face(lambda t: 700 + 60 * t, swing, 150)
    shots = framed(hits)
    assert {shot.crop_height < 2160 for shot in shots} == {True, False}
    assert all(a.end == b.start for a, b in pairwise(shots))
    for shot in shots:
        times = [key.t for key in shot.keys]
        assert (times[0], times[-1]) == (shot.start, shot.end)
        assert times == sorted(set(times))


def test_several_people_are_not_cut_off():
    shots = framed(face(1500, 800, 150), face(1900, 800, 150), sentences=SENTENCES)
    assert all(shot.crop_height == 2160 for shot in shots)
    (upright,) = framed(face(300, 800, 150), face(800, 800, 150), source=UPRIGHT)
    assert upright.crop_height == 1920


def test_who_speaks_is_shown_from_closer_and_the_other_is_not_in_the_way():
    left = face(900, 800, 150, mouth=lambda t: 3.0 if t < 10 else 0.2)
    right = face(3000, 900, 150, mouth=lambda t: 0.2 if t < 10 else 3.0)
    first, second = framed(left, right)
    assert [shot.crop_height < 2160 for shot in (first, second)] == [True, True]
    assert all(shows(first, hit) for hit in left if hit.t < first.end)
    assert all(shows(second, hit) for hit in right if hit.t >= second.start)


def test_bars_stay_out_of_a_close_crop():
    inside = Picture(left=0, top=200, width=3840, height=1760)
    (shot,) = framed(face(40, 260, 120), pictures=[inside])
    assert shot.crop_height < 1760
    assert corner(shot, 0)[1] >= 200


def test_a_crop_that_was_asked_for_stays():
    view = RangeAnalysis(start=0, end=4, fps=30, faces=face(1500, 800, 100, end=4.0))
    (shot,) = frame_range(view, UHD, CLIP, Crop(kind="crop", at=0.5), SENTENCES)
    assert shot.crop_height == 2160


@given(st.lists(st.floats(-5, 40), max_size=30), st.floats(0, 10), st.floats(0.1, 30))
def test_changes_of_distance_are_far_apart_and_where_sentences_begin(sentences, start, seconds):
    edges = changes(sentences, start, start + seconds)
    assert (edges[0], edges[-1]) == (start, start + seconds)
    assert set(edges[1:-1]) <= set(sentences)
    if len(edges) > 2:
        assert min(b - a for a, b in pairwise(edges)) >= LEAST_SECONDS - 1e-9
