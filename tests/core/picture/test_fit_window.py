"""Pictures that are fitted in: what of their width is shown, and that no face is lost that should be seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.picture.camera import FaceBox, Picture, RangeAnalysis, Shot
from tasks.core.picture.fit_window import MOST_FACES, WORTHWHILE
from tasks.core.picture.framing_choice import Fit
from tasks.core.picture.reframe import frame_range

WIDE, CLIP = (1920, 1080), (1080, 1920)


def face(x, size=120.0, y=400.0, end=10.0):
    """Detections of one face; `x` may be a function of time."""
    times = np.arange(0, end - 1e-9, 0.2).round(6)
    at = x if callable(x) else lambda t: x
    return [FaceBox(t=float(t), x=float(at(t)), y=y, width=size, height=1.3 * size, score=0.9) for t in times]


def framed(*people, source=WIDE, asked=None, pictures=()) -> list[Shot]:
    faces = sorted((each for hits in people for each in hits), key=lambda each: each.t)
    samples = np.arange(0, 10 - 1e-9, 0.2).round(6).tolist()
    view = RangeAnalysis(start=0, end=10, fps=30, faces=faces, samples=samples, pictures=list(pictures))
    return frame_range(view, source, CLIP, asked)


def holds(shot: Shot, hits) -> bool:
    left = shot.keys[0].x
    return all(left <= hit.x - hit.width / 2 and hit.x + hit.width / 2 <= left + shot.crop_width for hit in hits)


def test_two_too_far_apart_for_a_crop_are_shown_without_what_is_beside_them():
    people = face(650), face(1350)
    (shot,) = framed(*people)
    assert (shot.layout, shot.crop_height, shot.keys[0].y) == ("fit", 1080, 0)
    assert all(holds(shot, hits) for hits in people)
    assert shot.crop_width <= 700 + 2 * 120 + 4
    assert shot.keys[0].x + shot.crop_width / 2 == pytest.approx(1000, abs=3)
    assert "sized to all faces" in shot.reason


def test_two_at_the_edges_show_the_whole_picture():
    (shot,) = framed(face(200), face(1700))
    assert (shot.layout, shot.crop_width, shot.keys) == ("fit", 0, [])


def test_a_window_is_never_narrow_and_stays_in_the_picture():
    (shot,) = framed(face(1240, size=320), face(1860, size=320))
    assert shot.keys[0].x + shot.crop_width == 1920
    (shot,) = framed(face(960, size=600))
    assert shot.crop_width >= 1.4 * 608 - 2


def test_a_face_that_is_too_fast_to_follow_is_seen_all_the_time():
    hits = face(lambda t: 960 + 330 * np.sin(2 * t), size=300)
    (shot,) = framed(hits)
    assert "too fast" in shot.reason
    assert holds(shot, hits)
    assert shot.crop_width < 1920


def test_a_crowd_is_shown_where_it_is_densest():
    crowd = [face(x) for x in (300, 480, 660, 840, 1020)]
    apart = face(1840)
    (shot,) = framed(*crowd, apart)
    assert "the densest group" in shot.reason
    assert all(holds(shot, hits) for hits in crowd)
    assert not holds(shot, apart)
    assert shot.crop_width < 1200


def test_the_largest_face_of_a_crowd_is_never_left_out():
    crowd = [face(x) for x in (300, 480, 660, 840)]
    largest = face(1800, size=150)
    (shot,) = framed(*crowd, largest)
    assert shot.crop_width == 0 or holds(shot, largest)


def test_without_faces_and_where_it_was_asked_for_the_whole_picture_is_shown():
    assert [shot.crop_width for shot in framed()] == [0]
    assert [shot.crop_width for shot in framed(face(700), face(1300), asked=Fit(kind="fit"))] == [0]


def test_a_window_lies_inside_the_bars():
    picture = Picture(left=0, top=140, width=1920, height=800)
    (shot,) = framed(face(700), face(1300), pictures=[picture])
    assert (shot.crop_height, shot.keys[0].y) == (800, 140)
    pillars = Picture(left=240, top=0, width=1440, height=1080)
    (shot,) = framed(face(500), face(1050), pictures=[pillars])
    assert shot.keys[0].x >= 240
    assert shot.keys[0].x + shot.crop_width <= 1680
    assert holds(shot, face(500))


def test_a_tall_picture_is_shortened():
    (shot,) = framed(face(150, y=500), face(1000, y=500), face(150, y=2900), source=(1080, 4000))
    assert shot.layout == "fit"
    assert (shot.crop_width, shot.keys[0].x) == (1080, 0)
    assert shot.crop_height < 4000


@given(
    st.lists(st.tuples(st.integers(0, 1280), st.integers(20, 500)), max_size=7),
    st.sampled_from([(1280, 720), (1281, 721), (853, 480), (720, 720)]),
)
def test_windows_are_even_inside_and_hold_most_faces(people, source):
    tracks = [face(x, size=float(size), end=10.0) for x, size in people if x < source[0]]
    for shot in framed(*tracks, source=source):
        if shot.layout != "fit" or not shot.crop_width:
            continue
        assert shot.crop_width % 2 == shot.crop_height % 2 == 0
        assert shot.crop_width <= WORTHWHILE * source[0]
        left = shot.keys[0].x
        assert 0 <= left <= source[0] - shot.crop_width
        areas = [hits[0].width for hits in tracks]
        kept = [hits for hits in tracks if hits[0].width > 0.4 * max(areas)]
        inside = [left <= hits[0].x <= left + shot.crop_width for hits in kept]
        assert np.mean(inside) >= MOST_FACES - 0.4
