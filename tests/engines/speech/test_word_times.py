"""The true time of each word of the sample is known; here it is said with pauses in it, and in noise."""

import json
import re
import wave
from difflib import SequenceMatcher
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from tasks.core.speech.asr import SAMPLE_RATE, AsrResult, Samples
from tasks.engines.hardware import AsrOptions
from tasks.engines.speech import pcm
from tasks.engines.speech.whisper import Recogniser, transcribe_with
from tests.folders import MEDIA

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
TALK = MEDIA / "short.mp4"
WORDS = json.loads(TALK.with_suffix(".json").read_text())["words"]

Times = list[tuple[str, float, float]]
"""Words with the seconds at which they begin and end."""


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return Recogniser(AsrOptions(cache=tmp_path_factory.mktemp("weights"), model="base", device="cpu"))


@pytest.fixture(scope="module")
def talk() -> Samples:
    return np.concatenate([block.samples for block in pcm.blocks(TALK, FFMPEG, 600, 60, print)])


def with_pauses(talk: Samples, every: int, longest: float) -> tuple[Samples, Times]:
    """The talk with a silence of 0.3 to `longest` seconds before every so many words."""
    rng = np.random.default_rng(every)
    pieces: list[Samples] = []
    times: Times = []
    begin, later = 0, 0.0
    for number, word in enumerate(WORDS):
        if number and number % every == 0:
            cut = round(word["start"] * SAMPLE_RATE)
            pause = np.zeros(round(rng.uniform(0.3, longest) * SAMPLE_RATE), np.float32)
            pieces += [faded(talk[begin:cut]), pause]
            begin, later = cut, later + len(pause) / SAMPLE_RATE
        times.append((word["word"], word["start"] + later, word["end"] + later))
    return np.concatenate([*pieces, faded(talk[begin:])]), times


def faded(piece: Samples) -> Samples:
    """Without a click where it was cut."""
    ramp = np.minimum(np.arange(len(piece)) / 80, 1).astype(np.float32)
    return piece * ramp * ramp[::-1]


def in_noise(samples: Samples, decibels: float) -> Samples:
    """With steady noise so much softer than the speech."""
    loud = np.sqrt(np.mean(np.square(samples[np.abs(samples) > 0.01])))
    noise = np.random.default_rng(5).normal(0, loud * 10 ** (-decibels / 20), len(samples))
    return (samples + noise).clip(-1, 1).astype(np.float32)


def transcribed(samples: Samples, recogniser: Recogniser, path: Path) -> AsrResult:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return transcribe_with(recogniser, path, FFMPEG, lambda *_: None, "en")


def late_by(result: AsrResult, times: Times) -> np.ndarray:
    """Seconds by which each word that was recognised begins late; shape (words,)."""
    words = [word for segment in result.segments for word in segment.words]
    found = SequenceMatcher(None, [letters(w.word) for w in words], [letters(w) for w, _, _ in times], autojunk=False)
    return np.array(
        [
            words[block.a + k].start - times[block.b + k][1]
            for block in found.get_matching_blocks()
            for k in range(block.size)
        ]
    )


def letters(word: str) -> str:
    return re.sub(r"\W", "", word.lower())


@pytest.mark.parametrize(
    ("every", "noise", "most"),
    [
        pytest.param(1000, 60, 0.11, marks=pytest.mark.long),
        (7, 60, 0.11),
        pytest.param(5, 15, 0.12, marks=pytest.mark.long),
    ],
    ids=["plain", "pauses", "pauses in noise"],
)
def test_nine_words_in_ten_begin_where_they_are_said(
    every: int, noise: float, most: float, talk: Samples, recogniser: Recogniser, tmp_path: Path
) -> None:
    """Measured: 0.095, 0.091 and 0.098 s; without a look at the sound as a whole, the first two were 0.135 and 0.54."""
    samples, times = with_pauses(talk, every, longest=1.8)
    late = late_by(transcribed(in_noise(samples, noise), recogniser, tmp_path / "talk.wav"), times)
    assert len(late) >= 0.8 * len(times)
    assert np.percentile(np.abs(late), 90) <= most
    assert abs(np.median(late)) <= 0.03
