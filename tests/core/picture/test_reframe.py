"""The camera's decisions on synthetic face tracks with a known right framing."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.picture.camera import FaceBox, Picture, RangeAnalysis, Shot
from tasks.core.picture.face_log import face_log, face_log_clip
from tasks.core.picture.framing_choice import Crop, Fit
from tasks.core.picture.reframe import frame_range
from tasks.core.picture.rest_or_pan import MAX_ACCELERATION, MAX_SPEED, fit_crop
from tasks.core.picture.said import Said, Turn

WIDE, CLIP = (1920, 1080), (1080, 1920)
CROP = 608


def person(x, start=0.0, end=10.0, mouth=0.0, size=200.0, y=400.0, every=0.2):
    """Detections of one face from `start` to `end`; `x`, `y` and `mouth` may be functions of time."""

    def at(value, t):
        return value(t) if callable(value) else value

    return [
        FaceBox(t=float(t), x=at(x, t), y=at(y, t), width=size, height=size * 1.3, score=0.9, mouth=at(mouth, t))
        for t in np.arange(start, end - 1e-9, every).round(6)
    ]


def view(*people, end=10.0, cuts=(), every=0.2):
    faces = sorted((face for hits in people for face in hits), key=lambda face: face.t)
    samples = np.arange(0, end - 1e-9, every).round(6).tolist()
    return RangeAnalysis(start=0, end=end, fps=30, cuts=list(cuts), faces=faces, samples=samples)


def crop_x(shot: Shot, t):
    return np.interp(t, [key.t for key in shot.keys], [key.x for key in shot.keys])


def share_inside(shots, faces):
    """The share of detections whose box is completely inside the crop at its time."""
    inside = []
    for face in faces:
        shot = next(shot for shot in shots if shot.start <= face.t < shot.end)
        left = crop_x(shot, face.t)
        inside.append(left <= face.x - face.width / 2 and face.x + face.width / 2 <= left + shot.crop_width)
    return np.mean(inside)


def speed_and_acceleration(shot):
    grid = np.arange(shot.start, shot.end, 0.1)
    speed = np.diff(crop_x(shot, grid)) / 0.1
    return np.abs(speed).max(), np.abs(np.diff(speed) / 0.1).max()


def test_a_jittering_face_gets_a_still_camera():
    noise = np.random.default_rng(1).normal(0, 6, 51)
    faces = person(lambda t: 900 + noise[round(t / 0.2)])
    (shot,) = frame_range(view(faces), WIDE, CLIP)
    assert shot.layout == "still"
    assert len(shot.keys) == 1
    assert abs(shot.keys[0].x + CROP / 2 - 900) < 10
    assert (shot.crop_width, shot.crop_height, shot.keys[0].y) == (CROP, 1080, 0)


def test_a_sway_within_the_dead_zone_does_not_move_the_camera():
    faces = person(lambda t: 900 + 80 * np.sin(t))
    (shot,) = frame_range(view(faces), WIDE, CLIP)
    assert shot.layout == "still"
    assert share_inside([shot], faces) == 1


def test_one_false_detection_far_away_moves_nothing():
    faces = person(900)
    (expected,) = frame_range(view(faces), WIDE, CLIP)
    (shot,) = frame_range(view(faces, person(200, 4.0, 4.2)), WIDE, CLIP)
    assert shot == expected


def test_a_walk_is_followed_at_bounded_speed_and_acceleration():
    faces = person(lambda t: 300 + 1300 * np.clip((t - 2) / 6, 0, 1))
    (shot,) = frame_range(view(faces), WIDE, CLIP)
    assert shot.layout == "pan"
    assert share_inside([shot], faces) == 1
    speed, acceleration = speed_and_acceleration(shot)
    assert speed <= MAX_SPEED * CROP
    assert acceleration <= MAX_ACCELERATION * CROP * 1.1  # keys are on tenths of a second, linear in between
    steps = np.diff(crop_x(shot, np.linspace(0, 10, 301)))
    assert (steps > -0.01).all(), "a walk to the right never takes the camera to the left"


def test_the_camera_rests_before_and_after_a_walk():
    faces = person(lambda t: 400 + 900 * np.clip((t - 8) / 4, 0, 1), end=20.0)
    (shot,) = frame_range(view(faces, end=20.0), WIDE, CLIP)
    assert shot.layout == "pan"
    moving = np.abs(np.diff(crop_x(shot, np.linspace(0, 20, 201)))) > 0.05
    assert not moving[:60].any()
    assert not moving[-60:].any()
    assert shot.keys[0].t == 0
    assert shot.keys[-1].t == 20


def test_movement_too_fast_to_follow_shows_the_whole_frame():
    faces = person(lambda t: 960 + 800 * np.sin(5 * t), every=0.05)
    shots = frame_range(view(faces, every=0.05), WIDE, CLIP)
    assert {shot.layout for shot in shots} == {"fit"}


def test_the_camera_cuts_between_two_who_take_turns():
    left = person(400, mouth=lambda t: 3.0 if t < 5 else 0.2)
    right = person(1500, mouth=lambda t: 0.2 if t < 5 else 3.0)
    first, second = frame_range(view(left, right), WIDE, CLIP)
    assert (first.layout, second.layout) == ("still", "still")
    assert abs(first.keys[0].x + CROP / 2 - 400) < 5
    assert abs(second.keys[0].x + CROP / 2 - 1500) < 5
    assert first.end == second.start
    assert abs(second.start - 5) < 0.6
    assert second.reason.startswith("speaker change: speaking")


def test_a_short_interjection_does_not_move_the_camera():
    left = person(400, mouth=lambda t: 0.2 if 4 < t < 4.7 else 3.0)
    right = person(1500, mouth=lambda t: 3.0 if 4 < t < 4.7 else 0.2)
    (shot,) = frame_range(view(left, right), WIDE, CLIP)
    assert shot.layout == "still"
    assert shot.keys[0].x + CROP / 2 < 500


def test_fast_turns_keep_the_minimum_shot_length():
    turns = np.random.default_rng(7).integers(0, 2, 60)
    left = person(400, end=30, mouth=lambda t: 3.0 * turns[int(t / 0.5)])
    right = person(1500, end=30, mouth=lambda t: 3.0 * (1 - turns[int(t / 0.5)]))
    shots = frame_range(view(left, right, end=30), WIDE, CLIP)
    assert len(shots) > 1
    assert min(shot.end - shot.start for shot in shots) >= 1.5


def talk(*turns: tuple[int, float, float]) -> Said:
    return Said((), [Turn(*turn) for turn in turns])


def alternating(seconds: float, end: float, pause: float = 0.3) -> Said:
    """Speakers 7 and 3 in turns of as many seconds."""
    starts = np.arange(0.0, end, seconds)
    return talk(*((7 if n % 2 == 0 else 3, float(t), float(t) + seconds - pause) for n, t in enumerate(starts)))


def murmuring(said: Said, speaker: int, lead: float = 2.0):
    """A mouth that moves a little all the time, and more while its owner speaks: others nod and laugh."""
    return lambda t: lead if any(turn.start <= t < turn.end for turn in said.turns if turn.speaker == speaker) else 1.2


def test_with_voices_the_camera_cuts_when_a_turn_begins():
    said = talk((7, 0, 4.85), (3, 5.05, 9.9), (7, 10.1, 14.9))
    left, right = (person(x, end=15, mouth=murmuring(said, who)) for x, who in ((400, 7), (1500, 3)))
    shots = frame_range(view(left, right, end=15.0), WIDE, CLIP, said=said)
    assert [shot.start for shot in shots] == pytest.approx([0, 5.05, 10.1])
    assert [abs(shot.keys[0].x + CROP / 2 - x) < 5 for shot, x in zip(shots, (400, 1500, 400), strict=True)]
    assert all("by voice and mouth" in shot.reason for shot in shots)


@pytest.mark.parametrize(("left_rest", "right_rest"), [(0.8, 0.8), (0.8, 0.95), (0.95, 0.8), (0.2, 0.9), (1.3, 1.4)])
@pytest.mark.parametrize("length", [0.9, 4.0])
def test_a_voice_without_a_face_is_nobodys(length: float, left_rest: float, right_rest: float):
    said = alternating(length, 12)

    def talks(t: float) -> bool:
        return any(turn.start <= t < turn.end for turn in said.turns if turn.speaker == 7)

    left = person(400, end=12, mouth=lambda t: 3.0 if talks(t) else left_rest)
    right = person(1500, end=12, mouth=lambda t: right_rest)
    shots = frame_range(view(left, right, end=12.0), WIDE, CLIP, said=said)
    assert "split" not in {shot.layout for shot in shots}
    shown = [(crop_x(shot, shot.start) + CROP / 2 if shot.layout == "still" else None) for shot in shots]
    assert {round(x, -1) for x in shown if x} <= {400}


def test_two_in_turns_too_quick_to_follow_are_both_shown():
    said = alternating(1.2, 15)
    left, right = (person(x, end=15, mouth=murmuring(said, who, 3.0)) for x, who in ((400, 7), (1500, 3)))
    (shot,) = frame_range(view(left, right, end=15.0), WIDE, CLIP, said=said)
    assert shot.layout == "split"
    assert shot.reason.startswith("quick turns: a camera that follows would miss")


@pytest.mark.parametrize(
    "said",
    [
        alternating(5.0, 15),
        talk((7, 0, 6), (3, 6.1, 6.8), (7, 6.9, 15)),
        talk((7, 0, 15)),
        talk(*((7, t, t + 1.5) for t in range(0, 15, 3))),
        alternating(1.2, 15),
    ],
    ids=["long turns", "an interjection", "one voice", "one voice with pauses", "one face"],
)
def test_otherwise_one_is_shown(said: Said, request: pytest.FixtureRequest):
    left, right = (person(x, end=15, mouth=murmuring(said, who, 3.0)) for x, who in ((400, 7), (1500, 3)))
    people = [left] if request.node.callspec.id == "one face" else [left, right]
    shots = frame_range(view(*people, end=15.0), WIDE, CLIP, said=said)
    assert {shot.layout for shot in shots} == {"still"}


@given(st.lists(st.floats(1.0, 6.0), min_size=2, max_size=9), st.lists(st.floats(-0.6, 0.6), min_size=9, max_size=9))
@settings(max_examples=60)
def test_no_part_is_shorter_than_the_camera_stays(lengths: list[float], late: list[float]):
    """Mouths begin to move before their voice is heard, or after it."""
    starts = [0.0, *np.cumsum(lengths)]
    end = float(starts[-1])
    turns = [(7 - 4 * (n % 2), float(a), float(b) - 0.1) for n, (a, b) in enumerate(pairwise(starts))]
    said = talk(*turns)
    shifted = talk(*((who, a + late[n], b + late[n]) for n, (who, a, b) in enumerate(turns)))
    left, right = (person(x, end=end, mouth=murmuring(shifted, who, 3.0)) for x, who in ((400, 7), (1500, 3)))
    shots = frame_range(view(left, right, end=end), WIDE, CLIP, said=said)
    inner = [shot.end - shot.start for shot in shots[1:-1]]
    assert min(inner, default=9.0) >= 1.5 - 1e-6


def test_numbers_of_speakers_mean_nothing():
    said = alternating(3.0, 15)
    left, right = (person(x, end=15, mouth=murmuring(said, who)) for x, who in ((400, 7), (1500, 3)))
    other = Said((), [turn._replace(speaker=20 - turn.speaker) for turn in said.turns])
    one, two = (frame_range(view(left, right, end=15.0), WIDE, CLIP, said=of) for of in (said, other))
    assert one == two


@pytest.mark.parametrize("mouth", [0.0, 3.0])
def test_two_far_apart_without_a_known_speaker_show_the_whole_frame(mouth):
    (shot,) = frame_range(view(person(300, mouth=mouth), person(1600, mouth=mouth)), WIDE, CLIP)
    assert shot.layout == "fit"
    assert "none known to speak" in shot.reason


def test_the_larger_of_two_silent_faces_is_the_subject():
    (shot,) = frame_range(view(person(300, size=120), person(1500, size=260)), WIDE, CLIP)
    assert shot.layout == "still"
    assert abs(shot.keys[0].x + CROP / 2 - 1500) < 5


def test_two_close_together_share_the_crop():
    people = person(800, mouth=3, size=150), person(1050, size=150)
    (shot,) = frame_range(view(*people), WIDE, CLIP)
    assert shot.layout == "still"
    assert shot.faces == 2
    assert all(share_inside([shot], faces) == 1 for faces in people)


def test_no_face_shows_the_whole_frame():
    (shot,) = frame_range(view(), WIDE, CLIP)
    assert (shot.layout, shot.crop_width, shot.keys) == ("fit", 0, [])
    assert shot.reason == "no face found"


def test_the_whole_frame_is_shown_after_a_face_leaves():
    first, second = frame_range(view(person(900, 0, 5)), WIDE, CLIP)
    assert (first.layout, second.layout) == ("still", "fit")
    assert 5 <= first.end <= 6.5


def test_a_briefly_lost_face_keeps_the_camera():
    (shot,) = frame_range(view(person(900, 0, 4), person(900, 5.4, 10)), WIDE, CLIP)
    assert shot.layout == "still"


def test_a_face_wider_than_the_crop_shows_the_whole_frame():
    (shot,) = frame_range(view(person(960, size=600)), WIDE, CLIP)
    assert shot.layout == "fit"
    assert "too wide for a crop" in shot.reason


def test_a_face_at_the_edge_keeps_the_crop_inside_the_frame():
    (shot,) = frame_range(view(person(1850)), WIDE, CLIP)
    assert shot.keys[0].x == WIDE[0] - CROP


def test_the_camera_never_pans_across_a_cut():
    shots = frame_range(view(person(400, 0, 5), person(1500, 5, 10), cuts=[5.0]), WIDE, CLIP)
    assert [(shot.start, shot.end, shot.layout) for shot in shots] == [(0, 5, "still"), (5, 10, "still")]
    assert abs(shots[1].keys[0].x + CROP / 2 - 1500) < 5


def test_a_sliver_after_the_last_cut_uses_its_neighbours_camera():
    shots = frame_range(view(person(900, 0, 9.8), cuts=[9.8]), WIDE, CLIP)
    assert [shot.layout for shot in shots] == ["still", "still"]
    assert shots[1].keys[0].x == shots[0].keys[0].x
    assert shots[1].keys[0].t == 9.8


@pytest.mark.parametrize("source", [(1080, 1920), (1088, 1920), (720, 1280)])
def test_a_vertical_source_is_not_cropped(source):
    (shot,) = frame_range(view(), source, CLIP)
    assert shot.layout == "still"
    assert shot.crop_width >= 0.98 * source[0]
    assert shot.crop_height >= 0.98 * source[1]


def test_a_source_taller_than_the_clip_is_cropped_along_its_height():
    (shot,) = frame_range(view(person(500, y=700, size=300)), (1080, 2400), CLIP)
    assert (shot.layout, shot.crop_width, shot.crop_height) == ("still", 1080, 1920)
    assert shot.keys[0].x == 0
    assert shot.keys[0].y <= 700 - 195
    assert shot.keys[0].y + 1920 >= 700 + 195


def test_a_square_source_is_cropped_to_its_face():
    (shot,) = frame_range(view(person(350)), (700, 700), CLIP)
    assert (shot.layout, shot.crop_width, shot.crop_height) == ("still", 394, 700)
    (shot,) = frame_range(view(person(350, size=380)), (700, 700), CLIP)
    assert shot.layout == "fit"


@pytest.mark.parametrize("source", [(1921, 1081), (853, 480), (640, 361), (17, 17), (4096, 2160)])
@pytest.mark.parametrize("output", [(1080, 1920), (720, 1280), (1080, 1080), (1080, 1350)])
def test_crops_are_even_inside_the_frame_and_of_the_clips_shape(source, output):
    frame = fit_crop(source, output)
    assert frame.crop_width % 2 == frame.crop_height % 2 == 0
    assert 0 < frame.crop_width <= source[0]
    assert 0 < frame.crop_height <= source[1]
    assert abs(frame.crop_width - frame.crop_height * output[0] / output[1]) <= 3


@st.composite
def scenes(draw):
    """Random walks of up to three faces with gaps, over a range with random cuts."""
    end = draw(st.floats(0.3, 12))
    samples = np.arange(0, end, draw(st.sampled_from([0.1, 0.2, 0.5])))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    faces = []
    for _ in range(draw(st.integers(0, 3))):
        x = random.uniform(0, 1920) + np.cumsum(random.normal(0, draw(st.sampled_from([2, 40, 300])), len(samples)))
        is_detected = random.random(len(samples)) < draw(st.sampled_from([0.2, 0.7, 1.0]))
        size, mouth = random.uniform(20, 900), random.gamma(1, 2, len(samples))
        faces += [
            FaceBox(t=t, x=a, y=500, width=size, height=size, score=0.9, mouth=m)
            for t, a, m, detected in zip(samples, x, mouth, is_detected, strict=True)
            if detected
        ]
    cuts = sorted(draw(st.lists(st.floats(-1, 13), max_size=4)))
    return RangeAnalysis(start=0, end=end, fps=30, cuts=cuts, faces=faces, samples=samples.tolist())


@settings(max_examples=150)
@given(scenes(), st.sampled_from([WIDE, (700, 700), (1080, 2400), (1080, 1920), (855, 481)]))
def test_shots_always_cover_the_range_and_crops_stay_inside(analysis, source):
    shots = frame_range(analysis, source, CLIP)
    assert shots[0].start == analysis.start
    assert shots[-1].end == analysis.end
    assert all(a.end == b.start for a, b in pairwise(shots))
    assert {cut for cut in analysis.cuts if 0 < cut < analysis.end} <= {shot.start for shot in shots}
    for shot in shots:
        assert shot.start < shot.end
        assert shot.reason
        times = [key.t for key in shot.keys]
        assert times == sorted(set(times))
        assert len(times) == {"fit": int(shot.crop_width > 0), "still": 1}.get(shot.layout, len(times))
        assert all(shot.start <= t <= shot.end for t in times)
        assert all(-1e-6 <= key.x <= source[0] - shot.crop_width + 1e-6 for key in shot.keys)
        assert all(-1e-6 <= key.y <= source[1] - shot.crop_height + 1e-6 for key in shot.keys)
        if shot.layout == "pan" and source == WIDE:
            assert speed_and_acceleration(shot)[0] <= MAX_SPEED * CROP * 1.01


def test_the_face_log_has_every_decision():
    analysis = view(person(900), cuts=[5.0])
    shots = frame_range(analysis, WIDE, CLIP)
    entry = face_log_clip(1, shots, analysis, view())
    assert (entry["index"], entry["segments"], entry["detected"]) == (1, 2, 1)
    assert [shot["reason"] for shot in entry["shots"]] == [shot.reason for shot in shots]
    log = face_log([entry], "4.14.0")
    assert (log["backend"], log["reason"], log["error"]) == ("yunet", None, None)
    failed = face_log([], None, "model_missing", "no file")
    assert (failed["backend"], failed["reason"], failed["error"]) == (None, "model_missing", "no file")


def test_crops_exclude_bars():
    picture = Picture(left=0, top=140, width=1920, height=800)
    analysis = view(person(900, y=500)).model_copy(update={"pictures": [picture]})
    (shot,) = frame_range(analysis, WIDE, CLIP)
    assert (shot.layout, shot.crop_width, shot.crop_height, shot.keys[0].y) == ("still", 450, 800, 140)
    assert share_inside([shot], analysis.faces) == 1


def test_a_vertical_picture_between_bars_fills_the_clip():
    analysis = view(person(960)).model_copy(update={"pictures": [Picture(left=658, top=0, width=604, height=1080)]})
    (shot,) = frame_range(analysis, WIDE, CLIP)
    assert (shot.layout, shot.crop_width) == ("still", 604)
    assert 658 <= shot.keys[0].x <= 660


def test_without_faces_the_whole_picture_is_shown_without_bars():
    analysis = view().model_copy(update={"pictures": [Picture(left=0, top=140, width=1920, height=800)]})
    (shot,) = frame_range(analysis, WIDE, CLIP)
    assert (shot.layout, shot.crop_width, shot.crop_height) == ("fit", 1920, 800)
    assert (shot.keys[0].x, shot.keys[0].y) == (0, 140)
    assert "bars" in shot.reason


def test_every_shot_has_its_own_bars():
    letterbox = Picture(left=0, top=140, width=1920, height=800)
    pillarbox = Picture(left=658, top=0, width=604, height=1080)
    analysis = view(cuts=[3.0, 7.0]).model_copy(update={"pictures": [None, letterbox, pillarbox]})
    full, wide, tall = frame_range(analysis, (1920, 1080), (1080, 1920))
    assert (full.layout, full.crop_width) == ("fit", 0)
    assert (wide.layout, wide.crop_width, wide.crop_height) == ("fit", 1920, 800)
    assert (wide.keys[0].x, wide.keys[0].y) == (0, 140)
    assert (tall.layout, tall.crop_width) == ("still", 604)
    assert tall.keys[0].x == 658


def test_a_sliver_with_other_bars_keeps_its_own_camera():
    letterbox = Picture(left=0, top=140, width=1920, height=800)
    analysis = view(cuts=[0.2]).model_copy(update={"pictures": [letterbox, None]})
    sliver, rest = frame_range(analysis, (1920, 1080), (1080, 1920))
    assert (sliver.crop_height, rest.crop_height) == (800, 0)


@pytest.mark.parametrize(("at", "x"), [(0.5, 656), (0.0, 0), (0.1, 0), (0.25, 176), (1.0, 1312)])
def test_a_crop_that_was_asked_for_rests_there_whatever_the_faces_do(at, x):
    (shot,) = frame_range(view(person(1700), cuts=[4]), WIDE, CLIP, Crop(kind="crop", at=at))
    assert (shot.start, shot.end, shot.layout, shot.reason) == (0, 10, "still", "asked for")
    assert (shot.crop_width, shot.crop_height) == (CROP, 1080)
    assert [(key.x, key.y) for key in shot.keys] == [(x, 0)]


def test_a_crop_of_a_tall_source_moves_up_and_down():
    (shot,) = frame_range(view(), (1080, 1920), (1920, 1080), Crop(kind="crop", at=0.25))
    assert [(key.x, key.y) for key in shot.keys] == [(0, 176)]


@pytest.mark.parametrize(
    ("asked", "corner"),
    [
        ({"at": 0.5}, (808, 270)),
        ({"at": 0.25, "cross": 0.3}, (328, 54)),
        ({"at": 0, "cross": 0}, (0, 0)),
        ({"at": 1, "cross": 1}, (1616, 540)),
    ],
)
def test_a_crop_with_a_zoom_is_smaller_and_moves_along_both_sides(asked, corner):
    (shot,) = frame_range(view(), WIDE, CLIP, Crop(kind="crop", zoom=2, **asked))
    assert (shot.crop_width, shot.crop_height) == (304, 540)
    assert [(key.x, key.y) for key in shot.keys] == [corner]


def test_in_a_tall_source_a_zoomed_crop_moves_sideways_across():
    (shot,) = frame_range(view(), (1080, 1920), (1920, 1080), Crop(kind="crop", at=0.25, zoom=3, cross=1))
    assert (shot.crop_width, shot.crop_height) == (360, 202)
    assert [(key.x, key.y) for key in shot.keys] == [(720, 379)]


def test_a_source_of_the_clips_shape_can_be_zoomed_into():
    (shot,) = frame_range(view(), (1080, 1920), CLIP, Crop(kind="crop", at=0.75, zoom=2, cross=0.25))
    assert (shot.crop_width, shot.crop_height) == (540, 960)
    assert [(key.x, key.y) for key in shot.keys] == [(540, 0)]


def test_the_whole_picture_is_shown_if_it_was_asked_for():
    shots = frame_range(view(person(960), cuts=[4]), WIDE, CLIP, Fit(kind="fit"))
    assert [(shot.start, shot.end, shot.layout, shot.crop_width) for shot in shots] == [(0, 10, "fit", 0)]


def test_the_whole_picture_comes_without_its_bars():
    barred = view(cuts=[4]).model_copy(update={"pictures": [None, Picture(left=0, top=140, width=1920, height=800)]})
    shots = frame_range(barred, WIDE, CLIP, Fit(kind="fit"))
    assert [(shot.start, shot.end, shot.crop_height) for shot in shots] == [(0, 4, 0), (4, 10, 800)]
