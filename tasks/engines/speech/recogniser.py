"""A loaded Whisper model that detects languages and decodes windows of speech."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import ctranslate2
import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.audio import pad_or_trim

from tasks.core.speech import asr
from tasks.core.speech.asr import SAMPLE_RATE, DecodedWindow, Samples, Stretch
from tasks.core.speech.language_spans import (
    CLEAR,
    CONFIDENT,
    LanguageWindow,
    Probabilities,
    join_short_stretches,
    language_windows,
    most_likely_languages,
)
from tasks.core.transcript import Word
from tasks.engines import hardware, weights
from tasks.engines.hardware import AsrOptions, AsrPlan
from tasks.engines.speech.voices import find_speech, samples_in

WIDE_BEAM = 5
SMALLEST_DEFAULT = "base"

_log = logging.getLogger(__name__)


class _Model(WhisperModel):
    """Whisper that caches its last encoded batch, because language detection and decoding share it."""

    _encoded: tuple[bytes, ctranslate2.StorageView] | None = None

    def encode(self, features: np.ndarray) -> ctranslate2.StorageView:
        key = features.tobytes()
        if self._encoded is None or self._encoded[0] != key:
            self._encoded = None
            self._encoded = (key, super().encode(features))
        return self._encoded[1]


class Recogniser:
    """A loaded model and its plan. If the GPU runs out of memory, it falls back to a smaller plan."""

    def __init__(self, options: AsrOptions) -> None:
        self.warnings: list[str] = []
        self.beam_size = options.beam_size
        self._cache = options.cache
        self._load(self._with_weights(hardware.choose(options.device, options.model, options.batch_size), options))

    def _with_weights(self, plan: AsrPlan, options: AsrOptions) -> AsrPlan:
        """The plan, or the same plan with `SMALLEST_DEFAULT` if the default model's weights are missing."""
        try:
            weights.whisper_model(plan.model, self._cache)
        except weights.WeightsMissing as error:
            if options.model is not None or plan.model == SMALLEST_DEFAULT:
                raise
            reason = f"the weights of {plan.model} are missing: using {SMALLEST_DEFAULT}"
            self._warn(f"{reason} ({error})")
            return replace(plan, model=SMALLEST_DEFAULT, reason=reason)
        return plan

    def _load(self, plan: AsrPlan) -> None:
        """Load the model. On a GPU, also run it once, because a missing cuBLAS or cuDNN only shows then."""
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
            self._load(self._fallback_plan(replace(plan, batch_size=1), error))
        else:
            self.plan = plan

    def _fallback_plan(self, plan: AsrPlan, error: RuntimeError) -> AsrPlan:
        """The next plan after a GPU error, whose kind CTranslate2 reports only in its text."""
        if plan.device == "cpu":
            raise error
        with_less_memory = hardware.with_less_memory(plan) if "out of memory" in str(error) else None
        following = with_less_memory or hardware.on_cpu_instead(plan, f"the GPU cannot be used ({error})")
        self._warn(following.reason)
        return following

    def _warn(self, reason: str) -> None:
        self.warnings.append(reason)
        _log.warning("%s", reason)

    def windows_by_language(
        self, samples: Samples, windows: Sequence[Stretch], speech: Sequence[Stretch], before: str | None
    ) -> list[tuple[LanguageWindow, float]]:
        """The windows with their languages and probabilities, split where the language changes.

        A window that is clearly in one language stays whole. Others are classified piece by piece, and
        uncertain pieces stretch by stretch. `before` is the language spoken before the first window.
        """
        if not self.model.model.is_multilingual:
            return [(LanguageWindow(window, "en"), 1.0) for window in windows]
        stretches: list[Stretch] = []
        guesses: list[Probabilities] = []
        for window, guess in zip(windows, self._guesses(samples, windows), strict=True):
            inside = [stretch for stretch in speech if window.start <= stretch.start < window.end]
            for stretch, piece_guess in self._by_pieces(samples, window, guess, inside, CLEAR):
                stretches.append(stretch)
                guesses.append(piece_guess)
        languages = most_likely_languages(stretches, guesses, before)
        sure = {one: guess.get(code, 0.0) for one, guess, code in zip(stretches, guesses, languages, strict=True)}
        return [
            (found, max(p for one, p in sure.items() if found.window.start <= one.start < found.window.end))
            for found in language_windows(stretches, languages)
        ]

    def _by_pieces(
        self,
        samples: Samples,
        window: Stretch,
        guess: Probabilities,
        speech: Sequence[Stretch],
        sufficient: float = CONFIDENT,
    ) -> list[tuple[Stretch, Probabilities]]:
        """The window if its language has at least the `sufficient` probability, else its pieces or their stretches."""
        if max(guess.values()) >= sufficient or len(speech) < 2:
            return [(window, guess)]
        parts = join_short_stretches(speech)
        if len(parts) < 2:
            parts = list(speech)
        guesses = [self._guesses(samples, [part], padded=False)[0] for part in parts]
        return [
            piece
            for part, guess in zip(parts, guesses, strict=True)
            for piece in self._by_pieces(
                samples, part, guess, [one for one in speech if part.start <= one.start < part.end]
            )
        ]

    def _guesses(self, samples: Samples, windows: Sequence[Stretch], *, padded: bool = True) -> list[Probabilities]:
        """Probability of each language in each window. Without padding to 30 s, it takes a tenth of the time."""
        features = [self.model.feature_extractor(samples_in(samples, window))[..., :-1] for window in windows]
        while True:
            try:
                encoded = self.model.encode(np.stack([pad_or_trim(one) for one in features] if padded else features))
                found = self.model.model.detect_language(encoded)
            except RuntimeError as error:  # CTranslate2 raises nothing more specific
                self._apply_plan(self._fallback_plan(self.plan, error))
                return [self._guesses(samples, [window], padded=padded)[0] for window in windows]
            return [{token[2:-2]: probability for token, probability in one} for one in found]

    def decode(self, samples: Samples, windows: Sequence[Stretch], language: str) -> Iterator[DecodedWindow]:
        """Decode the windows in order; times are seconds from the first sample."""
        begin = 0
        while begin < len(windows):
            batch = windows[begin : begin + self.plan.batch_size]
            try:
                decoded = self._decode(samples, batch, language, self.beam_size)
            except RuntimeError as error:  # CTranslate2 raises nothing more specific
                self._apply_plan(self._fallback_plan(self.plan, error))
                continue
            for one in decoded:
                yield from self._retry(samples, one, language)
            begin += len(batch)

    def _apply_plan(self, plan: AsrPlan) -> None:
        if (plan.device, plan.compute_type) == (self.plan.device, self.plan.compute_type):
            self.plan = plan
        else:
            self.model.model.unload_model()
            self._load(plan)

    def _retry(self, samples: Samples, decoded: DecodedWindow, language: str) -> list[DecodedWindow]:
        """Decode a window again if it loops, is uncertain or skips much: with a wider beam, then in halves."""
        if self.beam_size < WIDE_BEAM and asr.needs_wider_search(decoded):
            again = self._decode(samples, [decoded.window], language, WIDE_BEAM)
            decoded = max([decoded, *again], key=lambda one: (not asr.rejection_reason(one), one.avg_logprob))
        if asr.rejection_reason(decoded) == "repetition" or (
            not asr.rejection_reason(decoded) and asr.is_sparse(decoded)
        ):
            return self._in_halves(samples, decoded, language)
        return self._with_skipped_speech(samples, decoded, language)

    def _with_skipped_speech(self, samples: Samples, decoded: DecodedWindow, language: str) -> list[DecodedWindow]:
        """The window, with speech for which it has no words decoded in windows of its own.

        When a line is said again and again, Whisper often stops after the second time.
        """
        gaps = asr.unrecognised_speech([decoded.window], decoded.words)
        if asr.rejection_reason(decoded) or not gaps:
            return [decoded]
        speech = [one.shifted(decoded.window.start) for one in find_speech(samples_in(samples, decoded.window))]
        found: list[DecodedWindow] = []
        for skipped in asr.unrecognised_speech(speech, decoded.words):
            pieces = join_short_stretches(asr.parts_within(speech, skipped))
            heard = [one for piece in pieces for one in self._decode(samples, [piece], language, WIDE_BEAM)]
            if heard and not any(asr.rejection_reason(one) for one in heard):
                before, decoded = asr.split_around(decoded, skipped)
                found += [before, *heard]
        return [one for one in (*found, decoded) if one.words]

    def _in_halves(self, samples: Samples, decoded: DecodedWindow, language: str) -> list[DecodedWindow]:
        """The halves of a window, decoded separately, if they are more plausible than the whole."""
        windows = asr.split_at_pause(decoded.window, find_speech(samples[: round(decoded.window.end * SAMPLE_RATE)]))
        parts = [one for window in windows for one in self._decode(samples, [window], language, WIDE_BEAM)]
        if not parts:
            return [decoded]
        if asr.rejection_reason(decoded):
            if asr.halves_agree(decoded, parts):
                return [decoded.model_copy(update={"is_confirmed": True})]
            return parts if not any(asr.rejection_reason(part) for part in parts) else [decoded]
        finer = [one for part in parts for one in self._retry(samples, part, language)]
        more = sum(len(part.text) for part in finer) >= 1.5 * len(decoded.text)
        return finer if more and not any(asr.rejection_reason(part) for part in finer) else [decoded]

    def _decode(
        self, samples: Samples, windows: Sequence[Stretch], language: str, beam_size: int
    ) -> list[DecodedWindow]:
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
            DecodedWindow(
                window=min(windows, key=lambda window: abs(window.start - segment.seek / 100)),  # seek is in 10 ms
                words=[Word(word=word.word, start=word.start, end=word.end) for word in segment.words or []],
                avg_logprob=segment.avg_logprob,
                no_speech_prob=segment.no_speech_prob,
            )
            for segment in segments
        ]
