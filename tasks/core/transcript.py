"""Words, segments and sentences. All times are seconds from the start of the source."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class Word(BaseModel):
    """A spoken word as the recogniser wrote it, with punctuation but no surrounding spaces."""

    model_config = ConfigDict(frozen=True)

    word: str
    start: float
    end: float

    @property
    def middle(self) -> float:
        """The time that decides whether the word belongs to a clip."""
        return (self.start + self.end) / 2


class Segment(BaseModel):
    """A run of speech as the recogniser cut it: an item of `transcript.json`.

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
        """The language of most words in `spans` (seconds), or the source's if they have no words."""
        stretches = list(spans)
        counts = Counter[str]()
        for segment in self.segments:
            middles = (word.middle for word in segment.words)
            counts[segment.language or self.language] += sum(any(a <= t < b for a, b in stretches) for t in middles)
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
