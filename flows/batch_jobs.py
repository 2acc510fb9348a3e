"""Chooses the jobs of one run of a batch, starts them within its limit, and follows them to their end."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from infra.bucket.store import ArtifactStore
from infra.errors import InfraError, JobConflict, StoreError, SubmitError
from infra.jobs.batches import BatchEntry, BatchMemory
from infra.jobs.record import Job, Report
from infra.jobs.store import JobStore
from infra.states import JobState
from tasks.core.object_keys import job_key
from tasks.core.source.batch import (
    BatchItem,
    BatchRequest,
    ItemReport,
    Listing,
    Outcome,
    is_worth_retrying,
    item_report,
)

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Seconds between checks of the jobs' records."""
RUN_POLL_SECONDS = 15.0
"""Seconds between checks of the jobs' flow runs. Checked less often, because most jobs report their own end."""
ENDED_RUN_SECONDS = 60.0
"""How long a job may stay unfinished after its run has ended: its report may be late, and recovery may act first."""

CANCELLED = "cancelled"
"""What `RunEnd` returns for a cancelled run."""

Submit = Callable[[Job], str]
"""Submits the flow run of a job's attempt unless it has been submitted, and returns its id. Raises `SubmitError`."""
RunEnd = Callable[[str], str | None]
"""How a flow run ended, in one word, or None if it has not ended. Raises `SubmitError`."""


