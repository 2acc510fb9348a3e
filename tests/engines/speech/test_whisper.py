import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import NamedTuple

import imageio_ffmpeg
import numpy as np
import pytest
from faster_whisper.tokenizer import Tokenizer

from tasks.core.errors import BadRequest
from tasks.core.speech.asr import AsrResult, segments_of
from tasks.core.transcript import Word
from tasks.engines import hardware
from tasks.engines.hardware import AsrOptions, AsrPlan
from tasks.engines.speech import pcm, whisper
from tasks.engines.speech.whisper import Recogniser, transcribe_with
from tasks.engines.weights import WeightsMissing
from tests.folders import FOOTAGE, MEDIA, TESTS
from tests.small_media import ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
TEXTS = json.loads((TESTS / "declaration.json").read_text())
TALK = MEDIA / "short.mp4"
TRUTH = json.loads(TALK.with_suffix(".json").read_text())
VOICES = json.loads((MEDIA / "voices.json").read_text())
TURN = 9.9
"""Seconds of the sample up to a pause after its fourth sentence."""
PAUSE = 0.3


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> AsrOptions:
    return AsrOptions(cache=tmp_path_factory.mktemp("weights"), model="base", device="cpu")


@pytest.fixture(scope="module")
def recogniser(options: AsrOptions) -> Recogniser:
    return Recogniser(options)


@pytest.fixture(scope="module")
def heard(recogniser: Recogniser) -> tuple[AsrResult, list[tuple[float, float]]]:
    """The short sample's transcript, made in three blocks, and the reported progress."""
    steps: list[tuple[float, float]] = []
    result = transcribe_with(recogniser, TALK, FFMPEG, lambda *step: steps.append(step), block_seconds=16)
    return result, steps


@pytest.fixture
def gpu_recogniser(options: AsrOptions) -> Iterator[Recogniser]:
    """A separate recogniser whose plan names a GPU."""
    mine = Recogniser(options)
    mine.plan = AsrPlan("base", "cuda", "float16", 8, "")
    return mine


class Part(NamedTuple):
    """A part of a recording: so many seconds of `path` from `start`, in which the words are said in the language."""

    path: Path
    start: float
    seconds: float
    language: str
    words: list[str]


def talk(start: float, end: float) -> Part:
    said = [letters_of(word["word"]) for word in TRUTH["words"] if start <= word["start"] and word["end"] <= end]
    return Part(TALK, start, end - start, "en", said)


def voice(name: str, language: str) -> Part:
    path = MEDIA / "voices" / f"{name}.opus"
    return Part(path, 0.0, round(pcm.duration(path), 2), language, [letters_of(word) for word in VOICES[name].split()])


def joined(parts: Sequence[Part], path: Path) -> Path:
    """The parts one after another, each after `PAUSE` seconds of silence."""
    inputs = [word for part in parts for word in ("-ss", part.start, "-t", part.seconds, "-i", part.path)]
    shaped = [
        f"[{n}:a]aresample=16000,aformat=channel_layouts=mono,apad=whole_dur={part.seconds},adelay={1000 * PAUSE}[{n}]"
        for n, part in enumerate(parts)
    ]
    labels = "".join(f"[{n}]" for n in range(len(parts)))
    ffmpeg(*inputs, "-vn", "-filter_complex", ";".join([*shaped, f"{labels}concat=n={len(parts)}:v=0:a=1"]), path)
    return path


def common(result: Sequence[str], said: Sequence[str]) -> int:
    """How many of the words that are said are in the result, in order."""
    blocks = SequenceMatcher(None, result, said, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks)


def letters_of(word: str) -> str:
    return re.sub(r"\W", "", word.lower())


