"""What is done to sound before the recogniser, and to its words after it. Times are seconds."""

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.core.transcript import Segment, Word

SAMPLE_RATE = 16_000
"""Samples per second, mono, that Whisper and the voice detector take."""
WINDOW_SECONDS = 30.0
"""Whisper's fixed input length."""

Samples = NDArray[np.float32]
"""Sound between -1 and 1, shape (n,), `SAMPLE_RATE`."""

_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi hr ht hu hy id "
    "is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn no oc pa pl ps pt ro ru sa sd "
    "si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi yi yo yue zh"
)
LANGUAGES = frozenset(_CODES.split())
"""Whisper's language codes."""


class Stretch(NamedTuple):
    """From `start` to `end`."""

    start: float
    end: float

    @property
    def duration(self) -> float:
        return self.end - self.start


class Heard(BaseModel):
    """What the recogniser made of one window, with its own doubts.

    `words` keep the recogniser's spaces. `avg_logprob` is the mean log probability of a token,
    `no_speech_prob` the probability that the window holds no speech.
    """

    model_config = ConfigDict(frozen=True)

    window: Stretch
    words: list[Word]
    avg_logprob: float
    no_speech_prob: float

    @property
    def text(self) -> str:
        return "".join(word.word for word in self.words).strip()


class AsrResult(BaseModel):
    """A transcript and how it came about. `warnings` names every fallback and every window left out."""

    segments: list[Segment]
    language: str
    language_probability: float
    model: str
    device: str
    compute_type: str
    batch_size: int
    duration: float
    speech_seconds: float = 0.0
    warnings: list[str] = Field(default_factory=list[str])


def quietest(samples: Samples, earliest: float, width: float = 0.2) -> float:
    """Time of the middle of the quietest `width` seconds after `earliest`."""
    tail = samples[round(earliest * SAMPLE_RATE) :]
    step = round(width * SAMPLE_RATE)
    if len(tail) < step:
        return len(samples) / SAMPLE_RATE
    hop = step // 4
    total = np.concatenate(([0.0], np.cumsum(np.square(tail, dtype=np.float64))))
    energy = total[step::hop] - total[:-step:hop]
    return earliest + (int(np.argmin(energy)) * hop + step / 2) / SAMPLE_RATE


def plan_windows(speech: Iterable[Stretch], longest: float = WINDOW_SECONDS, widest_gap: float = 2.0) -> list[Stretch]:
    """Join stretches of speech, in order, to windows of at most `longest` seconds.

    A pause above `widest_gap` ends a window, for a recogniser that is given silence invents words.
    """
    windows: list[Stretch] = []
    for stretch in speech:
        last = windows[-1] if windows else None
        if last and stretch.end - last.start <= longest and stretch.start - last.end <= widest_gap:
            windows[-1] = Stretch(last.start, stretch.end)
        else:
            windows.extend(_pieces(stretch, longest))
    return windows


def _pieces(stretch: Stretch, longest: float) -> list[Stretch]:
    count = max(1, int(np.ceil(stretch.duration / longest - 1e-6)))
    edges = np.linspace(stretch.start, stretch.end, count + 1)
    return [Stretch(float(a), float(b)) for a, b in pairwise(edges)]


def doubt(heard: Heard) -> str:
    """Why the words are probably not what was said; empty where they are believed.

    The thresholds of compression (2.4), log probability (-1) and no-speech (0.6) are those of
    Whisper's own decoder (Radford et al. 2022, section 4.5).
    """
    text = heard.text
    if not re.search(r"\w", text):
        return "no words"
    if heard.no_speech_prob > 0.6 and heard.avg_logprob < -1.0:
        return "no speech"
    if compression_ratio(text) > 2.4 or _share_of_commonest(text) > 0.5:
        return "repetition"
    if heard.avg_logprob < -1.5:
        return "too unsure"
    return ""


def compression_ratio(text: str) -> float:
    """Length in bytes over length when compressed; loops of the decoder compress well."""
    raw = text.encode()
    return len(raw) / len(zlib.compress(raw))


def _share_of_commonest(text: str) -> float:
    """Share of the commonest word pair among all pairs of a text of at least twelve words."""
    words = re.findall(r"\w+", text.lower())
    if len(words) < 12:
        return 0.0
    pairs = Counter(pairwise(words))
    return max(pairs.values()) / (len(words) - 1)


def segments_of(words: Sequence[Word], longest_pause: float = 1.0) -> list[Segment]:
    """Cut words, spaces included, into segments at the ends of sentences and at pauses."""
    segments: list[Segment] = []
    begin = 0
    for index, word in enumerate(words):
        last = index + 1 == len(words)
        ends = word.word.rstrip().endswith((".", "?", "!", "…", "。", "？", "！", "؟", "।"))  # noqa: RUF001
        if last or ends or words[index + 1].start - word.end > longest_pause:
            segments.append(_segment(words[begin : index + 1]))
            begin = index + 1
    return segments


def _segment(words: Sequence[Word]) -> Segment:
    start, end = words[0].start, words[-1].end
    return Segment(
        text="".join(word.word for word in words).strip(),
        start=start,
        duration=round(end - start, 3),
        words=[word.model_copy(update={"word": word.word.strip()}) for word in words],
    )
