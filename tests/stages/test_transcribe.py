import subprocess
import wave
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from tasks.core.errors import BadRequest, NoAudio, NoSpeech, UnreadableMedia
from tasks.core.speakers.windows import FRAMES_PER_SECOND
from tasks.core.speech.asr import AsrResult, Stretch, rejection_reason
from tasks.core.transcript import Segment, Word
from tasks.engines.hardware import AsrOptions
from tasks.engines.speakers import find
from tasks.engines.speakers.graph import NetworkError
from tasks.engines.speech.whisper import Recogniser
from tasks.engines.weights import WeightsMissing
from tasks.stages.transcribe import tell_speakers_apart, transcribe_source
from tests.folders import MEDIA

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
RATE = 16_000
TIME = np.arange(12 * RATE) / RATE
NOISE = np.random.default_rng(7).standard_normal(len(TIME))


def coloured(power: float) -> np.ndarray:
    """Noise whose amplitude falls with frequency to the power of `power`: 0.5 is pink, 1 brown."""
    spectrum = np.fft.rfft(NOISE) / np.maximum(np.fft.rfftfreq(len(TIME), 1 / RATE), 20) ** power
    return np.fft.irfft(spectrum, len(TIME))


def music() -> np.ndarray:
    """Four chords with overtones, struck twice a second, over a drum."""
    chords = np.array([(220, 262, 330), (175, 220, 262), (131, 165, 196), (196, 247, 294)])[(TIME // 2).astype(int) % 4]
    voices = sum(np.sin(2 * np.pi * (n * chords.T) * TIME).sum(axis=0) / n for n in range(1, 5))
    return voices * np.exp(-(TIME % 0.5) * 6) + 3 * NOISE * np.exp(-(TIME % 0.25) * 40)


def applause() -> np.ndarray:
    hands = np.zeros(len(TIME))
    strokes = np.random.default_rng(3)
    for begin in strokes.integers(0, len(TIME) - 800, 1500):
        hands[begin : begin + 800] += NOISE[begin : begin + 800] * np.exp(-np.arange(800) / 120) * strokes.random()
    return hands


NOT_SPEECH: dict[str, Callable[[], np.ndarray]] = {
    "silence": lambda: np.zeros(len(TIME)),
    "white noise": lambda: NOISE,
    "pink noise": lambda: coloured(0.5),
    "brown noise": lambda: coloured(1.0),
    "tone": lambda: np.sin(2 * np.pi * 440 * TIME),
    "sweep": lambda: np.sin(2 * np.pi * (100 * TIME + 200 * TIME**2)),
    "mains hum": lambda: sum(np.sin(2 * np.pi * 60 * n * TIME) / n for n in range(1, 6)),
    "music": music,
    "applause": applause,
}


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> AsrOptions:
    return AsrOptions(cache=tmp_path_factory.mktemp("weights"), model="base", device="cpu")


@pytest.fixture(scope="module")
def recogniser(options: AsrOptions) -> Recogniser:
    return Recogniser(options)


def scaled(samples: np.ndarray) -> np.ndarray:
    return (0.5 * samples / max(np.abs(samples).max(), 1e-9)).astype(np.float32)


def write_wav(path: Path, samples: np.ndarray) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return path


@pytest.mark.parametrize("name", NOT_SPEECH)
def test_sound_without_speech_is_no_speech(name: str, options: AsrOptions, tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", scaled(NOT_SPEECH[name]()))
    with pytest.raises(NoSpeech) as caught:
        transcribe_source(audio, "auto", options, FFMPEG, lambda *_: None)
    assert caught.value.next_step


@pytest.mark.parametrize("name", ["brown noise", "tone", "music", "applause"])
def test_words_hallucinated_for_noise_are_rejected(name: str, recogniser: Recogniser) -> None:
    """The second guard alone, as if the voice detector had let it pass."""
    samples, window = scaled(NOT_SPEECH[name]()), Stretch(0, 12)
    ((spoken, _),) = recogniser.windows_by_language(samples, [window], [], None)
    assert all(rejection_reason(heard) for heard in recogniser.decode(samples, [window], spoken.language))


@pytest.mark.parametrize("noise_db", [None, 10])
def test_six_seconds_are_enough_even_in_noise(noise_db: int | None, options: AsrOptions, tmp_path: Path) -> None:
    audio = tmp_path / "a.wav"
    cut = ["-t", "6", "-ac", "1", "-ar", str(RATE), "-c:a", "pcm_s16le", audio]
    subprocess.run([FFMPEG, "-v", "error", "-i", MEDIA / "short.mp4", *cut], check=True)
    if noise_db is not None:
        with wave.open(str(audio)) as file:
            voice = np.frombuffer(file.readframes(file.getnframes()), np.int16) / 32768
        loud = voice[np.abs(voice) > 0.02].std()
        write_wav(audio, scaled(voice + NOISE[: len(voice)] * loud * 10 ** (-noise_db / 20)))
    result = transcribe_source(audio, "en", options, FFMPEG, lambda *_: None)
    assert "thing that you own" in result.segments[0].text
    assert result.language_probability == 1.0


def test_an_unknown_language_is_a_bad_request(options: AsrOptions, tmp_path: Path) -> None:
    audio = write_wav(tmp_path / "a.wav", scaled(NOISE[:RATE]))
    with pytest.raises(BadRequest):
        transcribe_source(audio, "klingon", options, FFMPEG, lambda *_: None)


def test_an_empty_track_is_no_audio(options: AsrOptions, tmp_path: Path) -> None:
    with pytest.raises(NoAudio):
        transcribe_source(write_wav(tmp_path / "a.wav", np.empty(0)), "auto", options, FFMPEG, lambda *_: None)


RESULT = AsrResult(
    segments=[
        Segment(text="", start=0, duration=4, words=[Word(word=f"w{t}", start=t, end=t + 0.9) for t in range(4)])
    ],
    language="en",
    language_probability=1,
    model="base",
    device="cpu",
    compute_type="int8",
    batch_size=1,
    duration=4,
    warnings=["before"],
)


def test_words_have_their_speakers_if_there_are_several(monkeypatch: pytest.MonkeyPatch):
    heard = np.zeros((round(4 * FRAMES_PER_SECOND), 2), np.float32)
    heard[: round(3 * FRAMES_PER_SECOND), 0] = 1
    heard[round(3 * FRAMES_PER_SECOND) :, 1] = 1
    for speaking, expected in ((heard, [1, 1, 1, 2]), (None, [None] * 4)):
        monkeypatch.setattr(find, "find_speakers", lambda *_, found=speaking: found)
        told = tell_speakers_apart(RESULT, MEDIA / "short.mp4", lambda *_: None)
        assert [word.speaker for segment in told.segments for word in segment.words] == expected
        assert told.told_apart
        assert told.warnings == ["before"]


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (WeightsMissing("No weights. Searched: /a/folder."), "the weights for that were not found"),
        (UnreadableMedia("x.pt is not a checkpoint that can be read."), "x.pt is not a checkpoint that can be read."),
        (NetworkError("out of\nmemory"), "out of memory"),
    ],
)
def test_speakers_that_cannot_be_told_apart_cost_a_warning_and_no_word(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, why: str
):
    def fails(*_: object) -> None:
        raise fault

    monkeypatch.setattr(find, "find_speakers", fails)
    told = tell_speakers_apart(RESULT, MEDIA / "short.mp4", lambda *_: None)
    assert told.warnings == ["before", f"speakers are not told apart: {why}"]
    assert told.segments == RESULT.segments
    assert not told.told_apart
