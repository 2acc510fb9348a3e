"""Speech to text with faster-whisper, block by block, so that memory use does not grow with the source."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from tasks.core.errors import BadRequest
from tasks.core.languages import LANGUAGES
from tasks.core.plurals import clock
from tasks.core.speech import asr
from tasks.core.speech.alignment import align_words
from tasks.core.speech.asr import AsrResult, DecodedWindow, Samples, Stretch
from tasks.core.speech.language_spans import (
    LanguageWindow,
)
from tasks.core.transcript import Segment, Word
from tasks.engines.hardware import AsrOptions
from tasks.engines.speech import pcm
from tasks.engines.speech.recogniser import Recogniser
from tasks.engines.speech.voices import find_speech, samples_in

__all__ = ["AsrOptions", "AsrResult", "Progress", "Recogniser", "transcribe", "words_in"]

Progress = Callable[[float, float], None]
"""Called with the seconds done and the total."""

BLOCK_SECONDS = 600.0


def transcribe(audio: Path, options: AsrOptions, ffmpeg: str, progress: Progress, language: str = "auto") -> AsrResult:
    """Transcribe the first audio stream of `audio`.

    Raises:
        BadRequest: Whisper does not know `language`.
        NoAudio, UnreadableMedia: there is no sound, or it cannot be decoded.
        ProgramStopped: the decoder was killed or hung; a retry may succeed.
        WeightsMissing: the model's weights cannot be found.
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
    """Transcribe with a loaded model, holding about `block_seconds` in memory at a time. Raises as `transcribe`."""
    if language != "auto" and language not in LANGUAGES:
        raise BadRequest(f"Whisper does not know the language {language!r}.")
    total, done, speech_seconds = pcm.duration(audio), 0.0, 0.0
    tracker = _LanguageTracker(None if language == "auto" else language)
    segments: list[Segment] = []
    warnings: list[str] = []
    gaps: list[str] = []
    for block in pcm.blocks(audio, ffmpeg, block_seconds, block_seconds / 10, gaps.append):
        speech = find_speech(block.samples)
        speech_seconds += sum(stretch.duration for stretch in speech)
        done = block.start + block.duration
        report = partial(_report, progress, max(total, done))
        found, missing = _transcribe_block(recogniser, block, speech, tracker, report)
        segments += found
        warnings += missing
        report(done)
    plan = recogniser.plan
    return AsrResult(
        segments=segments,
        language=tracker.main,
        languages=tracker.seconds,
        language_probability=tracker.probability,
        model=plan.model,
        device=plan.device,
        compute_type=plan.compute_type,
        batch_size=plan.batch_size,
        duration=done,
        speech_seconds=round(speech_seconds, 2),
        complete=not gaps,
        warnings=recogniser.warnings + gaps + tracker.warnings(segments) + warnings,
    )


def words_in(recogniser: Recogniser, block: pcm.Block, language: str) -> list[Word]:
    """The words of a part of the source, which is in one language. What is too uncertain to keep is left out."""
    speech = find_speech(block.samples)
    segments, _ = _transcribe_block(recogniser, block, speech, _LanguageTracker(language), _ignore)
    return [word for segment in segments for word in segment.words]


def _transcribe_block(
    recogniser: Recogniser,
    block: pcm.Block,
    speech: Sequence[Stretch],
    tracker: "_LanguageTracker",
    report: Callable[[float], None],
) -> tuple[list[Segment], list[str]]:
    """The segments of a block, and a warning for each part of its speech without words."""
    segments: list[Segment] = []
    warnings: list[str] = []
    rejected: list[Stretch] = []
    for language, windows in tracker.runs(recogniser, block.samples, speech):
        words: list[Word] = []
        for decoded in recogniser.decode(block.samples, windows, language):
            if reason := asr.rejection_reason(decoded):
                warnings.append(f"left out {_times(decoded.window.shifted(block.start))}: {reason}")
                rejected.append(decoded.window)
            else:
                words += _align(decoded, block)
            report(block.start + decoded.window.end)
        segments += [one.model_copy(update={"language": language}) for one in asr.segments_of(words)]
    accepted = [one for one in speech if not any(window.start <= one.start < window.end for window in rejected)]
    spoken = [word for segment in segments for word in segment.words]
    missed = asr.unrecognised_speech([one.shifted(block.start) for one in accepted], spoken)
    return segments, warnings + [f"speech from {_times(one)} was not recognised" for one in missed]


def _report(progress: Progress, total: float, done: float) -> None:
    progress(done, total)


def _ignore(done: float) -> None:
    """Tell nobody."""


def _times(stretch: Stretch) -> str:
    return f"{clock(stretch.start)} to {clock(stretch.end)}"


class _LanguageTracker:
    """The languages spoken so far, with the seconds and the average probability of each."""

    def __init__(self, requested: str | None) -> None:
        self._requested = requested
        self._last = requested
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._weighted_probability: defaultdict[str, float] = defaultdict(float)

    def runs(
        self, recogniser: Recogniser, samples: Samples, speech: Sequence[Stretch]
    ) -> Iterator[tuple[str, list[Stretch]]]:
        """Windows of the speech by language: one item per run of windows in the same language."""
        windows = asr.plan_windows(speech)
        while windows:
            batch, windows = windows[: recogniser.plan.batch_size], windows[recogniser.plan.batch_size :]
            found = self._languages_of(recogniser, samples, batch, speech)
            for language, run in groupby(found, key=lambda one: one[0].language):
                inside: list[Stretch] = []
                for spoken, probability in run:
                    inside.append(spoken.window)
                    self._seconds[language] += spoken.window.duration
                    self._weighted_probability[language] += probability * spoken.window.duration
                self._last = language
                yield language, inside

    def _languages_of(
        self, recogniser: Recogniser, samples: Samples, batch: Sequence[Stretch], speech: Sequence[Stretch]
    ) -> list[tuple[LanguageWindow, float]]:
        if self._requested is not None:
            return [(LanguageWindow(window, self._requested), 1.0) for window in batch]
        return recogniser.windows_by_language(samples, batch, speech, self._last)

    @property
    def main(self) -> str:
        return max(self._seconds, key=lambda code: self._seconds[code]) if self._seconds else self._requested or ""

    @property
    def seconds(self) -> dict[str, float]:
        return {code: round(seconds, 2) for code, seconds in self._seconds.items()}

    @property
    def probability(self) -> float:
        return round(self._weighted_probability[self.main] / self._seconds[self.main], 3) if self._seconds else 0.0

    @staticmethod
    def warnings(segments: Sequence[Segment]) -> list[str]:
        """One line that tells which language is spoken when, if there are several."""
        runs = [list(run) for _, run in groupby(segments, key=lambda segment: segment.language)]
        if len(runs) < 2:
            return []
        ranges = [f"{run[0].language} {run[0].start:.0f} to {run[-1].end:.0f} s" for run in runs[:20]]
        return [f"the language changes: {', '.join(ranges)}" + (" and more" if len(runs) > 20 else "")]


def _align(decoded: DecodedWindow, block: pcm.Block) -> list[Word]:
    """The words of a window with corrected times, in seconds from the start of the source."""
    inside = decoded.shifted(-decoded.window.start)
    words = align_words(inside.words, samples_in(block.samples, decoded.window))
    return inside.model_copy(update={"words": words}).shifted(block.start + decoded.window.start).words
