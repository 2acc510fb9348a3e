"""Words, segments and sentences. All times are seconds from the start of the source."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Word(BaseModel):
    """A spoken word as transcribed, with its punctuation but no surrounding spaces.

    `speaker` counts from 1, the one who speaks longest; it is None if there is only one, or if that is not known.
    """

    model_config = ConfigDict(frozen=True)

    word: str
    start: float
    end: float
    speaker: int | None = Field(default=None, ge=1, le=1000, exclude_if=lambda speaker: speaker is None)

    @property
    def middle(self) -> float:
        """The word belongs to the clip that contains this time."""
        return (self.start + self.end) / 2


class Segment(BaseModel):
    """A stretch of speech as segmented by the recogniser: an item of `transcript.json`.

    `language` is Whisper's code, or None if unknown.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    start: float
    duration: float
    words: list[Word] = Field(default_factory=list[Word])
    language: str | None = None

    @property
    def end(self) -> float:
        return self.start + self.duration


@dataclass(frozen=True)
class Speech:
    """The transcript of a source, and its main language (Whisper's code)."""

    segments: list[Segment]
    language: str

    def language_of(self, spans: Iterable[tuple[float, float]]) -> str:
        """The language of most words in `spans` (seconds), or the main language if they have no words."""
        ranges = list(spans)
        counts = Counter[str]()
        for segment in self.segments:
            middles = (word.middle for word in segment.words)
            counts[segment.language or self.language] += sum(any(a <= t < b for a, b in ranges) for t in middles)
        return max(counts, key=lambda code: counts[code]) if counts.total() else self.language


class Sentence(BaseModel):
    """The words of one sentence, from the start of the first to the end of the last.

    `language` is Whisper's code, or None if the transcript does not say.
    """

    model_config = ConfigDict(frozen=True)

    text: str
    start: float
    end: float
    words: list[Word]
    language: str | None = None


Transcript = list[Segment]


TRANSCRIPT_JSON: TypeAdapter[Transcript] = TypeAdapter(Transcript)
"""Reads and writes `transcript.json`."""
