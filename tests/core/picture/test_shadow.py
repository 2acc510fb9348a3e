"""What is decided for two people but not drawn: quick turns split the picture, long ones are followed."""

import numpy as np
import pytest

from tasks.core.picture.camera import FaceBox, Picture, RangeAnalysis
from tasks.core.picture.face_log import face_log_clip
from tasks.core.picture.reframe import frame_range, shadows

WIDE, CLIP = (1920, 1080), (1080, 1920)


def face(x, mouth=0.2, size=200.0, end=30.0):
    """Detections of one face; `mouth` may be a function of time."""
    times = np.arange(0, end - 1e-9, 0.2).round(6)
    at = mouth if callable(mouth) else lambda t: mouth
    return [FaceBox(t=float(t), x=x, y=400, width=size, height=1.3 * size, score=0.9, mouth=at(t)) for t in times]


def talk(every, x=(450, 1450), end=30.0, quiet_from=99.0, **more):
    """Two people who take turns of `every` seconds, the left one first; nobody speaks from `quiet_from` on."""

    def speaks(turn):
        return lambda t: 3.0 if int(t / every) % 2 == turn and t < quiet_from else 0.2

    return face(x[0], speaks(0), end=end, **more), face(x[1], speaks(1), end=end, **more)


def view(*people, end=30.0, cuts=(), pictures=()):
    faces = sorted((each for hits in people for each in hits), key=lambda each: each.t)
    samples = np.arange(0, end - 1e-9, 0.2).round(6).tolist()
    return RangeAnalysis(
        start=0, end=end, fps=30, cuts=list(cuts), faces=faces, samples=samples, pictures=list(pictures)
    )


def decided(*people, **more):
    return [(one.layout, one.reason) for one in shadows(view(*people, **more), WIDE, CLIP)]


@pytest.mark.parametrize(("every", "layout"), [(1.5, "split"), (2.5, "split"), (6.0, "follow"), (15.0, "follow")])
def test_quick_turns_split_and_long_ones_are_followed(every, layout):
    ((found, reason),) = decided(*talk(every))
    assert found == layout
    assert ("quick turns" if layout == "split" else "long turns") in reason


def test_two_of_whom_none_is_known_to_speak_are_split():
    ((layout, reason),) = decided(face(450), face(1450))
    assert (layout, "0% of the time" in reason) == ("split", True)
    assert decided(*talk(3.0, quiet_from=10))[0][0] == "split"


def test_without_room_for_two_crops_the_camera_follows():
    ((layout, reason),) = decided(*talk(1.5, x=(700, 1250), size=450))
    assert (layout, "no room" in reason) == ("follow", True)


@pytest.mark.parametrize(
    "people",
    [[face(900)], [face(850), face(1100)], [face(300), face(900), face(1600)], [face(400), face(1400, end=10.0)], []],
    ids=["one", "close together", "three", "one of them leaves", "none"],
)
def test_nothing_is_decided_unless_two_are_too_far_apart_for_one_crop(people):
    assert decided(*people) == []


def test_each_shot_decides_for_itself_inside_its_bars():
    quick, slow = talk(1.5, end=12.0), [[hit for hit in hits if hit.t >= 12] for hits in talk(9.0)]
    bars = Picture(left=200, top=0, width=1520, height=1080)
    found = shadows(view(*quick, *slow, cuts=[12.0], pictures=[None, bars]), WIDE, CLIP)
    assert [(one.start, one.end, one.layout) for one in found] == [(0, 12, "split"), (12, 30, "follow")]
    assert decided(*talk(1.5), cuts=[1.0])[0][0] == "split"
    assert len(decided(*talk(1.5), cuts=[1.0])) == 1


def test_the_shadow_is_logged_and_draws_nothing():
    analysis = view(*talk(1.5))
    shots = frame_range(analysis, WIDE, CLIP)
    assert "split" not in {shot.layout for shot in shots}
    (logged,) = face_log_clip(1, shots, analysis, shadow=shadows(analysis, WIDE, CLIP))["shadow"]
    assert (logged["layout"], logged["start"], logged["end"]) == ("split", 0, 30)
    assert logged["reason"]
