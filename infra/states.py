"""States and stages of a job, with the progress each stage stands for."""

from enum import StrEnum


class JobState(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


class Stage(StrEnum):
    DOWNLOAD = "DOWNLOAD"
    TRANSCRIPT = "TRANSCRIPT"
    CHUNK = "CHUNK"
    SELECT = "SELECT"
    RENDER = "RENDER"
    UPLOAD = "UPLOAD"
    DONE = "DONE"

    @property
    def span(self) -> tuple[float, float]:
        """Progress in percent when the stage begins and when it is done."""
        return _SPANS[self]

    def percent(self, fraction: float) -> float:
        """Progress in percent when `fraction` (0 to 1) of the stage is done."""
        begin, end = self.span
        return round(begin + (end - begin) * min(max(fraction, 0.0), 1.0), 1)


_SPANS: dict[Stage, tuple[float, float]] = {
    Stage.DOWNLOAD: (5, 20),
    Stage.TRANSCRIPT: (20, 40),
    Stage.CHUNK: (40, 55),
    Stage.SELECT: (55, 65),
    Stage.RENDER: (65, 80),
    Stage.UPLOAD: (80, 95),
    Stage.DONE: (100, 100),
}