def matches(result: AsrResult, truth: list[dict]) -> list[tuple[float, float]]:
    """The start in the transcript and the true start of every common word."""
    words = [word for segment in result.segments for word in segment.words]
    pairs = SequenceMatcher(
        None, [letters_of(w.word) for w in words], [letters_of(w["word"]) for w in truth], autojunk=False
    )
    return [
        (words[block.a + k].start, truth[block.b + k]["start"])
        for block in pairs.get_matching_blocks()
        for k in range(block.size)
    ]


def test_words_and_times_are_right_across_blocks(heard: tuple[AsrResult, list]) -> None:
    found = matches(heard[0], TRUTH["words"])
    assert len(found) >= 0.97 * len(TRUTH["words"])
    assert median(abs(start - true) for start, true in found) <= 0.06
    assert abs(median(start - true for start, true in found)) <= 0.03


def test_the_result_records_language_model_and_device(heard: tuple[AsrResult, list]) -> None:
    result, _ = heard
    assert (result.language, result.model, result.device, result.compute_type) == ("en", "base", "cpu", "int8")
    assert result.language_probability > 0.9
    assert result.duration == pytest.approx(TRUTH["duration"], abs=0.1)
    assert 25 < result.speech_seconds < 39
    assert result.warnings == []


def test_words_are_in_order_and_inside_the_source(heard: tuple[AsrResult, list]) -> None:
    words = [word for segment in heard[0].segments for word in segment.words]
    times = [time for word in words for time in (word.start, word.end)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] <= heard[0].duration


def test_progress_goes_forward_to_the_end(heard: tuple[AsrResult, list]) -> None:
    done = [step[0] for step in heard[1]]
    assert done == sorted(done)
    assert len(done) >= 3
    assert heard[1][-1][0] == pytest.approx(heard[1][-1][1], abs=0.1)


def test_an_unknown_language_is_refused_before_any_work(recogniser: Recogniser) -> None:
    with pytest.raises(BadRequest, match="xx"):
        transcribe_with(recogniser, Path("no-such-file"), FFMPEG, print, "xx")


@pytest.mark.long
@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([talk(0, TURN), voice("spanish", "es"), talk(TURN, 17.1)], marks=pytest.mark.soak),
        [talk(0, TURN), voice("italian", "it")],
        pytest.param([voice("spanish", "es"), voice("italian", "it")], marks=pytest.mark.soak),
        pytest.param([voice("italian", "it"), talk(0, TURN), voice("spanish", "es")], marks=pytest.mark.soak),
    ],
    ids=lambda parts: "-".join(part.language for part in parts),
)
def test_each_part_is_transcribed_in_its_language_and_no_sentence_is_lost(
    parts: list[Part], recogniser: Recogniser, tmp_path: Path
) -> None:
    result = transcribe_with(recogniser, joined(parts, tmp_path / "parts.flac"), FFMPEG, lambda *_: None)
    begin = 0.0
    for part in parts:
        heard = [s for s in result.segments if begin <= s.start < begin + PAUSE + part.seconds]
        assert {segment.language for segment in heard} == {part.language}
        words = [letters_of(word.word) for segment in heard for word in segment.words]
        assert common(words, part.words) >= (0.95 if part.language == "en" else 0.7) * len(part.words)
        begin += PAUSE + part.seconds
    changes = next(warning for warning in result.warnings if warning.startswith("the language changes: "))
    assert re.findall(r"\b([a-z]{2}) \d+ to", changes) == [part.language for part in parts]
    assert set(result.languages) == {part.language for part in parts}


@pytest.mark.long
def test_a_line_that_is_said_eight_times_is_heard_eight_times(recogniser: Recogniser) -> None:
    """With a narrow beam Whisper loops over such a line; with a wide one it stops after the second time."""
    result = transcribe_with(recogniser, MEDIA / "voices" / "chant.opus", FFMPEG, lambda *_: None)
    words = [word for segment in result.segments for word in segment.words]
    assert [letters_of(word.word) for word in words] == [letters_of(word) for word in VOICES["chant"].split()]
    assert result.warnings == []
    steps = [later.start - earlier.start for earlier, later in pairwise(words[::4])]
    assert all(1.4 < step < 2.9 for step in steps), steps


