"""Comparing a clip's sound with its source's."""

import pytest

from tasks.core.output.source_match import SoundLevels, dropouts

SPEECH, PAUSE = -17.0, -60.0


def levels(*runs: tuple[float, int]) -> SoundLevels:
    """Levels in dBFS, each for a number of hundredths of a second."""
    channels = [level for level, count in runs for _ in range(count)]
    return SoundLevels(channels=channels, mono=channels)


@pytest.mark.parametrize("late", [-4, -2, 0, 2, 4])
def test_a_pause_whose_edges_are_a_little_off_is_no_dropout(late: int):
    """As after a cut, where the parts last whole frames."""
    clip = levels((SPEECH, 100), (PAUSE, 36), (SPEECH, 100))
    source = levels((SPEECH, 100 + late), (PAUSE, 36), (SPEECH, 100 - late))
    assert dropouts(clip, source) == []


@pytest.mark.parametrize("hundredths", [15, 36])
def test_speech_that_the_clip_lacks_is_a_dropout(hundredths: int):
    clip = levels((SPEECH, 100), (PAUSE, hundredths), (SPEECH, 100))
    source = levels((SPEECH, 200 + hundredths))
    (found,) = dropouts(clip, source)
    assert found == pytest.approx((1.0, 1.0 + hundredths / 100))
