"""The jobs of one run of a batch: claimed, started within the batch's limit, and followed to their end."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from infra.bucket.store import ArtifactStore
from infra.errors import InfraError, JobConflict, StoreError, SubmitError
from infra.jobs.batches import BatchMemory, Claim
from infra.jobs.store import Job, JobStore, Report
from infra.states import JobState
from tasks.core.keys import job_key
from tasks.core.source.batch import (
    BatchItem,
    BatchRequest,
    ItemReport,
    Listing,
    Outcome,
    item_report,
    may_be_tried_again,
)

logger = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""Between two looks at the records of the jobs."""
RUN_LOOK_SECONDS = 15.0
"""Between two looks at the runs of the jobs: most jobs tell of their end themselves."""
GRACE_SECONDS = 60.0
"""How long a job may go on without a run: reports are late, and others may conclude first."""

CANCELLED = "cancelled"
"""How a run has ended that somebody did not want."""

Submit = Callable[[Job], str]
"""Starts the flow run of a job's attempt, or finds the one that was started; its id. Raises `SubmitError`."""
RunEnd = Callable[[str], str | None]
"""How a flow run has ended, in a word; None while it has not. Raises `SubmitError`."""


@dataclass
class BatchJobs:
    """Several of these, of the same batch, may be at work at the same time."""

    request: BatchRequest
    memory: BatchMemory
    jobs: JobStore
    bucket: ArtifactStore
    submit: Submit
    run_end: RunEnd
    _followed: set[str] = field(default_factory=set[str])
    _without_run_since: dict[str, float] = field(default_factory=dict[str, float])

    def claim(self, found: Listing) -> list[Claim]:
        """What this run sees to: videos that earlier ones left open, then new ones, newest first."""
        left = self.memory.open()
        new = found.new(self.memory.known(item.key for item in found.items), self.request.most_new)
        return [*left, *(self.memory.claim(item.key, item.model_dump_json()) for item in new)]

    def follow(self, claims: list[Claim], seconds: float) -> Iterator[ItemReport]:
        """Bring every job to its end, as many at a time as may be; each video's line when it is known.

        After `seconds` the rest are unfinished; their runs go on.
        """
        deadline, next_run_look = time.monotonic() + seconds, time.monotonic() + RUN_LOOK_SECONDS
        waiting = list(claims)
        while waiting and time.monotonic() < deadline:
            for claim in list(waiting):
                if line := self._patiently(claim):
                    waiting.remove(claim)
                    yield line  # told, then forgotten: after a crash in between it is told twice
                    self._settle(claim, line.outcome)
            if time.monotonic() >= next_run_look:
                self._look_at_runs()
                next_run_look = time.monotonic() + RUN_LOOK_SECONDS
            if waiting:
                time.sleep(LOOK_SECONDS)
        yield from (self._line(claim, None, Outcome.UNFINISHED) for claim in waiting)

    def _patiently(self, claim: Claim) -> ItemReport | None:
        """As `_look`; what does not answer now may do so at the next look."""
        try:
            return self._look(claim)
        except InfraError as error:
            logger.warning("Job %s of the batch is looked at again: %s", claim.job_id, error)
            return None

    def _look(self, claim: Claim) -> ItemReport | None:
        """The video's line, None while its job goes on or has yet to be started."""
        job = self.jobs.get(claim.job_id)
        if job and job.status is JobState.SUCCEEDED:
            return self._line(claim, job, Outcome.SUCCEEDED)
        if job and job.status is JobState.FAILED:
            if not self._may_be_tried_again(job):
                return self._line(claim, job, Outcome.FAILED)
            if job.job_id in self._followed:
                return self._line(claim, job, Outcome.LATER)
        if claim.job_id in self._followed:
            return None
        if (job and job.status is JobState.RUNNING) or self.memory.take(claim.job_id, self.request.concurrency):
            if job is None and self.bucket.exists(job_key(claim.job_id, "manifest.json")):  # Redis forgets, in time
                return self._line(claim, None, Outcome.SUCCEEDED)
            self._start(claim, job)
            self._followed.add(claim.job_id)
        return None

    def _start(self, claim: Claim, job: Job | None) -> None:
        """Have a run of a job that has none; asked again, or by another run of the batch, it is the same one."""
        if job is None:
            asked = self.request.clip_request(_item(claim).url)
            self.jobs.create(claim.job_id, asked.model_dump_json(exclude_none=True))
        elif job.status is JobState.FAILED:
            try:
                self.jobs.reopen(job.job_id, after=job.attempt)
            except JobConflict as conflict:
                logger.info("Another run was first: %s", conflict)
        opened = self.jobs.get(claim.job_id)
        if opened and opened.status is JobState.QUEUED:
            self._submit(opened)

    def _submit(self, job: Job) -> None:
        try:
            run_id = self.submit(job)
        except SubmitError as error:
            self.jobs.start_failed(job.job_id, job.attempt, str(error))
            return
        self.jobs.set_run(job.job_id, job.attempt, run_id)

    def _look_at_runs(self) -> None:
        """End the jobs whose run has ended without their knowing."""
        for job_id in self._followed:
            try:
                job = self.jobs.get(job_id)
                said = self.run_end(job.flow_run_id) if job and job.flow_run_id and _goes_on(job) else None
                since = self._without_run_since.setdefault(job_id, time.monotonic()) if said else None
                if since is None:
                    self._without_run_since.pop(job_id, None)
                elif job and time.monotonic() - since >= GRACE_SECONDS:
                    self._fail(job, f"The run ended as {said}.")
            except InfraError as error:
                logger.warning("The run of %s was not looked at: %s", job_id, error)

    def _fail(self, job: Job, reason: str) -> None:
        text = f"{reason} Start the job again."
        failed = Report(job_id=job.job_id, attempt=job.attempt, status=JobState.FAILED, error=text, message=text)
        self.jobs.report(failed)

    def _may_be_tried_again(self, job: Job) -> bool:
        """By the code that the attempt left in the bucket; a run that died left none. What was cancelled stays so."""
        try:
            told: dict[str, Any] = self.bucket.get_json(job_key(job.job_id, "error.json"))
        except StoreError:
            told = {}
        code = told.get("code") if told.get("attempt") == job.attempt else None
        was_cancelled = job.cancelled or (job.flow_run_id is not None and self.run_end(job.flow_run_id) == CANCELLED)
        return may_be_tried_again(code, job.attempt) and not was_cancelled

    def _settle(self, claim: Claim, outcome: Outcome) -> None:
        """Close the video unless it is to be tried again, and let the next one in."""
        try:
            if outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
                self.memory.close(claim)
            self.memory.leave(claim.job_id)
        except InfraError as error:
            logger.warning("The next run of the batch looks at job %s again: %s", claim.job_id, error)

    def _line(self, claim: Claim, job: Job | None, outcome: Outcome) -> ItemReport:
        if job is None:
            return item_report(_item(claim), claim.job_id, outcome)
        known = {"attempt": job.attempt, "seconds": _seconds(job), "cost_usd": job.cost_usd, "error": job.error}
        return item_report(_item(claim), claim.job_id, outcome, **known)


def _goes_on(job: Job) -> bool:
    return job.status in (JobState.QUEUED, JobState.RUNNING)


def _item(claim: Claim) -> BatchItem:
    return BatchItem.model_validate_json(claim.record)


def _seconds(job: Job) -> float | None:
    """From the beginning of the attempt's first stage to the end of its last."""
    times = job.stages.values()
    if not times:
        return None
    return round(max(t.ended or t.began for t in times) - min(t.began for t in times), 1)
