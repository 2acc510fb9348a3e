"""The edit decision list: which seconds of the source become which clip."""

from typing import Literal

from pydantic import BaseModel, Field

SelectionPath = Literal["llm", "heuristic"]


class Span(BaseModel):
    """A part of the source, in seconds from its start, and the words spoken in it."""

    start: float
    end: float
    text: str = ""

    @property
    def duration(self) -> float:
        return self.end - self.start


class EdlClip(BaseModel):
    """One clip: its segments, played one after the other.

    `signals` are standardised within the talk, `counted` is what each adds to `score`, their weighted sum, and `why`
    is one sentence for the user.
    """

    index: int
    title: str
    hook: str
    description: str = ""
    hashtags: list[str] = Field(default_factory=list[str])
    segments: list[Span]
    score: float = 0.0
    signals: dict[str, float] = Field(default_factory=dict[str, float])
    counted: dict[str, float] = Field(default_factory=dict[str, float])
    why: str = ""

    @property
    def duration(self) -> float:
        return sum(span.duration for span in self.segments)


class TopicMatch(BaseModel):
    """How a topic was matched. `terms` are its words with the number of sentences that have them.

    `by` says who judged: terms alone, or an LLM too. `clips` is how many of the chosen clips have a term.
    """

    topic: str
    by: str = "terms"
    terms: dict[str, int]
    clips: int = 0

    @property
    def is_found(self) -> bool:
        return any(self.terms.values())


class HeardAgain(BaseModel):
    """The model that has heard the clips a second time, and how many of their words it changed."""

    model: str
    words_changed: int


class Selection(BaseModel):
    """How the clips were chosen. `reason` says why the LLM did not decide, or not alone; else empty.

    `topic` says how a topic was matched, if one was asked for. `kinds` is how much the recording seems to be a talk,
    a conversation, a lesson or a stream. `heard_again` is None if the clips were heard once.
    """

    mode: SelectionPath
    endpoint: str | None = None
    reason: str = ""
    model: str | None = None
    topic: TopicMatch | None = Field(default=None, exclude_if=lambda match: match is None)
    kinds: dict[str, float] = Field(default_factory=dict[str, float])
    heard_again: HeardAgain | None = Field(default=None, exclude_if=lambda heard: heard is None)


class Edl(BaseModel):
    """`edl.json`. `reserve` holds the next best windows that overlap no clip, best first.

    `notes` say what selection lacked: audio, word lists, room for all clips. `corrected`, for the edit document, has
    the new text of words for each clip, by their place in the transcript.
    """

    job_id: str
    clips: list[EdlClip]
    reserve: list[EdlClip] = Field(default_factory=list[EdlClip])
    selection: Selection
    notes: list[str] = Field(default_factory=list[str])
    corrected: list[dict[int, str]] = Field(default_factory=list[dict[int, str]], exclude=True)
