from fractions import Fraction
from itertools import pairwise
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.edl import EdlClip, Span
from tasks.core.media import MediaInfo
from tasks.core.output.render_plan import (
    RenderOptions,
    correction_for,
    frame_rate,
    on_clip_clock,
    path_expression,
    plan,
    reels,
)
from tasks.core.picture.camera import CropKey, Shot
from tasks.core.picture.field_order import Scan

INFO = MediaInfo(duration=100, size_bytes=1, container="mp4", width=1920, height=1080, fps=30)


def clip(*spans: tuple[float, float]) -> EdlClip:
    return EdlClip(index=1, title="t", hook="h", segments=[Span(start=a, end=b) for a, b in spans])


def still(start: float, end: float) -> Shot:
    return Shot(
        start=start, end=end, layout="still", crop_width=608, crop_height=1080, keys=[CropKey(t=start, x=1, y=0)]
    )


@pytest.mark.parametrize(
    ("source", "highest", "expected"),
    [
        (30, 30, Fraction(30)),
        (29.97, 30, Fraction(30000, 1001)),
        (29.97002997, 60, Fraction(30000, 1001)),
        (60, 30, Fraction(30)),
        (59.94, 30, Fraction(30000, 1001)),
        (50, 30, Fraction(25)),
        (120, 30, Fraction(30)),
        (25, 30, Fraction(25)),
        (23.976, 30, Fraction(24000, 1001)),
        (10, 30, Fraction(30)),
        (15, 30, Fraction(30)),
        (22.13, 30, Fraction(24000, 1001)),
        (28.4, 30, Fraction(30000, 1001)),
        (48, 30, Fraction(25)),
        (0, 30, Fraction(30)),
        (30, 12, Fraction(10)),
    ],
)
def test_the_frame_rate_suits_the_source_and_the_limit(source: float, highest: float, expected: Fraction):
    assert frame_rate(source, highest) == expected


@given(st.floats(0.5, 240), st.sampled_from([10.0, 24.0, 29.97, 30.0, 60.0]))
def test_the_frame_rate_never_exceeds_the_limit(source: float, highest: float):
    assert 0 < frame_rate(source, highest) <= highest * 1.011


def test_pieces_change_at_the_first_frame_of_a_shot():
    made = plan(clip((10.0, 14.0)), [[still(10, 11.5), still(11.5, 14)]], INFO, RenderOptions())
    assert [(p.first, p.frames) for p in made.segments[0].pieces] == [(0, 45), (45, 75)]


@given(
    st.lists(st.tuples(st.floats(0, 50), st.floats(0.2, 20)), min_size=1, max_size=4),
    st.lists(st.floats(0, 1), max_size=6),
    st.sampled_from([10.0, 23.976, 25.0, 29.97, 60.0]),
)
def test_pieces_cover_every_segment_and_the_clip_never_exceeds_its_edl(
    spans: list[tuple[float, float]], cuts: list[float], fps: float
):
    wanted = clip(*((start, start + length) for start, length in spans))
    shots = []
    for span in wanted.segments:
        edges = [span.start, *sorted(span.start + c * span.duration for c in cuts), span.end]
        shots.append([still(a, b) for a, b in pairwise(edges)])
    made = plan(wanted, shots, INFO.model_copy(update={"fps": fps}), RenderOptions())
    for segment in made.segments:
        reached = 0
        for piece in segment.pieces:
            assert piece.first == reached
            assert piece.frames > 0
            reached += piece.frames
        assert reached == segment.frames
    assert wanted.duration - 1.1 / float(made.rate) <= made.duration <= wanted.duration + 0.0001


def test_a_corrected_clip_is_shorter_by_frames():
    made = plan(clip((0, 2)), [[still(0, 2)]], INFO, RenderOptions(), dropped_frames=3)
    assert made.frames == 57


def test_a_segment_without_shots_shows_the_whole_frame():
    made = plan(clip((0, 2)), [[]], INFO, RenderOptions())
    assert made.segments[0].pieces[0].layout == "fit"


def evaluate(expression: str, t: float) -> float:
    return eval(expression, {"clip": lambda x, low, high: min(max(x, low), high), "t": t})  # noqa: S307 - our own text


@given(st.lists(st.tuples(st.floats(0, 60), st.floats(0, 1300)), min_size=1, max_size=60, unique_by=lambda p: p[0]))
def test_the_path_passes_through_its_points_and_is_constant_outside(points: list[tuple[float, float]]):
    points = sorted((round(t, 2), v) for t, v in points)
    points = [p for i, p in enumerate(points) if i == 0 or p[0] - points[i - 1][0] >= 0.03]
    expression = path_expression(points)
    for t, v in points:
        assert isclose(evaluate(expression, t), v, abs_tol=0.6)
    assert isclose(evaluate(expression, -5), points[0][1], abs_tol=0.01)
    assert isclose(evaluate(expression, 100), points[-1][1], abs_tol=0.6)


def test_pan_keys_are_on_the_pieces_clock():
    pan = Shot(
        start=11,
        end=13,
        layout="pan",
        crop_width=608,
        crop_height=1080,
        keys=[CropKey(t=11, x=0, y=0), CropKey(t=13, x=200, y=0)],
    )
    piece = plan(clip((10, 13)), [[still(10, 11), pan]], INFO, RenderOptions()).segments[0].pieces[1]
    assert [(k.t, k.x) for k in piece.keys] == [(0, 0), (2, 200)]


def test_segments_that_follow_each_other_closely_are_decoded_in_one_go():
    cut = clip((10, 12), (12.5, 14), (20, 21), (13, 14))
    made = plan(cut, [[still(span.start, span.end)] for span in cut.segments], INFO, RenderOptions())
    found = [[(on.first, on.segment.start) for on in reel] for reel in reels(made)]
    assert found == [[(0, 10), (round(2.5 * made.rate), 12.5)], [(0, 20)], [(0, 13)]]
    assert [on.segment for reel in reels(made) for on in reel] == made.segments


def test_segments_of_different_scan_are_decoded_apart():
    cut = clip((10, 12), (12.5, 14))
    scans = [Scan(), Scan(kind="interlaced")]
    made = plan(cut, [[still(10, 12)], [still(12.5, 14)]], INFO, RenderOptions(), scans=scans)
    assert [len(reel) for reel in reels(made)] == [1, 1]


def test_stretches_are_moved_to_the_clips_clock():
    assert on_clip_clock(clip((10, 12), (30, 33)), [(11.5, 31)]) == [(1.5, 2.0), (2.0, 3.0)]


@pytest.mark.parametrize(
    ("ratio", "size"),
    [
        (None, (1080, 1920)),
        ("9:16", (1080, 1920)),
        ("4:5", (1080, 1350)),
        ("1:1", (1080, 1080)),
        ("16:9", (1920, 1080)),
    ],
)
def test_a_ratio_keeps_the_shorter_side(ratio, size):
    options = RenderOptions().at_ratio(ratio)
    assert (options.width, options.height) == size
    small = RenderOptions(width=270, height=480).at_ratio(ratio)
    assert min(small.width, small.height) == 270
    assert small.width % 2 == small.height % 2 == 0


def test_a_correction_changes_only_what_failed():
    assert correction_for(-17.0, -3.0, ["loudness"]).extra_gain == 3.0
    assert correction_for(-17.0, 0.5, ["true peak"]).model_dump() == {
        "extra_gain": 0.0,
        "lower_ceiling": 2.0,
        "dropped_frames": 0,
    }
    assert correction_for(-14.0, -3.0, ["length"]).dropped_frames == 1
