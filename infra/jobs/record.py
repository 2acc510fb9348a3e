"""The record of a job: the job, its attempts, and the reports that change it. Times are in seconds since the epoch."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.states import FIRST_STAGE, JobState, Stage

CANCELLED = "Cancelled."
"""The error of a job that the user cancelled."""


class Report(BaseModel):
    """A status update: percent of the whole job (0 to 100). Without `attempt`, it is about the current attempt.

    `from_outside` says what killed the attempt if the job is not to blame: the next attempt follows automatically.
    `by_person`: the user cancelled the attempt, so none follows.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int | None = 1
    status: JobState = JobState.RUNNING
    stage: Stage | None = None
    progress: float | None = None
    message: str = ""
    error: str | None = None
    from_outside: str | None = None
    by_person: bool = False


class JobRef(BaseModel):
    """What a stage needs to know of its job. Cache keys depend on `job_id` alone.

    `is_numbered` is False for a run that has no record and no attempt number; `attempt` is then a guess.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int = 1
    is_numbered: bool = True
    progress_artifact: str | None = None

    def report(self, **fields: Any) -> Report:
        """A report about this attempt; about the current one if the number is a guess."""
        return Report(job_id=self.job_id, attempt=self.attempt if self.is_numbered else None, **fields)


class Attempt(BaseModel):
    """One attempt of a job. `began_at` is when it was requested; `reason` is why it failed, else None."""

    number: int
    began_at: float | None = None
    ended_at: float | None = None
    reason: str | None = None


class StageTimes(BaseModel):
    """When a stage of the current attempt began and ended."""

    began: float
    ended: float | None = None


class Job(BaseModel):
    """A job's record. All fields describe the current attempt, except for the request, the owner and the cost.

    - `owner`: name of the API key that created the job, or empty.
    - `nosana_run_id`: what runs the attempt: the Nosana deployment, elsewhere the flow run.
    - `flow_run_id`: the attempt's flow run. `earlier_run_id`: that of the last earlier attempt that had one.
    - `had_run`: an earlier attempt had a run.
    - `grant_id`: the newest grant of the attempt; older ones are void.
    - `is_leased`: the attempt's process holds a lease, and is dead without it. Runs that report by callback hold none.
    - `again_at`: when the next attempt of an automatic retry is due.
    """

    job_id: str
    owner: str = ""
    status: JobState = JobState.QUEUED
    stage: Stage = FIRST_STAGE
    progress: float = 0.0
    attempt: int = 1
    message: str = ""
    error: str | None = None
    start_error: str | None = None
    nosana_run_id: str | None = None
    flow_run_id: str | None = None
    cost_usd: float | None = None
    grant_id: str | None = None
    is_leased: bool = False
    cancelled: bool = False
    had_run: bool = False
    earlier_run_id: str | None = None
    again_at: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    request: dict[str, Any] = Field(default_factory=dict[str, Any])
    stages: dict[Stage, StageTimes] = Field(default_factory=dict[Stage, StageTimes])
    attempts: list[Attempt] = Field(default_factory=list[Attempt])

    @property
    def has_ended(self) -> bool:
        return self.status in (JobState.SUCCEEDED, JobState.FAILED)

    @property
    def is_cancelled(self) -> bool:
        """Whether the user ended it; the status that API clients see is FAILED."""
        return self.status is JobState.FAILED and self.cancelled


class Requester(BaseModel):
    """Who creates a job over HTTP: the owning API key, the client whose queue it counts towards, its idempotency key.

    `max_queued` and `max_queued_per_client` limit how many jobs may wait; 0 is no limit.
    """

    owner: str = ""
    client: str = ""
    idempotency_key: str = ""
    max_queued: int = 0
    max_queued_per_client: int = 0


def job_from_hash(fields: dict[str, str]) -> Job | None:
    """The job in a Redis hash, or None if the hash is missing or only a fragment."""
    if "job_id" not in fields:
        return None
    known: dict[str, Any] = {name: value for name, value in fields.items() if name in Job.model_fields}
    known["request"] = json.loads(fields.get("request") or "{}")
    attempt = fields.get("attempt", "1")
    known["stages"] = {
        stage: {"began": began, "ended": fields.get(f"ended:{attempt}:{stage}")}
        for stage in Stage
        if (began := fields.get(f"began:{attempt}:{stage}"))
    }
    known["attempts"] = [
        {
            "number": number,
            "began_at": fields.get(f"since:{number}"),
            "ended_at": fields.get(f"until:{number}"),
            "reason": fields.get(f"reason:{number}"),
        }
        for number in range(1, int(attempt) + 1)
    ]
    return Job.model_validate(known)
