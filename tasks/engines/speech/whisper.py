"""Speech to text with faster-whisper, in blocks, so that memory does not grow with the source."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import ctranslate2
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.audio import pad_or_trim
from faster_whisper.vad import VadOptions, get_speech_timestamps

from tasks.core.counting import clock
from tasks.core.errors import BadRequest
from tasks.core.languages import LANGUAGES
from tasks.core.speech import asr
from tasks.core.speech.asr import SAMPLE_RATE, AsrResult, Heard, Samples, Stretch
from tasks.core.speech.language_spans import SURE, Guess, Spoken, languages_of, pieces, windows_of
from tasks.core.transcript import Segment, Word
from tasks.engines import hardware, weights
from tasks.engines.hardware import AsrOptions, AsrPlan
from tasks.engines.speech import pcm

__all__ = ["AsrOptions", "AsrResult", "Progress", "Recogniser", "transcribe"]

Progress = Callable[[float, float], None]
"""Called with the seconds done and the seconds in all."""

WIDE_BEAM = 5
SMALLEST_DEFAULT = "base"
BLOCK_SECONDS = 600.0
_VAD = VadOptions(min_silence_duration_ms=160, max_speech_duration_s=12.0, speech_pad_ms=200)
FRESH_SECONDS = 4.0
"""Length of the pieces in which silences are listened to again."""

_log = logging.getLogger(__name__)


class _Model(WhisperModel):
    """Whisper that encodes a batch once although its language is asked for first and its words then."""

    _encoded: tuple[bytes, ctranslate2.StorageView] | None = None

    def encode(self, features: np.ndarray) -> ctranslate2.StorageView:
        key = features.tobytes()
        if self._encoded is None or self._encoded[0] != key:
            self._encoded = None
            self._encoded = (key, super().encode(features))
        return self._encoded[1]


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
            self.model = _Model(
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

    def spoken(
        self, samples: Samples, windows: Sequence[Stretch], speech: Sequence[Stretch], before: str | None
    ) -> list[tuple[Spoken, float]]:
        """The windows with their languages and how probable those are; windows in which it changes are parted.

        A window that is plainly of one language stays whole. Any other is told by its pieces, and a piece
        that is not plain either by its stretches of speech. `before` is the language spoken until then.
        """
        if not self.model.model.is_multilingual:
            return [(Spoken(window, "en"), 1.0) for window in windows]
        stretches: list[Stretch] = []
        guesses: list[Guess] = []
        for window, guess in zip(windows, self._guesses(samples, windows), strict=True):
            inside = [stretch for stretch in speech if window.start <= stretch.start < window.end]
            for stretch, told in self._told_apart(samples, window, guess, inside):
                stretches.append(stretch)
                guesses.append(told)
        languages = languages_of(stretches, guesses, before)
        sure = {one: guess.get(code, 0.0) for one, guess, code in zip(stretches, guesses, languages, strict=True)}
        return [
            (found, max(p for one, p in sure.items() if found.window.start <= one.start < found.window.end))
            for found in windows_of(stretches, languages)
        ]

    def _told_apart(
        self, samples: Samples, window: Stretch, guess: Guess, speech: Sequence[Stretch]
    ) -> list[tuple[Stretch, Guess]]:
        """The window as it is where its language is plain, else its pieces, else their stretches of speech."""
        if max(guess.values()) >= SURE or len(speech) < 2:
            return [(window, guess)]
        parts = pieces(speech)
        if len(parts) < 2:
            parts = list(speech)
        guesses = [self._guesses(samples, [part], padded=False)[0] for part in parts]
        return [
            told
            for part, guess in zip(parts, guesses, strict=True)
            for told in self._told_apart(
                samples, part, guess, [one for one in speech if part.start <= one.start < part.end]
            )
        ]

    def _guesses(self, samples: Samples, windows: Sequence[Stretch], *, padded: bool = True) -> list[Guess]:
        """Probability of each language in each window; one that is not padded to 30 s takes a tenth of the time."""
        features = [self.model.feature_extractor(_part(samples, window))[..., :-1] for window in windows]
        while True:
            try:
                encoded = self.model.encode(np.stack([pad_or_trim(one) for one in features] if padded else features))
                found = self.model.model.detect_language(encoded)
            except RuntimeError as error:  # CTranslate2 raises nothing more specific
                self._narrow(self._next(self.plan, error))
                return [self._guesses(samples, [window], padded=padded)[0] for window in windows]
            return [{token[2:-2]: probability for token, probability in one} for one in found]

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
            for one in heard:
                yield from self._surer(samples, one, language)
            begin += len(batch)

    def _narrow(self, plan: AsrPlan) -> None:
        if (plan.device, plan.compute_type) == (self.plan.device, self.plan.compute_type):
            self.plan = plan
        else:
            self.model.model.unload_model()
            self._load(plan)

    def _surer(self, samples: Samples, heard: Heard, language: str) -> list[Heard]:
        """Decode a window again where the first try loops, is unsure or skips much: more widely, then in halves."""
        if self.beam_size < WIDE_BEAM and asr.is_poor(heard):
            again = self._decode(samples, [heard.window], language, WIDE_BEAM)
            heard = max([heard, *again], key=lambda one: (not asr.doubt(one), one.avg_logprob))
        if asr.doubt(heard) == "repetition" or (not asr.doubt(heard) and asr.is_sparse(heard)):
            return self._in_halves(samples, heard, language)
        return [heard]

    def _in_halves(self, samples: Samples, heard: Heard, language: str) -> list[Heard]:
        """What both halves of a window gave, where that is to be believed more than what the whole gave."""
        windows = asr.halves(heard.window, find_speech(samples[: round(heard.window.end * SAMPLE_RATE)]))
        parts = [one for window in windows for one in self._decode(samples, [window], language, WIDE_BEAM)]
        if not parts:
            return [heard]
        if asr.doubt(heard):
            if asr.agree(heard, parts):
                return [heard.model_copy(update={"agreed": True})]
            return parts if not any(asr.doubt(part) for part in parts) else [heard]
        finer = [one for part in parts for one in self._surer(samples, part, language)]
        more = sum(len(part.text) for part in finer) >= 1.5 * len(heard.text)
        return finer if more and not any(asr.doubt(part) for part in finer) else [heard]

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
    asked = None if language == "auto" else language
    tongues = _Tongues(asked)
    segments: list[Segment] = []
    warnings: list[str] = []
    gaps: list[str] = []
    for block in pcm.blocks(audio, ffmpeg, block_seconds, block_seconds / 10, gaps.append):
        speech = find_speech(block.samples)
        speech_seconds += sum(stretch.duration for stretch in speech)
        words: list[Word] = []
        for spoken, windows in tongues.runs(recogniser, block.samples, speech):
            for heard in recogniser.listen(block.samples, windows, spoken):
                if why := asr.doubt(heard):
                    begin, end = (clock(block.start + t) for t in (heard.window.start, heard.window.end))
                    warnings.append(f"left out {begin} to {end}: {why}")
                else:
                    words += _settled(heard, block)
                progress(block.start + heard.window.end, max(total, block.start + block.duration))
            segments += [one.model_copy(update={"language": spoken}) for one in asr.segments_of(words)]
            words = []
        done = block.start + block.duration
        progress(done, max(total, done))
    plan = recogniser.plan
    return AsrResult(
        segments=segments,
        language=tongues.main,
        languages=tongues.seconds,
        language_probability=tongues.probability,
        model=plan.model,
        device=plan.device,
        compute_type=plan.compute_type,
        batch_size=plan.batch_size,
        duration=done,
        speech_seconds=round(speech_seconds, 2),
        complete=not gaps,
        warnings=recogniser.warnings + gaps + tongues.warnings(segments) + warnings,
    )


class _Tongues:
    """The languages spoken so far, with the seconds of each and how sure they are."""

    def __init__(self, asked: str | None) -> None:
        self._asked = asked
        self._last = asked
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._sureness: defaultdict[str, float] = defaultdict(float)

    def runs(
        self, recogniser: Recogniser, samples: Samples, speech: Sequence[Stretch]
    ) -> Iterator[tuple[str, list[Stretch]]]:
        """Windows of the speech, batch by batch, those of one language in a row together."""
        windows = asr.plan_windows(speech)
        while windows:
            batch, windows = windows[: recogniser.plan.batch_size], windows[recogniser.plan.batch_size :]
            found = self._told(recogniser, samples, batch, speech)
            for language, run in groupby(found, key=lambda one: one[0].language):
                inside: list[Stretch] = []
                for spoken, probability in run:
                    inside.append(spoken.window)
                    self._seconds[language] += spoken.window.duration
                    self._sureness[language] += probability * spoken.window.duration
                self._last = language
                yield language, inside

    def _told(
        self, recogniser: Recogniser, samples: Samples, batch: Sequence[Stretch], speech: Sequence[Stretch]
    ) -> list[tuple[Spoken, float]]:
        if self._asked is not None:
            return [(Spoken(window, self._asked), 1.0) for window in batch]
        return recogniser.spoken(samples, batch, speech, self._last)

    @property
    def main(self) -> str:
        return max(self._seconds, key=lambda code: self._seconds[code]) if self._seconds else self._asked or ""

    @property
    def seconds(self) -> dict[str, float]:
        return {code: round(seconds, 2) for code, seconds in self._seconds.items()}

    @property
    def probability(self) -> float:
        return round(self._sureness[self.main] / self._seconds[self.main], 3) if self._seconds else 0.0

    @staticmethod
    def warnings(segments: Sequence[Segment]) -> list[str]:
        """One line that says which language is spoken when, where there are several."""
        runs = [list(run) for _, run in groupby(segments, key=lambda segment: segment.language)]
        if len(runs) < 2:
            return []
        told = [f"{run[0].language} {run[0].start:.0f} to {run[-1].end:.0f} s" for run in runs[:20]]
        return [f"the language changes: {', '.join(told)}" + (" and on" if len(runs) > 20 else "")]


def _settled(heard: Heard, block: pcm.Block) -> list[Word]:
    """Words of a window, times in seconds from the start of the source."""
    inside = heard.moved(-heard.window.start)
    return (
        inside.model_copy(update={"words": asr.settle(inside.words, _part(block.samples, heard.window))})
        .moved(block.start + heard.window.start)
        .words
    )


def find_speech(samples: Samples) -> list[Stretch]:
    """Stretches in which Silero's detector hears a voice, each with 0.2 s around it.

    The detector carries what it has heard along and is deaf to a voice for seconds after loud music.
    What it left out is therefore listened to again by a fresh one, in short pieces that overlap.
    """
    speech = _voices(samples)
    fresh = [one for gap in asr.silences(speech, len(samples) / SAMPLE_RATE) for one in _heard_afresh(samples, gap)]
    return asr.joined([*speech, *fresh])


def _heard_afresh(samples: Samples, gap: Stretch) -> list[Stretch]:
    """What a fresh detector hears in a gap; it begins a little before, for speech is known by what surrounds it."""
    reach = Stretch(
        max(gap.start - FRESH_SECONDS / 2, 0.0), min(gap.end + FRESH_SECONDS / 4, len(samples) / SAMPLE_RATE)
    )
    count = max(int((reach.duration - 1.0) // (FRESH_SECONDS / 2)) + 1, 1)
    found = [
        Stretch(max(one.start, gap.start), min(one.end, gap.end))
        for i in range(count)
        for one in _voices(
            samples,
            reach.start + i * FRESH_SECONDS / 2,
            min(reach.start + i * FRESH_SECONDS / 2 + FRESH_SECONDS, reach.end),
        )
    ]
    return [one for one in found if one.duration > 0.1]


def _voices(samples: Samples, begin: float = 0.0, end: float | None = None) -> list[Stretch]:
    """Stretches of a voice between two times, heard by a detector that knows nothing of what was before."""
    return [
        Stretch(begin + found["start"] / SAMPLE_RATE, begin + found["end"] / SAMPLE_RATE)
        for found in get_speech_timestamps(_part(samples, Stretch(begin, end or len(samples) / SAMPLE_RATE)), _VAD)
    ]


def _part(samples: Samples, window: Stretch) -> Samples:
    return samples[int(window.start * SAMPLE_RATE) : int(window.end * SAMPLE_RATE)]
