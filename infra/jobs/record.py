"""A job's record, its attempts, and the reports that change it. Times are in seconds since the epoch."""

import json
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from infra.states import FIRST_STAGE, JobState, Stage

CANCELLED = "Cancelled."
"""The error message of a job that the user cancelled."""
START_AGAIN = "Start the job again."
SEND_AGAIN = "The published clips are as they were; send the document again."
"""What to do when a job, or a recut, has failed through no fault of the request."""


class Report(BaseModel):
    """A status update for an attempt, or for the current one if `attempt` is None.

    - `progress`: percent of the whole job, 0 to 100.
    - `retry_reason`: why the attempt failed, if the job is not to blame; it is then retried automatically.
    - `is_cancel`: the user cancelled the attempt, so it is not retried.
    - `revision`: the revision that a recut makes; `attempt` and `progress` are then the recut's.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int | None = 1
    status: JobState = JobState.RUNNING
    stage: Stage | None = None
    progress: float | None = None
    message: str = ""
    error: str | None = None
    retry_reason: str | None = None
    is_cancel: bool = False
    revision: int | None = None


class JobRef(BaseModel):
    """What a stage needs to know about its job. Cache keys depend on `job_id` alone.

    `is_attempt_known` is False for a run without a record and an attempt number; `attempt` is then a guess.
    `revision` is that which a recut makes; `attempt` is then the recut's.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int = 1
    is_attempt_known: bool = True
    progress_artifact: str | None = None
    revision: int | None = None

    def report(self, **fields: Any) -> Report:
        """A report on this attempt, or on the current one if the number is a guess."""
        attempt = self.attempt if self.is_attempt_known else None
        return Report(job_id=self.job_id, attempt=attempt, revision=self.revision, **fields)

    def advice(self, text: str) -> str:
        """Why the attempt failed, with what to do then: not the job is started again, but the recut's document sent."""
        if self.revision is None:
            return text
        for start, send in (("Start the job", "Send the document"), ("start the job", "send the document")):
            text = text.replace(f"{start} again", f"{send} again")
        return f"{text} The published clips are as they were."

    def why_lost(self, job: "Job") -> str | None:
        """Why the run of this attempt must stop, according to the job's record; None if it may continue."""
        if self.revision is None:
            if job.attempt != self.attempt:
                return f"Attempt {job.attempt} of job {self.job_id} has started; this earlier run has stopped."
            ended, error = job.status is JobState.FAILED, job.error
        else:
            recut = job.recut
            if recut is None or (recut.revision, recut.attempt) != (self.revision, self.attempt):
                return f"Another run has taken over the recut of job {self.job_id}; this one has stopped."
            ended, error = recut.state is JobState.FAILED, recut.error
        return f"Job {self.job_id} was ended from outside: {error or 'no reason given'}" if ended else None


class Attempt(BaseModel):
    """One attempt at a job. `began_at` is when it was requested; `reason` is why it failed, or None."""

    number: int
    began_at: float | None = None
    ended_at: float | None = None
    reason: str | None = None


class StageTimes(BaseModel):
    """When a stage of the current attempt began and ended."""

    began: float
    ended: float | None = None


class WebhookState(BaseModel):
    """How far the end of `attempt` has been sent to the job's webhook; `error` is why the latest try failed."""

    attempt: int
    tries: int = 0
    delivered_at: float | None = None
    error: str | None = None


class Recut(BaseModel):
    """The newest change of a succeeded job's clips: how far the revision that it makes has come.

    - `attempt`: counts its runs; `flow_run_id` is the newest one's, `earlier_run_id` that of the one before.
    - `nosana_run_id`: the Nosana deployment that executes the run, or None. `grant_id`: as in a job's record.
    - `error`: why it failed, or None.
    - `again_at`: when the automatic retry is due.
    """

    revision: int
    state: JobState = JobState.QUEUED
    progress: float = 0.0
    message: str = ""
    error: str | None = None
    attempt: int = 1
    flow_run_id: str | None = None
    earlier_run_id: str | None = None
    nosana_run_id: str | None = None
    grant_id: str | None = None
    again_at: float | None = None
    updated_at: float = 0.0

    @property
    def status(self) -> JobState:
        return self.state

    @property
    def has_ended(self) -> bool:
        return self.state in (JobState.SUCCEEDED, JobState.FAILED)


class Job(BaseModel):
    """A job's record. All fields but the request, the owner and the cost describe the current attempt.

    - `owner`: name of the API key that created the job, or empty.
    - `nosana_run_id`: id of what runs the attempt: the Nosana deployment, or elsewhere the flow run.
    - `flow_run_id`: the attempt's flow run. `earlier_run_id`: the flow run of the latest earlier attempt with one.
    - `had_run`: an earlier attempt had a flow run.
    - `grant_id`: the newest grant of the attempt; older ones are no longer valid.
    - `is_leased`: the attempt's process holds a lease; if the lease expires, the process is dead. Runs that report by
      callback hold none.
    - `again_at`: when the automatic retry is due.
    - `webhook`: how far the newest end has been sent, or None if the request named no webhook or no attempt has ended.
    - `revision`: the published revision, once the job's clips have been changed; it is under `revisions/`. None means
      that there is only the first, in the job's own folder.
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
    webhook: WebhookState | None = None
    revision: int | None = None
    recut: Recut | None = None
    stages: dict[Stage, StageTimes] = Field(default_factory=dict[Stage, StageTimes])
    attempts: list[Attempt] = Field(default_factory=list[Attempt])

    @property
    def has_ended(self) -> bool:
        return self.status in (JobState.SUCCEEDED, JobState.FAILED)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way: the attempt and the newest recut have ended."""
        return self.has_ended and (self.recut is None or self.recut.has_ended)

    @property
    def is_rented(self) -> bool:
        """Whether a rented machine executes the attempt, or has."""
        return self.grant_id is not None

    def worked_on(self, run: JobRef) -> "Job | Recut | None":
        """What the run works on: this job or its recut. None if there has been another attempt or recut since."""
        found = self if run.revision is None else self.recut
        if isinstance(found, Recut) and found.revision != run.revision:
            return None
        return found if found and found.attempt == run.attempt else None

    @property
    def is_cancelled(self) -> bool:
        """Whether the user cancelled the job. To API clients, its status is FAILED."""
        return self.status is JobState.FAILED and self.cancelled


class ActiveJob(NamedTuple):
    """What tells a waiting job from one that may have died, without its whole record."""

    job_id: str
    status: JobState
    flow_run_id: str | None


class Requester(BaseModel):
    """The creator of a job over HTTP: the API key's name, the client for the queue limit, the idempotency key, and
    where to send the job's end.

    `max_queued` and `max_queued_per_client` limit the number of waiting jobs; 0 means no limit.
    """

    owner: str = ""
    client: str = ""
    idempotency_key: str = ""
    webhook_url: str = ""
    max_queued: int = 0
    max_queued_per_client: int = 0


def job_from_hash(fields: dict[str, str]) -> Job | None:
    """The job in a Redis hash, or None if the hash is missing or incomplete."""
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
    if "webhook_attempt" in fields:
        names = ("attempt", "tries", "delivered_at", "error")
        known["webhook"] = {name: fields[f"webhook_{name}"] for name in names if f"webhook_{name}" in fields}
    if "recut_revision" in fields:
        known["recut"] = {
            name: fields[f"recut_{name}"] for name in Recut.model_fields if fields.get(f"recut_{name}", "") != ""
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
