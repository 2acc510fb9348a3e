"""The choice of the poster among candidates."""

import pytest

from tasks.core.output.poster import PosterCandidate, PosterFace, choose_poster


def frame(t: float, eyes: float | None = None, **more: object) -> PosterCandidate:
    """A candidate with a picture; with `eyes`, one with a face."""
    face = None if eyes is None else PosterFace(width=0.4, is_whole=True, eyes=eyes)
    return PosterCandidate.model_validate({"t": t, "contrast": 50.0, "sharpness": 10.0, "face": face} | more)


def changed(one: PosterCandidate, **face: object) -> PosterCandidate:
    return one.model_copy(update={"face": one.face.model_copy(update=face)} if one.face else {})


CLOSED, OPEN = 0.02, 0.04
TALK = [frame(n, OPEN) for n in range(2, 12)]


def chosen(*candidates: PosterCandidate) -> float:
    """The chosen time, which does not depend on the candidates' order."""
    best = choose_poster(candidates).t
    assert choose_poster(candidates[::-1]).t == best
    return best


def test_of_equal_frames_the_earliest_is_chosen():
    assert chosen(*TALK) == 2


@pytest.mark.parametrize(
    "worse",
    [
        frame(0, CLOSED),
        frame(0, CLOSED, sharpness=30.0),
        frame(0, OPEN, is_steady=False),
        frame(0, OPEN, contrast=3.0),
        frame(0, OPEN, is_captioned=True),
        frame(0, OPEN, sharpness=4.0),
        changed(frame(0, OPEN), width=0.2),
        changed(frame(0, OPEN), is_whole=False),
        frame(0, sharpness=40.0),
        changed(frame(0, OPEN * 3), width=0.05),
    ],
    ids=["closed", "closed, sharp", "cut", "flat", "caption", "blurred", "small", "cut off", "no face", "tiny face"],
)
def test_a_worse_frame_is_not_chosen_for_being_first(worse: PosterCandidate):
    assert chosen(worse, *TALK) == 2


def test_eyes_are_compared_with_those_of_the_same_shot():
    """The second speaker's eyes show less contrast when open than the first one's when closed."""
    first = [frame(0, OPEN, is_captioned=True), *(frame(n, CLOSED * 2, is_captioned=True) for n in range(1, 6))]
    second = [frame(n, eyes, shot=1) for n, eyes in ((6, 0.005), (7, 0.01), (8, 0.01), (9, 0.01), (10, 0.005))]
    assert chosen(*first, *second) == 7


def test_a_shot_with_few_faces_is_compared_with_the_whole_clip():
    assert chosen(frame(0, CLOSED, shot=1), *TALK) == 2


def test_closed_eyes_are_shown_only_if_there_is_nothing_else():
    assert chosen(frame(0, CLOSED), frame(1, OPEN, is_steady=False), frame(2, OPEN, is_steady=False), frame(3)) == 3
    assert chosen(frame(0, CLOSED), *(frame(n, OPEN, is_steady=False) for n in (1, 2, 3))) == 0


def test_without_faces_the_sharpest_steady_frame_is_chosen():
    assert chosen(frame(0, sharpness=5.0), frame(1, sharpness=20.0), frame(2, sharpness=30.0, is_steady=False)) == 1


def test_one_candidate_is_enough_and_none_is_an_error():
    assert chosen(frame(0, contrast=0.0, is_steady=False)) == 0
    with pytest.raises(ValueError, match="empty"):
        choose_poster([])
