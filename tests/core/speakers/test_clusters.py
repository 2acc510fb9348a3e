import numpy as np
import pytest

from tasks.core.speakers.clusters import LEAST_SECONDS, MOST_SPEAKERS, speakers


def prints(people: list[int], spread: float = 0.6, length: int = 64, seed: int = 1) -> np.ndarray:
    """Unit vectors around one direction for each person."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((max(people) + 1, length))
    vectors = centres[people] + spread * random.standard_normal((len(people), length))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 7, 30, 250, 700])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_prints_of_the_same_person_get_the_same_number(count: int, number: int):
    people = [n % number for n in range(count * number)]
    found = speakers(prints(people), np.full(len(people), LEAST_SECONDS))
    assert len(set(zip(people, found.tolist(), strict=True))) == number
    assert set(found.tolist()) == set(range(number))


def test_the_one_who_speaks_longest_comes_first():
    people = [0, 1, 1, 2, 2, 2]
    found = speakers(prints(people), np.array([9.0, 8, 8, 4, 4, 4]))
    assert found.tolist() == [2, 0, 0, 1, 1, 1]


def test_a_voice_heard_for_a_moment_joins_the_one_it_is_most_like():
    vectors = prints([0, 0, 1, 1, 2])
    vectors[4] = vectors[2] + 0.9 * vectors[4]
    vectors[4] /= np.linalg.norm(vectors[4])
    assert speakers(vectors, np.array([5, 5, 4, 4, 0.9])).tolist() == [0, 0, 1, 1, 1]


def test_a_crowd_is_as_many_speakers_as_are_told_apart_at_most():
    people = [n % (3 * MOST_SPEAKERS) for n in range(6 * MOST_SPEAKERS)]
    seconds = np.array([LEAST_SECONDS + 1 + (person < MOST_SPEAKERS) for person in people])
    found = speakers(prints(people), seconds)
    assert set(found.tolist()) == set(range(MOST_SPEAKERS))
    kept = {person: int(found[n]) for n, person in enumerate(people) if person < MOST_SPEAKERS}
    assert len(set(kept.values())) == MOST_SPEAKERS


def test_voices_of_which_none_is_heard_for_long_are_one():
    assert speakers(prints([0, 1, 2]), np.full(3, LEAST_SECONDS / 2)).tolist() == [0, 0, 0]