@pytest.mark.soak
def test_speech_after_a_long_silence_is_heard_from_its_first_word(recogniser: Recogniser, tmp_path: Path) -> None:
    silence, speech = 40.0, talk(0, TURN)
    late = tmp_path / "late.flac"
    ffmpeg("-i", joined([speech], tmp_path / "said.flac"), "-af", f"adelay={silence * 1000:.0f}", late)
    result = transcribe_with(recogniser, late, FFMPEG, lambda *_: None)
    words = [word for segment in result.segments for word in segment.words]
    assert [letters_of(word.word) for word in words] == speech.words
    assert words[0].start - silence - PAUSE == pytest.approx(TRUTH["words"][0]["start"], abs=0.15)
    assert result.warnings == []


@pytest.mark.soak
@pytest.mark.parametrize("seconds", [20, 30])
def test_the_first_word_after_loud_music_is_heard(seconds: int, recogniser: Recogniser, tmp_path: Path) -> None:
    path = tmp_path / "talk.flac"
    after_music(path, seconds)
    result = transcribe_with(recogniser, path, FFMPEG, lambda *_: None, "en")
    expected = [word for word in TRUTH["words"] if word["end"] < TURN]
    found = matches(result, expected)
    assert len(found) >= 0.95 * len(expected)
    assert found[0][1] == expected[0]["start"]
    assert found[0][0] - seconds == pytest.approx(found[0][1], abs=0.15)
    assert result.segments[0].start > seconds


def after_music(path: Path, seconds: int) -> None:
    """Chords, a bass and a drum at full volume, then the sample's first sentences."""
    t = np.arange(seconds * 16_000) / 16_000
    key = 1 + np.floor(t % 8 / 2) / 8
    notes = sum(np.sin(2 * np.pi * f * t * key) / n for n, f in enumerate((110, 220, 277.2, 329.6), start=1))
    kick = 2 * np.sin(2 * np.pi * 60 * (t % 0.5)) * np.exp(-12 * (t % 0.5))
    snare = np.random.default_rng(1).uniform(-0.5, 0.5, t.size) * np.exp(-25 * ((t + 0.25) % 0.5))
    music = path.with_suffix(".f32")
    music.write_bytes((0.4 * (notes + kick + snare)).clip(-1, 1).astype(np.float32).tobytes())
    talk = f"[1:a]atrim=end={TURN},aresample=16000,aformat=channel_layouts=mono[talk]"
    join = ["-filter_complex", f"{talk};[0:a][talk]concat=n=2:v=0:a=1"]
    ffmpeg("-f", "f32le", "-ar", "16000", "-ac", "1", "-i", music, "-i", TALK, *join, "-vn", path)


