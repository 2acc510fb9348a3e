import numpy as np

from tasks.core.speakers.windows import FRAMES, FRAMES_PER_SECOND, activity, voices


def classes(*stretches: tuple[float, float, int]) -> np.ndarray:
    """One window in which the network is sure of a class from one second to another, and otherwise of silence."""
    one = np.zeros((1, FRAMES, 7), np.float32)
    one[0, :, 0] = 1
    for begin, end, number in stretches:
        frames = slice(round(begin * FRAMES_PER_SECOND), round(end * FRAMES_PER_SECOND))
        one[0, frames] = np.eye(7)[number]
    return one


def test_two_who_speak_at_once_are_both_active_and_neither_is_alone():
    window = classes((1, 3, 1), (3, 4, 4), (4, 6, 2))
    speaking = activity(window)[0]
    seconds = speaking.sum(axis=0) / FRAMES_PER_SECOND
    assert np.allclose(seconds, [3, 3, 0], atol=0.02)
    alone = {voice.number: voice for voice in voices(window, 0.5)}
    assert {number: round(voice.seconds, 1) for number, voice in alone.items()} == {0: 2.0, 1: 2.0}
    assert not set(alone[0].alone) & set(alone[1].alone)


def test_a_voice_that_is_alone_for_less_is_left_out():
    assert [voice.number for voice in voices(classes((1, 1.4, 3), (2, 3, 1)), 0.5)] == [0]
