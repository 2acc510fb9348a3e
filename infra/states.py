"""States and stages of a job. The Lua scripts, the page and the docs read the stages from the table here."""

from enum import StrEnum
from typing import NamedTuple


class JobState(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class StageFacts(NamedTuple):
    """The job's progress in percent when the stage begins and ends, the stage's title, and what it does."""

    begin: float
    end: float
    title: str
    doing: str


class Stage(StrEnum):
    """The stages in order. DONE is the position of a finished job, not a stage."""

    DOWNLOAD = "DOWNLOAD"
    TRANSCRIPT = "TRANSCRIPT"
    CHUNK = "CHUNK"
    SELECT = "SELECT"
    RENDER = "RENDER"
    UPLOAD = "UPLOAD"
    DONE = "DONE"

    @property
    def facts(self) -> StageFacts:
        return _STAGES[self]

    @property
    def span(self) -> tuple[float, float]:
        """Progress in percent when the stage begins and ends."""
        return self.facts.begin, self.facts.end

    def percent(self, fraction: float) -> float:
        """Progress in percent when `fraction` (0 to 1) of the stage is done."""
        begin, end = self.span
        return round(begin + (end - begin) * min(max(fraction, 0.0), 1.0), 1)


_STAGES = {
    Stage.DOWNLOAD: StageFacts(5, 20, "Download", "Fetching the video"),
    Stage.TRANSCRIPT: StageFacts(20, 40, "Transcribe", "Listening to what is said"),
    Stage.CHUNK: StageFacts(40, 55, "Divide", "Dividing the talk into parts"),
    Stage.SELECT: StageFacts(55, 65, "Choose", "Choosing the moments"),
    Stage.RENDER: StageFacts(65, 80, "Render", "Cutting, framing, captioning"),
    Stage.UPLOAD: StageFacts(80, 95, "Check and publish", "Checking and publishing the clips"),
    Stage.DONE: StageFacts(100, 100, "Done", "Finishing"),
}
WORKING_STAGES = tuple(stage for stage in Stage if stage is not Stage.DONE)
"""The stages that do work."""
FIRST_STAGE = WORKING_STAGES[0]
