"""The edit decision list: which seconds of the source become which clip."""

from typing import Literal

from pydantic import BaseModel, Field

SelectionPath = Literal["llm", "heuristic"]


class Span(BaseModel):
    """A stretch of the source, in seconds from its start, and the words said in it."""

    start: float
    end: float
    text: str = ""

    @property
    def duration(self) -> float:
        return self.end - self.start


class EdlClip(BaseModel):
    """One clip: its segments are played one after the other.

    `signals` holds every signal's value standardised within the talk, `score` their sum;
    `why` is one sentence for people.
    """

    index: int
    title: str
    hook: str
    description: str = ""
    hashtags: list[str] = Field(default_factory=list[str])
    segments: list[Span]
    score: float = 0.0
    signals: dict[str, float] = Field(default_factory=dict[str, float])
    why: str = ""

    @property
    def duration(self) -> float:
        return sum(span.duration for span in self.segments)


class Selection(BaseModel):
    """Which way the choice was made. `reason` says why it was not the LLM, where it was not."""

    mode: SelectionPath
    endpoint: str | None = None
    reason: str = ""
    model: str | None = None


class Edl(BaseModel):
    """`edl.json`. `reserve` are the next best windows that overlap no chosen one, best first.

    `notes` say what the choice had to do without: sound, word lists, room for all clips.
    """

    job_id: str
    clips: list[EdlClip]
    reserve: list[EdlClip] = Field(default_factory=list[EdlClip])
    selection: Selection
    notes: list[str] = Field(default_factory=list[str])
