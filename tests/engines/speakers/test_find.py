"""Two synthetic voices, Festival's and espeak-ng's, speak in turns of known times."""

import wave
from pathlib import Path

import numpy as np
import pytest

from tasks.core.speakers.windows import FRAMES_PER_SECOND
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.speakers.find import find_speakers
from tasks.engines.speech import pcm
from tasks.engines.weights import speaker_weights
from tests.folders import MEDIA

RATE = 16_000
TURNS = [(1, 6.0), (2, 5.0), (1, 3.0), (2, 2.0), (1, 5.0), (2, 6.0), (1, 9.0)]
"""Whose turn it is, and its seconds."""
VOICES = ("spanish", "italian")
"""Recordings of the second voice."""


def loud(samples: np.ndarray) -> np.ndarray:
    return 0.06 * samples / np.sqrt(np.mean(samples**2))


@pytest.fixture(scope="module")
def dialog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TURNS, without pauses."""
    return spoken(tmp_path_factory.mktemp("dialog") / "dialog.wav", TURNS)


def spoken(path: Path, turns: list[tuple[int, float]]) -> Path:
    parts = [pcm.excerpt(MEDIA / "voices" / f"{name}.opus", ffmpeg_exe(), 0, 11).samples for name in VOICES]
    voices = {1: pcm.excerpt(MEDIA / "short.mp4", ffmpeg_exe(), 0, 36).samples, 2: np.concatenate(parts)}
    said, sound = {1: 0, 2: 0}, []
    for who, seconds in turns:
        length = round(seconds * RATE)
        sound.append(loud(voices[who][said[who] : said[who] + length]))
        said[who] += length
    return written(path, np.concatenate(sound))


def written(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def test_two_voices_are_told_apart_and_each_turn_is_heard_as_one_of_them(dialog: Path):
    told: list[tuple[float, float]] = []
    speaking = find_speakers(dialog, speaker_weights(), 2, lambda done, total: told.append((done, total)))
    assert speaking is not None
    assert speaking.shape[1] == 2
    heard, begin, frames = [], 0.0, 0
    for who, seconds in TURNS:
        edges = [round((begin + edge) * FRAMES_PER_SECOND) for edge in (0, seconds)]
        loudest = speaking[slice(*edges)].argmax(axis=1)[speaking[slice(*edges)].max(axis=1) > 0.5]
        heard.append((who, loudest))
        frames += int((loudest + 1 == who).sum())
        begin += seconds
    everything = sum(len(loudest) for _, loudest in heard)
    assert everything > 0.6 * begin * FRAMES_PER_SECOND
    assert frames > 0.9 * everything
    assert told[-1][1] == pytest.approx(begin, abs=0.1)


@pytest.mark.parametrize("before", [0.5, 12.0, 26.0])
def test_a_second_voice_is_found_wherever_it_speaks(before: float, tmp_path: Path):
    turns = [(1, before), (2, 6.0), (1, 28.0 - before)]
    speaking = find_speakers(spoken(tmp_path / "talk.wav", turns), speaker_weights(), 2, lambda *_: None)
    assert speaking is not None
    theirs = speaking[round((before + 0.5) * FRAMES_PER_SECOND) : round((before + 5.5) * FRAMES_PER_SECOND)]
    assert theirs.argmax(axis=1).mean() > 0.8


def test_one_voice_is_not_taken_for_two():
    assert find_speakers(MEDIA / "sample.mp4", speaker_weights(), 2, lambda *_: None) is None


def test_noise_is_nobody(tmp_path: Path):
    noise = 0.1 * np.random.default_rng(1).standard_normal(RATE * 12)
    assert find_speakers(written(tmp_path / "noise.wav", noise), speaker_weights(), 2, lambda *_: None) is None
