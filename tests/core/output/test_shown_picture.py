import numpy as np
import pytest

from tasks.core.output.shown_picture import KEY_FRAME_SECONDS, THUMBNAIL, DrawnPicture, ShownPicture
from tasks.core.output.source_match import SAMPLES_PER_SECOND

SECONDS = 9


def thumbnails(kind: str) -> np.ndarray:
    """A clip's samples: a still, one that changes all the time, or one with a cut after five seconds."""
    rng = np.random.default_rng(1)
    size = THUMBNAIL[1], THUMBNAIL[0]
    one, other = (rng.integers(16, 235, size).astype(np.uint8) for _ in range(2))
    count = SECONDS * SAMPLES_PER_SECOND
    return {
        "still": np.array([one] * count),
        "moving": np.array([np.roll(one, n, axis=1) for n in range(count)]),
        "cut": np.array([one if n < 5 * SAMPLES_PER_SECOND else other for n in range(count)]),
    }[kind]


def drawn(kind: str) -> DrawnPicture:
    made = DrawnPicture(shown=ShownPicture(), frames=225, thumbnails=thumbnails(kind).tobytes())
    return DrawnPicture.model_validate_json(made.model_dump_json())


def key_frames(kind: str, *times: float) -> list[tuple[float, np.ndarray]]:
    """Key frames of a file that shows this, with the noise that encoding adds."""
    noise = np.random.default_rng(2).integers(-2, 3, (len(times), THUMBNAIL[1], THUMBNAIL[0]))
    shown = thumbnails(kind).astype(int)
    frames = [np.clip(shown[round(t * SAMPLES_PER_SECOND)] + n, 0, 255) for t, n in zip(times, noise, strict=True)]
    return list(zip(times, [frame.astype(np.uint8) for frame in frames], strict=True))


@pytest.mark.parametrize("kind", ["still", "moving", "cut"])
def test_a_file_with_the_same_pictures_is_like_what_was_drawn(kind: str):
    assert drawn(kind).is_like(key_frames(kind, 0.0, 4.0, 5.0, 8.0))


def test_a_key_frame_may_lie_half_a_sample_away_and_after_the_last_one():
    beside = [(t + 0.04, frame) for t, frame in key_frames("cut", 0.0, 4.0, 5.0, 8.9)]
    assert drawn("cut").is_like(beside)


@pytest.mark.parametrize("kind", ["still", "cut"])
def test_one_other_picture_is_found(kind: str):
    frames = key_frames(kind, 0.0, 4.0, 6.0, 8.0)
    frames[2] = (6.0, key_frames("moving", 3.0)[0][1])
    assert not drawn(kind).is_like(frames)


def test_a_slightly_darker_picture_is_found():
    darker = [(t, np.clip(frame.astype(int) - 6, 0, 255).astype(np.uint8)) for t, frame in key_frames("still", 0, 4, 8)]
    assert not drawn("still").is_like(darker)


@pytest.mark.parametrize("times", [(), (0.0,), (0.0, 4.0), (0.0, KEY_FRAME_SECONDS + 0.2, 8.0), (4.5, 8.0)])
def test_parts_without_key_frames_are_not_taken_on_trust(times: tuple[float, ...]):
    assert not drawn("still").is_like(key_frames("still", *times))
