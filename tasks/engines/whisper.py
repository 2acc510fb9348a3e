"""Speech to text with faster-whisper, in blocks, so that memory does not grow with the source."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.vad import VadOptions, get_speech_timestamps

from tasks.core import asr
from tasks.core.asr import SAMPLE_RATE, AsrResult, Heard, Samples, Stretch
from tasks.core.errors import BadRequest
from tasks.core.languages import LANGUAGES
from tasks.core.transcript import Word
from tasks.engines import hardware, pcm, weights
from tasks.engines.hardware import AsrOptions, AsrPlan

__all__ = ["AsrOptions", "AsrResult", "Progress", "Recogniser", "transcribe"]

Progress = Callable[[float, float], None]
"""Called with the seconds done and the seconds in all."""

SURE_OF_LANGUAGE = 0.7
WIDE_BEAM = 5
SMALLEST_DEFAULT = "base"
BLOCK_SECONDS = 600.0
_VAD = VadOptions(min_silence_duration_ms=160, max_speech_duration_s=12.0, speech_pad_ms=200)

_log = logging.getLogger(__name__)


class Recogniser:
    """One loaded model, and the plan it runs under, which narrows when a GPU is out of memory."""

    def __init__(self, options: AsrOptions) -> None:
        self.warnings: list[str] = []
        self.beam_size = options.beam_size
        self._cache = options.cache
        self._load(self._with_weights(hardware.choose(options.device, options.model, options.batch_size), options))

    def _with_weights(self, plan: AsrPlan, options: AsrOptions) -> AsrPlan:
        """The plan, or, where nobody named its model and its weights are missing, the plan with `SMALLEST_DEFAULT`."""
        try:
            weights.whisper_model(plan.model, self._cache)
        except weights.WeightsMissing as error:
            if options.model is not None or plan.model == SMALLEST_DEFAULT:
                raise
            reason = f"the weights of {plan.model} are missing: {SMALLEST_DEFAULT} instead"
            self._warn(f"{reason} ({error})")
            return replace(plan, model=SMALLEST_DEFAULT, reason=reason)
        return plan

    def _load(self, plan: AsrPlan) -> None:
        """Load the model and, on a GPU, run it once: one without cuBLAS or cuDNN fails only then."""
        what = f"{plan.model} on {plan.device} {plan.compute_type}, batch {plan.batch_size}"
        _log.info("Whisper %s: %s", what, plan.reason)
        folder = weights.whisper_model(plan.model, self._cache)
        try:
            self.model = WhisperModel(
                str(folder.path), device=plan.device, compute_type=plan.compute_type, cpu_threads=hardware.cpu_cores()
            )
            if plan.device == "cuda":
                self.model.encode(np.zeros((self.model.model.n_mels, 3000), np.float32))
        except RuntimeError as error:  # CTranslate2 raises nothing more specific
            self._load(self._next(replace(plan, batch_size=1), error))
        else:
            self.plan = plan

    def _next(self, plan: AsrPlan, error: RuntimeError) -> AsrPlan:
        """What to try after a GPU failed; its error has no type of its own, only words."""
        if plan.device == "cpu":
            raise error
        narrower = hardware.narrower(plan) if "out of memory" in str(error) else None
        following = narrower or hardware.on_cpu_instead(plan, f"the GPU cannot be used ({error})")
        self._warn(following.reason)
        return following

    def _warn(self, reason: str) -> None:
        self.warnings.append(reason)
        _log.warning("%s", reason)

    def language(self, samples: Samples, windows: Sequence[Stretch]) -> tuple[str, float]:
        """Language of the first window, or of the first five together when it is not plain."""
        if not self.model.model.is_multilingual:
            return "en", 1.0
        total: Counter[str] = Counter()
        best, mean = "en", 0.0
        for count, window in enumerate(windows[:5], start=1):
            _, _, probabilities = self.model.detect_language(_part(samples, window))
            total.update(dict(probabilities))
            best, mean = total.most_common(1)[0][0], total.most_common(1)[0][1] / count
            if mean >= SURE_OF_LANGUAGE:
                break
        return best, round(mean, 3)

    def listen(self, samples: Samples, windows: Sequence[Stretch], language: str) -> Iterator[Heard]:
        """Words of each window, in order; times are seconds from the first sample."""
        begin = 0
        while begin < len(windows):
            batch = windows[begin : begin + self.plan.batch_size]
            try:
                heard = self._decode(samples, batch, language, self.beam_size)
            except RuntimeError as error:  # CTranslate2 raises nothing more specific
                self._narrow(self._next(self.plan, error))
                continue
            yield from (self._surer(samples, one, language) for one in heard)
            begin += len(batch)

    def _narrow(self, plan: AsrPlan) -> None:
        if (plan.device, plan.compute_type) == (self.plan.device, self.plan.compute_type):
            self.plan = plan
        else:
            self.model.model.unload_model()
            self._load(plan)

    def _surer(self, samples: Samples, heard: Heard, language: str) -> Heard:
        """Decode a window again, more widely, where the first try loops or is unsure; keep the better one."""
        if self.beam_size >= WIDE_BEAM or not asr.is_poor(heard):
            return heard
        again = self._decode(samples, [heard.window], language, WIDE_BEAM)
        return max([heard, *again], key=lambda one: (not asr.doubt(one), one.avg_logprob))

    def _decode(self, samples: Samples, windows: Sequence[Stretch], language: str, beam_size: int) -> list[Heard]:
        segments, _ = BatchedInferencePipeline(self.model).transcribe(
            samples,
            language=language,
            beam_size=beam_size,
            batch_size=len(windows),
            clip_timestamps=[{"start": window.start, "end": window.end} for window in windows],
            word_timestamps=True,
            temperature=0.0,
        )
        return [
            Heard(
                window=min(windows, key=lambda window: abs(window.start - segment.seek / 100)),  # seek is in 10 ms
                words=[Word(word=word.word, start=word.start, end=word.end) for word in segment.words or []],
                avg_logprob=segment.avg_logprob,
                no_speech_prob=segment.no_speech_prob,
            )
            for segment in segments
        ]


def transcribe(audio: Path, options: AsrOptions, ffmpeg: str, progress: Progress, language: str = "auto") -> AsrResult:
    """Transcribe the first audio stream of `audio`.

    Raises:
        BadRequest: Whisper does not know `language`.
        NoAudio, UnreadableMedia: there is nothing to listen to.
        ProgramStopped: the decoder was killed, or is stuck; another try may go well.
        WeightsMissing: the model is nowhere to be found.
    """
    return transcribe_with(Recogniser(options), audio, ffmpeg, progress, language)


def transcribe_with(
    recogniser: Recogniser,
    audio: Path,
    ffmpeg: str,
    progress: Progress,
    language: str = "auto",
    block_seconds: float = BLOCK_SECONDS,
) -> AsrResult:
    """The same with a model that is loaded already; about `block_seconds` are in memory at once."""
    if language != "auto" and language not in LANGUAGES:
        raise BadRequest(f"Whisper does not know the language {language!r}.")
    total, done, speech_seconds = pcm.duration(audio), 0.0, 0.0
    spoken, probability = (None, 0.0) if language == "auto" else (language, 1.0)
    words: list[Word] = []
    warnings: list[str] = []
    gaps: list[str] = []
    for block in pcm.blocks(audio, ffmpeg, block_seconds, block_seconds / 10, gaps.append):
        speech = find_speech(block.samples)
        windows = asr.plan_windows(speech)
        speech_seconds += sum(stretch.duration for stretch in speech)
        if windows and spoken is None:
            spoken, probability = recogniser.language(block.samples, windows)
        for heard in recogniser.listen(block.samples, windows, spoken or "en"):
            if why := asr.doubt(heard):
                warnings.append(f"left out {block.start + heard.window.start:.0f} s: {why}")
            else:
                words += _settled(heard, block)
            progress(block.start + heard.window.end, max(total, block.start + block.duration))
        done = block.start + block.duration
        progress(done, max(total, done))
    plan = recogniser.plan
    return AsrResult(
        segments=asr.segments_of(words),
        language=spoken or "",
        language_probability=probability,
        model=plan.model,
        device=plan.device,
        compute_type=plan.compute_type,
        batch_size=plan.batch_size,
        duration=done,
        speech_seconds=round(speech_seconds, 2),
        complete=not gaps,
        warnings=recogniser.warnings + gaps + warnings,
    )


def _settled(heard: Heard, block: pcm.Block) -> list[Word]:
    """Words of a window, times in seconds from the start of the source."""
    inside = heard.moved(-heard.window.start)
    return (
        inside.model_copy(update={"words": asr.settle(inside.words, _part(block.samples, heard.window))})
        .moved(block.start + heard.window.start)
        .words
    )


def find_speech(samples: Samples) -> list[Stretch]:
    """Stretches in which Silero's detector hears a voice, each with 0.2 s around it."""
    return [
        Stretch(found["start"] / SAMPLE_RATE, found["end"] / SAMPLE_RATE)
        for found in get_speech_timestamps(samples, _VAD)
    ]


def _part(samples: Samples, window: Stretch) -> Samples:
    return samples[round(window.start * SAMPLE_RATE) : round(window.end * SAMPLE_RATE)]
