"""Prepare sound for the recogniser; judge and segment the words it returns. Times are seconds."""

import math
import string
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.core.speech.punctuation import ends_sentence
from tasks.core.speech.writing_systems import TOKEN, has_letters, one_byte_per_letter, whole_letters
from tasks.core.transcript import Segment, Word

SAMPLE_RATE = 16_000
"""Mono samples per second, as Whisper and the voice detector require."""
WINDOW_SECONDS = 30.0
"""Whisper's fixed input length."""
UNRECOGNISED_SECONDS = 3.0
"""Speech without words for this long is reported as unrecognised. Shorter stretches are often breaths,
laughter or music, which the voice detector takes for speech."""

MAX_LETTERS_PER_SECOND = 25.0
"""Nobody speaks faster: English has about 15 letters per second, auctioneers reach 22."""

_PUNCTUATION = frozenset(string.punctuation)
"""A token that begins with one of these continues the previous word; a new word begins with a space."""

Samples = NDArray[np.float32]
"""Sound between -1 and 1, shape (n,), `SAMPLE_RATE`."""


class Stretch(NamedTuple):
    """A time range from `start` to `end`."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        return self.end - self.start

    def shifted(self, seconds: float) -> "Stretch":
        return Stretch(self.start + seconds, self.end + seconds)


class DecodedWindow(BaseModel):
    """The words decoded from one window, with Whisper's confidence.

    `words` keep their leading spaces. `avg_logprob` is the mean log probability per token,
    `no_speech_prob` the probability that the window contains no speech.
    """

    model_config = ConfigDict(frozen=True)

    window: Stretch
    words: list[Word]
    avg_logprob: float
    no_speech_prob: float
    is_confirmed: bool = False
    """Whether its halves, decoded separately, gave the same text, which means that a repetition is real."""

    @property
    def text(self) -> str:
        return "".join(word.word for word in self.words).strip()

    def shifted(self, seconds: float) -> "DecodedWindow":
        words = [_shifted(word, seconds) for word in self.words]
        return self.model_copy(update={"window": self.window.shifted(seconds), "words": words})


class AsrResult(BaseModel):
    """A transcript and how it was made. `warnings` lists each fallback and all unrecognised speech.

    `language` is the one spoken longest; `languages` has the seconds of each. `complete` is False if
    the decoder failed before the end of the sound. `told_apart` means that words have their speakers, if
    there are several.
    """

    segments: list[Segment]
    language: str
    languages: dict[str, float] = Field(default_factory=dict[str, float])
    language_probability: float
    model: str
    device: str
    compute_type: str
    batch_size: int
    duration: float
    speech_seconds: float = 0.0
    complete: bool = True
    told_apart: bool = False
    warnings: list[str] = Field(default_factory=list[str])


def quietest_time(samples: Samples, earliest: float, width: float = 0.2) -> float:
    """The middle of the quietest `width` seconds after `earliest`, in seconds."""
    tail = samples[round(earliest * SAMPLE_RATE) :]
    step = round(width * SAMPLE_RATE)
    if len(tail) < step:
        return len(samples) / SAMPLE_RATE
    hop = step // 4
    total = np.concatenate(([0.0], np.cumsum(np.square(tail, dtype=np.float64))))
    energy = total[step::hop] - total[:-step:hop]
    return earliest + (int(np.argmin(energy)) * hop + step / 2) / SAMPLE_RATE


def plan_windows(speech: Iterable[Stretch], longest: float = WINDOW_SECONDS, widest_gap: float = 2.0) -> list[Stretch]:
    """Join consecutive stretches of speech into windows of at most `longest` seconds.

    A pause longer than `widest_gap` ends a window, because Whisper hallucinates words in silence.
    """
    windows: list[Stretch] = []
    for stretch in speech:
        last = windows[-1] if windows else None
        if last and stretch.end - last.start <= longest and stretch.start - last.end <= widest_gap:
            windows[-1] = Stretch(last.start, stretch.end)
        else:
            windows.extend(_equal_parts(stretch, longest))
    return windows


def silences(speech: Sequence[Stretch], end: float, shortest: float = 1.0) -> list[Stretch]:
    """The gaps between stretches of speech, in order, from 0 to `end`."""
    edges = [0.0, *(edge for stretch in speech for edge in stretch), end]
    gaps = [Stretch(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True)]
    return [gap for gap in gaps if gap.duration >= shortest]


def merge_overlapping(stretches: Iterable[Stretch]) -> list[Stretch]:
    """Sort the stretches by time and merge overlapping ones."""
    whole: list[Stretch] = []
    for stretch in sorted(stretches):
        if whole and stretch.start < whole[-1].end:
            whole[-1] = Stretch(whole[-1].start, max(whole[-1].end, stretch.end))
        else:
            whole.append(stretch)
    return whole


def _equal_parts(stretch: Stretch, longest: float) -> list[Stretch]:
    count = max(1, int(np.ceil(stretch.duration / longest - 1e-6)))
    edges = np.linspace(stretch.start, stretch.end, count + 1)
    return [Stretch(float(a), float(b)) for a, b in pairwise(edges)]


def split_at_pause(window: Stretch, speech: Sequence[Stretch], shortest: float = 3.0) -> list[Stretch]:
    """Split the window in two at the pause nearest its middle; empty if no pause leaves both parts long enough."""
    edges = [(a.end + b.start) / 2 for a, b in pairwise(speech) if window.start < a.end <= b.start < window.end]
    inner = [edge for edge in edges if edge - window.start >= shortest and window.end - edge >= shortest]
    if not inner:
        return []
    middle = min(inner, key=lambda edge: abs(edge - (window.start + window.end) / 2))
    return [Stretch(window.start, middle), Stretch(middle, window.end)]


def parts_within(speech: Iterable[Stretch], limits: Stretch) -> list[Stretch]:
    """The parts of the stretches that lie within the limits."""
    parts = [Stretch(max(one.start, limits.start), min(one.end, limits.end)) for one in speech]
    return [one for one in parts if one.duration > 0]


def split_around(decoded: DecodedWindow, gap: Stretch) -> tuple[DecodedWindow, DecodedWindow]:
    """The window before and after a gap between two of its words; either may have no words."""
    return (
        decoded.model_copy(
            update={
                "window": Stretch(decoded.window.start, gap.start),
                "words": [word for word in decoded.words if word.end <= gap.start],
            }
        ),
        decoded.model_copy(
            update={
                "window": Stretch(gap.end, decoded.window.end),
                "words": [word for word in decoded.words if word.end > gap.start],
            }
        ),
    )


def halves_agree(whole: DecodedWindow, parts: Sequence[DecodedWindow]) -> bool:
    """Whether a repetition is real: the halves, decoded separately, have about as much text as the whole.

    A decoder loop always runs to the decoder's limit. Each half then has as much text as the whole, at a
    pace nobody could speak.
    """
    letters = [len(part.text) for part in (whole, *parts)]
    pace = max(len(part.text) / max(part.window.duration, 0.1) for part in (whole, *parts))
    return pace <= MAX_LETTERS_PER_SECOND and 0.7 * letters[0] <= sum(letters[1:]) <= 1.3 * letters[0]


def unrecognised_speech(
    speech: Sequence[Stretch], words: Sequence[Word], shortest: float = UNRECOGNISED_SECONDS
) -> list[Stretch]:
    """Stretches with at least `shortest` seconds of speech between two words, or before the first or after the last."""
    edges = [-math.inf, *(edge for word in words for edge in (word.start, word.end)), math.inf]
    missing: list[Stretch] = []
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        if end - begin < shortest:
            continue
        inside = parts_within(speech, Stretch(begin, end))
        if sum(one.duration for one in inside) >= shortest:
            missing.append(Stretch(inside[0].start, inside[-1].end))
    return missing


def is_sparse(decoded: DecodedWindow) -> bool:
    """Whether a window has far fewer words than speech would, because the decoder skipped a repetition."""
    seconds = decoded.window.duration
    return seconds >= 6 and len(decoded.words) < 0.5 * seconds and len(decoded.text) < 2.5 * seconds


def needs_wider_search(decoded: DecodedWindow) -> bool:
    """Whether a wider beam may do better: the text loops or is uncertain, but there may be speech.

    Whisper's own decoder retries at the same thresholds, 2.4 and -1 (Radford et al. 2022, section 4.5).
    """
    return not _is_silent(decoded) and (_loops(decoded.text) or decoded.avg_logprob < -1.0)


def rejection_reason(decoded: DecodedWindow) -> str:
    """Why the words are probably wrong, or "" if they are plausible.

    Measured with Whisper base: for speech, even in noise at 10 dB, `avg_logprob` is above -1.05 and
    `no_speech_prob` rarely above 0.4. Silence, noise, tones and music either loop or fall below -1
    and rise above 0.4.
    """
    if not has_letters(decoded.text):
        return "no words"
    if _is_silent(decoded):
        return "no speech"
    if _loops(decoded.text) and not decoded.is_confirmed:
        return "repetition"
    if decoded.avg_logprob < -1.5:
        return "low confidence"
    return ""


def _is_silent(decoded: DecodedWindow) -> bool:
    return decoded.no_speech_prob > 0.4 and decoded.avg_logprob < -1.0


def _loops(text: str) -> bool:
    return compression_ratio(text) > 2.4 or _share_of_commonest(text) > 0.5


def compression_ratio(text: str) -> float:
    """Letters per compressed byte; high for decoder loops.

    Every letter counts as one byte. In UTF-8, a Thai or Hindi letter takes three bytes, two of them always the
    same, so ordinary speech would compress as well as a loop (2.5 to 3.3 instead of 1.4 to 1.7).
    """
    raw = one_byte_per_letter(text)
    return len(raw) / len(zlib.compress(raw))


def _share_of_commonest(text: str) -> float:
    """Share of the most common word pair among all pairs; 0 for fewer than twelve words."""
    words = TOKEN.findall(text.lower())
    if len(words) < 12:
        return 0.0
    pairs = Counter(pairwise(words))
    return max(pairs.values()) / (len(words) - 1)


def _shifted(word: Word, seconds: float) -> Word:
    return word.model_copy(update={"start": word.start + seconds, "end": word.end + seconds})


def segments_of(words: Sequence[Word], longest_pause: float = 1.0) -> list[Segment]:
    """Split words, which keep their leading spaces, into segments at sentence ends and pauses."""
    words = whole_words(words, longest_pause)
    segments: list[Segment] = []
    begin = 0
    for index, word in enumerate(words):
        last = index + 1 == len(words)
        ends = ends_sentence(word.word)
        if last or ends or words[index + 1].start - word.end > longest_pause:
            segments.append(_segment(words[begin : index + 1]))
            begin = index + 1
    return segments


def whole_words(words: Sequence[Word], longest_pause: float) -> list[Word]:
    """Join the recogniser's tokens into words: it splits "self-starter", "3.5", "20%" and "U.S." at the punctuation.

    In Thai, Lao and Burmese it also splits letters from their combining marks.
    """
    whole: list[Word] = []
    for word in whole_letters(words):
        if whole and word.word[:1] in _PUNCTUATION and word.start - whole[-1].end <= longest_pause:
            whole[-1] = Word(word=whole[-1].word + word.word, start=whole[-1].start, end=word.end)
        else:
            whole.append(word)
    return whole


def _segment(words: Sequence[Word]) -> Segment:
    start, end = words[0].start, words[-1].end
    return Segment(
        text="".join(word.word for word in words).strip(),
        start=start,
        duration=round(end - start, 3),
        words=[word.model_copy(update={"word": word.word.strip()}) for word in words],
    )