def test_a_gpu_out_of_memory_halves_the_batch_and_loses_nothing(
    gpu_recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode, widths = Recogniser._decode, []

    def full_above_two(self, samples, windows, language, beam_size):
        widths.append(len(windows))
        if len(windows) > 2:
            raise RuntimeError("CUDA failed with error out of memory")
        return decode(self, samples, windows, language, beam_size)

    monkeypatch.setattr(Recogniser, "_decode", full_above_two)
    windows = [whisper.Stretch(4.0 * i, 4.0 * i + 1) for i in range(5)]
    hum = np.sin(np.arange(20 * 16_000) * 0.0236).astype(np.float32)
    heard = list(gpu_recogniser.decode(hum, windows, "en"))
    assert [width for width in widths if width > 1] == [5, 4, 2, 2]
    assert [one.window for one in heard] == windows
    assert gpu_recogniser.plan.batch_size == 2
    assert gpu_recogniser.warnings == ["the GPU ran out of memory: half the batch"] * 2


def test_a_gpu_that_does_not_work_falls_back_to_the_cpu(options: AsrOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    if hardware.ctranslate2.get_cuda_device_count():
        pytest.skip("this GPU works")
    monkeypatch.setattr(hardware.ctranslate2, "get_cuda_device_count", lambda: 1)
    found = Recogniser(replace(options, device="auto"))
    assert (found.plan.device, found.plan.model) == ("cpu", "base")
    assert found.warnings[-1].startswith("CPU,")
    assert "the GPU cannot be used" in found.warnings[-1]


def test_only_a_default_model_is_replaced_if_missing(
    options: AsrOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    plan = AsrPlan("medium", "cpu", "int8", 1, "")
    monkeypatch.setattr(hardware, "choose", lambda *_: plan)
    found = Recogniser(replace(options, model=None))
    assert found.plan.model == "base"
    assert found.warnings[0].startswith("the weights of medium are missing")
    with pytest.raises(WeightsMissing):
        Recogniser(replace(options, model="medium"))


@pytest.mark.parametrize(
    ("name", "phrase"),
    [
        ("jfk.flac", "ask not what your country can do for you"),
        ("librivox_ss_0870.wav", "how much there might be prudently in his power to do for them"),
        ("dialog_two_speakers.wav", "originally from Chicago"),
    ],
)
def test_real_recordings_are_recognised(name: str, phrase: str, recogniser: Recogniser) -> None:
    if not (FOOTAGE / name).exists():
        pytest.skip("no footage beside the project")
    result = transcribe_with(recogniser, FOOTAGE / name, FFMPEG, lambda *_: None)
    assert phrase in " ".join(segment.text for segment in result.segments)


def test_a_transcript_cut_by_a_decoding_error_is_incomplete_with_a_warning(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    gives_up = tmp_path / "gives_up"
    gives_up.write_text(f'#!/bin/sh\n{FFMPEG} "$@" 2>/dev/null | head -c 256000\necho broken >&2\nexit 69\n')
    gives_up.chmod(0o700)
    result = transcribe_with(recogniser, TALK, str(gives_up), lambda *_: None, "en")
    assert result.segments
    assert not result.complete
    assert "the sound could not be decoded after 8 s: broken" in result.warnings


def test_skipped_speech_is_reported(recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As when the decoder takes a timestamp for the end of the window."""
    decode = Recogniser._decode

    def skipping(self, samples, windows, language, beam_size):
        return [
            one.model_copy(update={"words": [word for word in one.words if not 3 <= word.middle < 10]})
            for one in decode(self, samples, windows, language, beam_size)
        ]

    monkeypatch.setattr(Recogniser, "_decode", skipping)
    short = tmp_path / "short.flac"
    ffmpeg("-i", TALK, "-t", "14", "-vn", short)
    result = transcribe_with(recogniser, short, FFMPEG, lambda *_: None, "en")
    (warning,) = result.warnings
    assert re.fullmatch("speech from 0:0[23] to 0:(09|10) was not recognised", warning)


def test_a_whole_transcript_is_complete(heard: tuple[AsrResult, list]) -> None:
    assert heard[0].complete


@pytest.mark.parametrize("language", ["th", "lo", "my", "km", "hi", "ta", "he"])
def test_words_made_of_model_tokens_never_begin_with_a_mark(language: str, recogniser: Recogniser) -> None:
    tokenizer = Tokenizer(recogniser.model.hf_tokenizer, multilingual=True, task="transcribe", language=language)
    pieces, _ = tokenizer.split_to_word_tokens([*tokenizer.encode(" " + TEXTS[language]), tokenizer.eot])
    spoken = [Word(word=piece, start=i / 4, end=(i + 1) / 4) for i, piece in enumerate(pieces[:-1])]
    words = [word for segment in segments_of(spoken) for word in segment.words if word.word]
    assert not [word.word for word in words if unicodedata.category(word.word[0])[0] == "M" or word.word[0] in "ำຳ"]
    assert "".join(word.word for word in words) == TEXTS[language].replace(" ", "")
