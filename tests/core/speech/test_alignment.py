from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.speech.alignment import ATTENTION_LEAD, FRAME, align_words
from tasks.core.speech.asr import SAMPLE_RATE, Samples
from tasks.core.transcript import Word

CLOSE = 0.06
"""Seconds between a word's beginning or end and where it is heard."""


def voice(seconds: float, pitch: float = 130.0) -> Samples:
    """Harmonics that fall off as a voice's do, with the beat of syllables."""
    t = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = sum(np.sin(2 * np.pi * pitch * n * t) / n for n in range(1, 20))
    return (0.15 * tones * (1 - 0.5 * np.cos(2 * np.pi * 5 * t) ** 2)).astype(np.float32)


def hiss(seconds: float, loudness: float, seed: int = 1) -> Samples:
    """White noise at so many dBFS."""
    noise = np.random.default_rng(seed).normal(0, 10 ** (loudness / 20), round(seconds * SAMPLE_RATE))
    return noise.astype(np.float32)


def in_room(*pieces: Samples, noise: float = -65.0) -> Samples:
    sound = np.concatenate(pieces)
    return sound + hiss(len(sound) / SAMPLE_RATE, noise, seed=2)


def nothing(seconds: float) -> Samples:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def as_whisper(*words: tuple[str, float, float]) -> list[Word]:
    """Words with the given true times, as early as Whisper has them."""
    return [Word(word=f" {word}", start=a - ATTENTION_LEAD, end=b - ATTENTION_LEAD) for word, a, b in words]


@pytest.mark.parametrize(
    ("pause", "noise"),
    [(0.3, -65.0), (0.3, -40.0), (0.8, -65.0), (0.8, -28.0), (1.9, -40.0), (1.9, -28.0), (3.0, -65.0), (3.0, -28.0)],
)
def test_a_word_that_spans_the_pause_before_it_begins_where_it_is_heard(pause: float, noise: float) -> None:
    samples = in_room(nothing(0.3), voice(1.0), nothing(pause), voice(1.0), nothing(0.3), noise=noise)
    heard = 1.3 + pause
    words = as_whisper(
        ("people", 0.3, 0.8),
        ("said", 0.8, 1.3),
        ("nobody", 1.3, heard + 0.5),
        ("came", heard + 0.5, heard + 1.0),
    )
    _, before, after, _ = align_words(words, samples)
    assert before.end == pytest.approx(1.3, abs=CLOSE)
    assert after.start == pytest.approx(heard, abs=CLOSE)


@pytest.mark.parametrize("pause", [0.4, 1.2, 1.9])
def test_a_word_that_spans_the_pause_after_it_ends_where_it_is_heard(pause: float) -> None:
    samples = in_room(nothing(0.3), voice(1.0), nothing(pause), voice(1.0), nothing(0.3))
    heard = 1.3 + pause
    words = as_whisper(
        ("people", 0.3, 0.8),
        ("said", 0.8, heard),
        ("nobody", heard, heard + 0.5),
        ("came", heard + 0.5, heard + 1.0),
    )
    _, before, after, _ = align_words(words, samples)
    assert before.start == pytest.approx(0.8, abs=CLOSE)
    assert before.end == pytest.approx(1.3, abs=CLOSE)
    assert after.start == pytest.approx(heard, abs=CLOSE)


def test_a_short_phrase_after_a_long_silence_begins_with_its_sound() -> None:
    samples = in_room(nothing(2.0), voice(0.5), nothing(0.3))
    (word,) = align_words(as_whisper(("yes", 0.7, 2.4)), samples)
    assert word.start == pytest.approx(2.0, abs=CLOSE)
    assert word.end == pytest.approx(2.5, abs=0.1)


def test_a_word_does_not_begin_with_the_breath_before_it() -> None:
    breath = hiss(0.35, -42)
    samples = in_room(voice(1.0), nothing(0.4), breath, nothing(0.1), voice(1.0))
    words = as_whisper(("people", 0, 0.5), ("said", 0.5, 1.0), ("nobody", 1.0, 2.35), ("came", 2.35, 2.85))
    assert align_words(words, samples)[2].start == pytest.approx(1.85, abs=CLOSE)


def test_a_word_with_a_closure_inside_stays_one_word() -> None:
    samples = in_room(voice(0.5), voice(0.3), nothing(0.09), voice(0.3), voice(0.5))
    words = as_whisper(("people", 0, 0.5), ("backpack", 0.5, 1.19), ("again", 1.19, 1.69))
    _, inner, _ = align_words(words, samples)
    assert inner.start == pytest.approx(0.5, abs=CLOSE)
    assert inner.end == pytest.approx(1.19, abs=CLOSE)


def test_each_of_two_islands_keeps_its_own_words() -> None:
    samples = in_room(voice(0.9), nothing(0.8), voice(0.9), nothing(0.8), voice(0.9))
    words = as_whisper(
        ("one", 0, 0.3),
        ("two", 0.3, 0.6),
        ("six", 0.6, 0.9),
        ("ten", 0.9, 2.0),
        ("one", 2.0, 2.3),
        ("two", 2.3, 3.4),
        ("six", 3.4, 3.7),
        ("ten", 3.7, 4.0),
        ("one", 4.0, 4.3),
    )
    starts = [word.start for word in align_words(words, samples)]
    assert starts == pytest.approx([0, 0.3, 0.6, 1.7, 2.0, 2.3, 3.4, 3.7, 4.0], abs=CLOSE)


def test_words_do_not_reach_into_speech_that_was_not_recognised() -> None:
    samples = in_room(voice(1.0), nothing(0.4), voice(1.5), nothing(0.4), voice(1.0))
    words = as_whisper(("people", 0, 0.5), ("said", 0.5, 1.0), ("nobody", 3.3, 3.8), ("came", 3.8, 4.3))
    _, before, after, _ = align_words(words, samples)
    assert before.end == pytest.approx(1.0, abs=CLOSE)
    assert after.start == pytest.approx(3.3, abs=CLOSE)


@pytest.mark.parametrize("words", [("so", "we", "can", "see"), ("我", "们", "看", "见")])
@pytest.mark.parametrize("sound", [voice(2.0), hiss(2.0, -20)], ids=["voice", "noise"])
def test_words_in_even_sound_are_only_moved_by_the_lead(words: tuple[str, ...], sound: Samples) -> None:
    times = [0.4, 0.7, 1.0, 1.3, 1.6]
    heard = as_whisper(*((word, a, b) for word, (a, b) in zip(words, pairwise(times), strict=True)))
    assert [word.start for word in align_words(heard, sound)] == pytest.approx(times[:-1], abs=2 * FRAME)


def test_words_are_kept_where_there_is_too_little_sound_for_them() -> None:
    assert align_words([], voice(1)) == []
    words = [Word(word=" a", start=0.02 * i, end=0.02 * i + 0.02) for i in range(9)]
    assert len(align_words(words, voice(0.1))) == 9
    assert len(align_words(words, np.empty(0, np.float32))) == 9
    assert len(align_words(words, nothing(1))) == 9


@given(st.lists(st.tuples(st.floats(-1, 12), st.floats(-1, 3)), max_size=20))
def test_aligned_words_are_in_order_and_inside_the_samples(times: list[tuple[float, float]]) -> None:
    samples = in_room(voice(3), nothing(1), voice(4), nothing(0.5), voice(1.5))
    words = [Word(word="w", start=start, end=start + length) for start, length in times]
    settled = align_words(words, samples)
    assert len(settled) == len(words)
    assert all(0 <= word.start <= word.end <= 10 for word in settled)
    assert all(a.end <= b.start for a, b in pairwise(settled))
