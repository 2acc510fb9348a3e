from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.speakers.windows import FRAMES_PER_SECOND
from tasks.core.speakers.words import SHORTEST, with_speakers
from tasks.core.transcript import Segment, Word

SECONDS = 20.0


def speaking(*turns: tuple[int, float, float], speakers: int = 2) -> np.ndarray:
    found = np.zeros((round(SECONDS * FRAMES_PER_SECOND), speakers), np.float32)
    for speaker, begin, end in turns:
        found[round(begin * FRAMES_PER_SECOND) : round(end * FRAMES_PER_SECOND), speaker - 1] = 1
    return found


def said(*times: tuple[float, float]) -> list[Segment]:
    """Two segments with words at these times."""
    words = [Word(word=f"w{n}", start=a, end=b) for n, (a, b) in enumerate(times)]
    half = len(words) // 2
    return [Segment(text="", start=0, duration=1, words=part) for part in (words[:half], words[half:])]


def numbers(segments: list[Segment]) -> list[int | None]:
    return [word.speaker for segment in segments for word in segment.words]


def test_each_word_is_of_the_one_who_speaks_during_most_of_it():
    segments = said((0, 1), (1, 2), (1.9, 3), (3, 4))
    assert numbers(with_speakers(segments, speaking((1, 0, 2.1), (2, 2.1, 4)))) == [2, 2, 1, 1]


def test_a_word_in_which_nobody_is_heard_belongs_to_the_one_before():
    segments = said((0, 1), (1, 2), (2, 3), (3, 4), (4, 5))
    heard = with_speakers(segments, speaking((2, 1, 2), (1, 3, 4)))
    assert numbers(heard) == [1, 1, 1, 2, 2]


def test_a_moment_inside_what_another_says_is_theirs():
    for length, expected in ((SHORTEST - 0.1, 1), (SHORTEST + 0.1, 2)):
        segments = said((0, 1), (1, 1 + length), (1 + length, 3))
        heard = with_speakers(segments, speaking((1, 0, 1), (2, 1, 1 + length), (1, 1 + length, 3)))
        assert numbers(heard) == [1, expected, 1] if expected == 2 else [None] * 3


@pytest.mark.parametrize("voices", ["1121211", "1212121", "2212122"])
def test_short_runs_do_not_change_places(voices: str):
    edges = [(0.3 * n, 0.3 * n + 0.3) for n in range(len(voices))]
    turns = [(int(voice), a, b) for voice, (a, b) in zip(voices, edges, strict=True)]
    assert set(numbers(with_speakers(said(*edges), speaking(*turns)))) == {None}


def test_whoever_speaks_longest_is_number_1_and_no_number_is_left_out():
    segments = said((0, 1), (1, 2), (2, 3), (3, 4))
    heard = with_speakers(segments, speaking((3, 0, 1), (2, 1, 4), (1, 10, 20), speakers=3))
    assert numbers(heard) == [2, 1, 1, 1]


def test_one_speaker_leaves_the_transcript_as_it_was():
    segments = said((0, 1), (1, 2))
    assert with_speakers(segments, speaking((2, 0, 5))) == segments
    assert "speaker" not in segments[0].model_dump()["words"][0]


@given(st.lists(st.tuples(st.floats(-1, 30), st.floats(0, 3)), max_size=30), st.integers(1, 3), st.randoms())
def test_only_speakers_are_added(times: list[tuple[float, float]], speakers: int, random: Random):
    segments = said(*((begin, begin + length) for begin, length in times))
    turns = [(random.randint(1, speakers), t, t + 1.5) for t in range(0, 18, 2)]
    heard = with_speakers(segments, speaking(*turns, speakers=speakers))
    bare = [
        segment.model_copy(update={"words": [word.model_copy(update={"speaker": None}) for word in segment.words]})
        for segment in heard
    ]
    assert bare == segments
    assert set(numbers(heard)) <= {None} or None not in numbers(heard)
