"""Gives every word its speaker."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from tasks.core.speakers.windows import FRAMES_PER_SECOND, Activity
from tasks.core.transcript import Segment, Word

HEARD = 0.2
"""Least mean probability at which a voice counts as heard in a word."""
SHORTEST = 0.4
"""Seconds; fewer words between two of another speaker are taken for theirs."""


def with_speakers(segments: Sequence[Segment], speaking: Activity) -> list[Segment]:
    """The segments with a speaker in each word, from 1: the one who speaks longest. Unchanged if all have the same."""
    words = [word for segment in segments for word in segment.words]
    numbers = _by_time(words, _settled(words, _heard(words, speaking)))
    if len(set(numbers)) < 2:
        return list(segments)
    rest = iter(numbers)
    return [
        segment.model_copy(
            update={"words": [word.model_copy(update={"speaker": next(rest)}) for word in segment.words]}
        )
        for segment in segments
    ]


def _heard(words: Sequence[Word], speaking: Activity) -> NDArray[np.int64]:
    """The speaker of each word, 0 where none is heard."""
    total = np.concatenate([np.zeros((1, speaking.shape[1])), np.cumsum(speaking, axis=0, dtype=np.float64)])
    times = np.array([(word.start, word.end) for word in words]).reshape(-1, 2)
    begins = np.clip(np.floor(times[:, 0] * FRAMES_PER_SECOND).astype(int), 0, len(speaking) - 1)
    ends = np.clip(np.ceil(times[:, 1] * FRAMES_PER_SECOND).astype(int), begins + 1, len(speaking))
    means = (total[ends] - total[begins]) / (ends - begins)[:, None]
    return np.where(means.max(axis=1) >= HEARD, means.argmax(axis=1) + 1, 0)


def _settled(words: Sequence[Word], heard: NDArray[np.int64]) -> list[int]:
    """Words whose speaker is not heard are those of the one before; so is a moment inside what another says."""
    numbers = [int(number) for number in heard]
    first = next((number for number in numbers if number), 0)
    for place, number in enumerate(numbers):
        numbers[place] = number or (numbers[place - 1] if place else first)
    runs = [(number, list(places)) for number, places in groupby(range(len(words)), key=lambda place: numbers[place])]
    for (_, places), (after, _) in pairwise(runs[1:]):
        before = numbers[places[0] - 1]
        if before == after and words[places[-1]].end - words[places[0]].start < SHORTEST:
            for place in places:
                numbers[place] = before
    return numbers


def _by_time(words: Sequence[Word], numbers: list[int]) -> list[int]:
    """The numbers of those who speak words, from 1, whoever speaks longest first."""
    seconds = defaultdict[int, float](float)
    for word, number in zip(words, numbers, strict=True):
        seconds[number] += max(word.end - word.start, 0.0)
    longest = sorted(seconds, key=lambda number: -seconds[number])
    order = {number: place for place, number in enumerate(longest, start=1)}
    return [order[number] for number in numbers]
