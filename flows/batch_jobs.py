"""The jobs of one run of a batch: chosen, started within the batch's limit, and followed to their end."""

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
"""Time between two checks of the jobs' records."""
RUN_POLL_SECONDS = 15.0
"""Time between two checks of the jobs' flow runs: most jobs report their end themselves."""
ENDED_RUN_SECONDS = 60.0
"""How long a job may stay unfinished after its run ended: reports are late, and others may act first."""

CANCELLED = "cancelled"
"""How a run ended that the user cancelled."""

Submit = Callable[[Job], str]
"""Starts the flow run of a job's attempt, or finds the one that exists; returns its id. Raises `SubmitError`."""
RunEnd = Callable[[str], str | None]
"""How a flow run ended, in a word, or None while it has not. Raises `SubmitError`."""


@dataclass
class BatchJobs:
    """Several instances may work on the same batch at the same time."""

    request: BatchRequest
    memory: BatchMemory
    jobs: JobStore
    bucket: ArtifactStore
    submit: Submit
    run_end: RunEnd
    _followed: set[str] = field(default_factory=set[str])
    _run_ended_at: dict[str, float] = field(default_factory=dict[str, float])

    def choose(self, found: Listing) -> list[BatchEntry]:
        """The videos of this run: those that earlier runs left unfinished, then new ones, newest first."""
        left = self.memory.open_entries()
        new = found.new(self.memory.known(item.key for item in found.items), self.request.max_new)
        return [*left, *(self.memory.add(item.key, item.model_dump_json()) for item in new)]

    def follow(self, entries: list[BatchEntry], seconds: float) -> Iterator[ItemReport]:
        """Run every job to its end, as many at a time as allowed; yields each video's report when it is known.

        After `seconds` the remaining videos are reported as unfinished; their runs continue.
        """
        deadline, next_run_poll = time.monotonic() + seconds, time.monotonic() + RUN_POLL_SECONDS
        waiting = list(entries)
        while waiting and time.monotonic() < deadline:
            for entry in list(waiting):
                if report := self._check_patiently(entry):
                    waiting.remove(entry)
                    yield report  # reported, then closed: a crash in between reports it twice
                    self._settle(entry, report.outcome)
            if time.monotonic() >= next_run_poll:
                self._check_runs()
                next_run_poll = time.monotonic() + RUN_POLL_SECONDS
            if waiting:
                time.sleep(POLL_SECONDS)
        yield from (self._report(entry, None, Outcome.UNFINISHED) for entry in waiting)

    def _check_patiently(self, entry: BatchEntry) -> ItemReport | None:
        """As `_check`; if a server does not answer, the next check will do."""
        try:
            return self._check(entry)
        except InfraError as error:
            logger.warning("Job %s of the batch will be checked again: %s", entry.job_id, error)
            return None

    def _check(self, entry: BatchEntry) -> ItemReport | None:
        """The video's report, or None while its job is unfinished."""
        job = self.jobs.get(entry.job_id)
        if job and job.status is JobState.SUCCEEDED:
            return self._report(entry, job, Outcome.SUCCEEDED)
        if job and job.status is JobState.FAILED:
            if not self._may_be_tried_again(job):
                return self._report(entry, job, Outcome.FAILED)
            if job.job_id in self._followed:
                return self._report(entry, job, Outcome.LATER)
        if entry.job_id in self._followed:
            return None
        if (job and job.status is JobState.RUNNING) or self.memory.take_slot(entry.job_id, self.request.concurrency):
            if job is None and self.bucket.exists(job_key(entry.job_id, "manifest.json")):  # its record has expired
                return self._report(entry, None, Outcome.SUCCEEDED)
            self._start(entry, job)
            self._followed.add(entry.job_id)
        return None

    def _start(self, entry: BatchEntry, job: Job | None) -> None:
        """Start a run of the job. Repeated, also by another run of the batch, it is the same run."""
        if job is None:
            request = self.request.clip_request(_item(entry).url)
            self.jobs.create(entry.job_id, request.model_dump_json(exclude_none=True))
        elif job.status is JobState.FAILED:
            try:
                self.jobs.reopen(job.job_id, after=job.attempt)
            except JobConflict as conflict:
                logger.info("Another run was first: %s", conflict)
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
        """Judged by the code that the attempt left in the bucket; a run that died left none. Cancelled jobs stay so."""
        try:
            failure: dict[str, Any] = self.bucket.get_json(job_key(job.job_id, "error.json"))
        except StoreError:
            failure = {}
        code = failure.get("code") if failure.get("attempt") == job.attempt else None
        was_cancelled = job.cancelled or (job.flow_run_id is not None and self.run_end(job.flow_run_id) == CANCELLED)
        return is_worth_retrying(code, job.attempt) and not was_cancelled

    def _settle(self, entry: BatchEntry, outcome: Outcome) -> None:
        """Close the video unless it will be tried again, and free its slot."""
        try:
            if outcome in (Outcome.SUCCEEDED, Outcome.FAILED):
                self.memory.close(entry)
            self.memory.leave_slot(entry.job_id)
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
    """From the start of the attempt's first stage to the end of its last."""
    times = job.stages.values()
    if not times:
        return None
    return round(max(t.ended or t.began for t in times) - min(t.began for t in times), 1)