@dataclass
class BatchJobs:
    """The jobs of one run of a batch. Several runs may work on the same batch at the same time."""

    request: BatchRequest
    memory: BatchMemory
    jobs: JobStore
    bucket: ArtifactStore
    submit: Submit
    run_end: RunEnd
    _followed: set[str] = field(default_factory=set[str])
    _run_ended_at: dict[str, float] = field(default_factory=dict[str, float])

    def choose(self, found: Listing) -> list[BatchEntry]:
        """Choose this run's videos: those that earlier runs left unfinished, then new ones, newest first."""
        unfinished = self.memory.open_entries()
        new = found.new(self.memory.videos_with_job(item.key for item in found.items), self.request.max_new)
        return [*unfinished, *(self.memory.add(item.key, item.model_dump_json()) for item in new)]

    def follow(self, entries: list[BatchEntry], seconds: float) -> Iterator[ItemReport]:
        """Run every job to its end, within the batch's limit, and yield each video's report as its job ends.

        After `seconds`, the remaining videos are reported as unfinished. Their runs continue.
        """
        deadline, next_run_poll = time.monotonic() + seconds, time.monotonic() + RUN_POLL_SECONDS
        waiting = list(entries)
        while waiting and time.monotonic() < deadline:
            for entry in list(waiting):
                if report := self._check_patiently(entry):
                    waiting.remove(entry)
                    yield report  # report before closing: a crash in between then reports it twice, rather than never
                    self._settle(entry, report.outcome)
            if time.monotonic() >= next_run_poll:
                self._check_runs()
                next_run_poll = time.monotonic() + RUN_POLL_SECONDS
            if waiting:
                time.sleep(POLL_SECONDS)
        yield from (self._report(entry, None, Outcome.UNFINISHED) for entry in waiting)

    def _check_patiently(self, entry: BatchEntry) -> ItemReport | None:
        """Like `_check`, but returns None if a server does not answer: the next check tries again."""
        try:
            return self._check(entry)
        except InfraError as error:
            logger.warning("Job %s of the batch will be checked again: %s", entry.job_id, error)
            return None

    def _check(self, entry: BatchEntry) -> ItemReport | None:
        """The video's report, or None while its job is unfinished."""
        job = self.jobs.get(entry.job_id)
        if outcome := self._outcome(entry, job):
            return self._report(entry, job, outcome)
        if entry.job_id in self._followed:
            return None
        if (job and job.status is JobState.RUNNING) or self.memory.take_slot(entry.job_id, self.request.concurrency):
            if job is None and self.bucket.exists(job_key(entry.job_id, "manifest.json")):  # its record has expired
                return self._report(entry, None, Outcome.SUCCEEDED)
            self._start(entry, job)
            self._followed.add(entry.job_id)
        return None

    def _outcome(self, entry: BatchEntry, job: Job | None) -> Outcome | None:
        """The video's outcome, or None if its job has to be started or followed."""
        if job is None:
            return Outcome.DELETED if self.jobs.was_deleted(entry.job_id) else None
        if job.status is JobState.SUCCEEDED:
            return Outcome.SUCCEEDED
        if job.status is JobState.FAILED and not self._may_be_tried_again(job):
            return Outcome.FAILED
        return Outcome.LATER if job.status is JobState.FAILED and job.job_id in self._followed else None

    def _start(self, entry: BatchEntry, job: Job | None) -> None:
        """Start a run of the job. Calling this again, even from another run of the batch, starts no second run."""
        if job is None:
            request = self.request.clip_request(_item(entry).url)
            self.jobs.create(entry.job_id, request.model_dump_json(exclude_none=True))
        elif job.status is JobState.FAILED:
            try:
                self.jobs.reopen(job.job_id, after=job.attempt)
            except JobConflict as conflict:
                logger.info("Another run of the batch has already reopened it: %s", conflict)
        opened = self.jobs.get(entry.job_id)
        if opened and opened.status is JobState.QUEUED:
            self._submit(opened)

    def _submit(self, job: Job) -> None:
        try:
            run_id = self.submit(job)
        except SubmitError as error:
            self.jobs.start_failed(job.job_id, job.attempt, str(error))
            return
        self.jobs.set_run(job.job_id, job.attempt, run_id)

    def _check_runs(self) -> None:
        """Fail the jobs whose run ended without a report."""
        for job_id in self._followed:
            try:
                job = self.jobs.get(job_id)
                end = self.run_end(job.flow_run_id) if job and job.flow_run_id and not job.has_ended else None
                since = self._run_ended_at.setdefault(job_id, time.monotonic()) if end else None
                if since is None:
                    self._run_ended_at.pop(job_id, None)
                elif job and time.monotonic() - since >= ENDED_RUN_SECONDS:
                    self._fail(job, f"The run ended as {end}.")
            except InfraError as error:
                logger.warning("The run of %s could not be checked: %s", job_id, error)

    def _fail(self, job: Job, reason: str) -> None:
        text = f"{reason} Start the job again."
        failed = Report(job_id=job.job_id, attempt=job.attempt, status=JobState.FAILED, error=text, message=text)
        self.jobs.report(failed)

    def _may_be_tried_again(self, job: Job) -> bool:
        """Whether to retry the failed job, judged by the code in its `error.json`. Cancelled jobs are not retried."""
        try:
            failure: dict[str, Any] = self.bucket.get_json(job_key(job.job_id, "error.json"))
        except StoreError:
            failure = {}
        code = failure.get("code") if failure.get("attempt") == job.attempt else None
        was_cancelled = job.cancelled or (job.flow_run_id is not None and self.run_end(job.flow_run_id) == CANCELLED)
        return is_worth_retrying(code, job.attempt) and not was_cancelled

    def _settle(self, entry: BatchEntry, outcome: Outcome) -> None:
        """Close the video unless it will be retried, and free its slot."""
        try:
            if outcome in (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.DELETED):
                self.memory.close(entry)
            self.memory.release_slot(entry.job_id)
        except InfraError as error:
            logger.warning("The next run of the batch will check job %s again: %s", entry.job_id, error)

    def _report(self, entry: BatchEntry, job: Job | None, outcome: Outcome) -> ItemReport:
        if job is None:
            return item_report(_item(entry), entry.job_id, outcome)
        known = {"attempt": job.attempt, "seconds": _seconds(job), "cost_usd": job.cost_usd, "error": job.error}
        return item_report(_item(entry), entry.job_id, outcome, **known)


def _item(entry: BatchEntry) -> BatchItem:
    return BatchItem.model_validate_json(entry.record)


def _seconds(job: Job) -> float | None:
    """Seconds from the start of the attempt's first stage to the end of its last one, or None if none began."""
    times = job.stages.values()
    if not times:
        return None
    return round(max(t.ended or t.began for t in times) - min(t.began for t in times), 1)
