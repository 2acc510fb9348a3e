"""Finds jobs whose run has died, and retries them.

Each active job in Redis is compared with its run: the lease that a live process renews, and the run's state on the
Prefect server. Of a job that waits for a worker, as most do in a long queue, no more than that is looked up. While
either server is unreachable, no job is judged. The record holds everything a retry needs, so any API process can do
it, even one started after all others died.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from infra.errors import InfraError, SubmitError
from infra.jobs.leases import LEASE_SECONDS, watch_lease
from infra.jobs.record import Job, Report
from infra.jobs.store import JobStore
from infra.prefect import run_endings
from infra.prefect.runs import TERMINAL, Submitter
from infra.states import JobState

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0
DEAD_SECONDS = LEASE_SECONDS + 5.0
"""How long a job must look dead before it is ended: reports arrive late, and a lease outlives its holder."""
DEAD_WITHOUT_LEASE_SECONDS = 5.0
"""The same for a job whose lease is gone: a holder reports before it releases its lease."""
PENDING_SECONDS = 60.0
"""How long a run may be PENDING before its worker counts as dead."""
OPENING_SECONDS = 120.0
"""How long a run may be RUNNING before its process opens the job, or reports for the first time."""
UNSUBMITTED_SECONDS = 60.0
"""How long the process that created a job may take to submit its run."""
RESUBMIT_SECONDS = 3600.0
"""How long to keep resubmitting a run that the Prefect server refuses before the job fails."""


class Runs(Submitter, Protocol):
    """Calls to the Prefect server; see `PrefectRuns`."""

    def runs(self, run_ids: list[str]) -> dict[str, dict[str, Any]]: ...

    def waiting(self, run_ids: list[str]) -> set[str]: ...

    def mark_crashed(self, run_id: str, message: str) -> None: ...


class Verdict(NamedTuple):
    """Why a job looks dead, how many seconds it must look dead, and whether a retry could help."""

    reason: str
    grace_seconds: float
    may_retry: bool = True
    is_cancelled: bool = False

    @property
    def is_retried(self) -> bool:
        """Whether another attempt follows; a cancelled job is never retried."""
        return self.may_retry and not self.is_cancelled


@dataclass
class Reconciler:
    """Ends or retries jobs whose run has ended, died or vanished. Call `step` every `INTERVAL_SECONDS`."""

    jobs: JobStore
    runs: Runs
    clock: Callable[[], float] = time.time
    _suspect_since: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])

    def step(self) -> list[str]:
        """Check every active job once; return the ids of the jobs whose attempt it ended.

        Raises:
            InfraError: Redis or the Prefect server does not answer; no job was changed.
        """
        active = self._not_waiting()
        known = self.runs.runs([job.flow_run_id for job in active if job.flow_run_id])
        ended: list[str] = []
        suspects: dict[tuple[str, int], float] = {}
        now = self.clock()
        for job in active:
            if _is_without_run(job):
                self._submit(job, now)
                continue
            run = known.get(job.flow_run_id or "")
            verdict = self._why_dead(job, run, now)
            if verdict is None:
                continue
            key = (job.job_id, job.attempt)
            suspects[key] = self._suspect_since.get(key, now)
            if now - suspects[key] >= verdict.grace_seconds and self._end(job, run, verdict):
                ended.append(job.job_id)
        self._suspect_since = suspects
        return ended

    def resume_interrupted(self) -> list[Job]:
        """Retry the jobs that died with an earlier stack on this machine, without waiting.

        Returns their records from before, and those of jobs that were already waiting for their next attempt.
        """
        resumed: list[Job] = []
        for job in self._not_waiting():
            if job.again_at is not None:
                resumed.append(job)
            elif job.status is JobState.RUNNING and job.is_leased and not self.jobs.leases.is_held(job.job_id):
                run = self.runs.runs([job.flow_run_id or ""]).get(job.flow_run_id or "")
                verdict = self._why_dead(job, run, self.clock())
                if verdict and verdict.is_retried and str(run and run.get("state_type")) not in TERMINAL:
                    verdict = Verdict("KangKlip was stopped while the job ran.", 0.0)
                if verdict and self._end(job, run, verdict) and verdict.is_retried:
                    resumed.append(job)
        return resumed

    def _not_waiting(self) -> list[Job]:
        """The active jobs but for those that wait for a worker to take their run."""
        active = self.jobs.active()
        queued = [job.flow_run_id for job in active if job.status is JobState.QUEUED and job.flow_run_id]
        waiting = self.runs.waiting(queued)
        return self.jobs.read([job.job_id for job in active if job.flow_run_id not in waiting])

    def _why_dead(self, job: Job, run: dict[str, Any] | None, now: float) -> Verdict | None:
        """Why the job looks dead, or None if it does not."""
        if self.jobs.leases.is_held(job.job_id):
            return None
        if run is None:
            return _verdict_without_run(job, now)
        state = str(run.get("state_type"))
        if state in TERMINAL:
            lease_is_gone = job.status is not JobState.RUNNING or job.is_leased
            grace = DEAD_WITHOUT_LEASE_SECONDS if lease_is_gone else DEAD_SECONDS
            may_retry = not run_endings.would_fail_again(run)
            return Verdict(run_endings.reason(run), grace, may_retry, is_cancelled=state == "CANCELLED")
        return self._why_abandoned(job, state)

    def _why_abandoned(self, job: Job, state: str) -> Verdict | None:
        """Why a run that has not ended looks dead, or None if it does not."""
        is_running, is_cancelled = state in ("RUNNING", "CANCELLING"), state == "CANCELLING"
        if is_running and job.is_leased:
            died = "The process that ran the job has died."
            return Verdict(died, DEAD_WITHOUT_LEASE_SECONDS, is_cancelled=is_cancelled)
        # A worker that is renting a host for the run holds this lease and watches the run.
        if job.nosana_run_id != job.flow_run_id or self.jobs.leases.is_held(watch_lease(str(job.flow_run_id))):
            return None
        if state == "PENDING":
            return Verdict("The run was given to a worker that never started it.", PENDING_SECONDS)
        if is_running and job.status is JobState.QUEUED:
            died = "The process that was to run the job died before it began."
            return Verdict(died, OPENING_SECONDS, is_cancelled=is_cancelled)
        return None

    def _submit(self, job: Job, now: float) -> None:
        """Submit the run of an attempt that has none, once it is due.

        The run goes to the deployment of the previous run, and keeps the job's place in the queue.
        """
        due = job.updated_at + UNSUBMITTED_SECONDS if job.again_at is None else job.again_at
        if now < due:
            return
        try:
            run_id = self.runs.submit(job.job_id, job.attempt, job.request, job.earlier_run_id, job.created_at)
        except SubmitError as error:
            logger.warning("Job %s could not be submitted: %s", job.job_id, error)
            if now - due > RESUBMIT_SECONDS:
                self.jobs.start_failed(job.job_id, job.attempt, str(error))
            return
        if self.jobs.set_run(job.job_id, job.attempt, run_id):
            logger.info("Job %s was resubmitted as attempt %d", job.job_id, job.attempt)
        else:
            self.runs.cancel(run_id)

    def _end(self, job: Job, run: dict[str, Any] | None, verdict: Verdict) -> bool:
        """End the attempt and its run; False if the attempt had ended already."""
        if not self._end_attempt(job, verdict):
            return False  # it ended on its own, or a newer attempt is running, perhaps in the same run
        retry = " It will be retried." if verdict.is_retried else ""
        logger.warning("Job %s: %s%s", job.job_id, verdict.reason, retry)
        if run and str(run.get("state_type")) not in TERMINAL:
            try:
                self.runs.mark_crashed(str(run["id"]), verdict.reason)
            except InfraError as error:
                logger.warning("The run of %s could not be ended: %s", job.job_id, error)
        return True

    def _end_attempt(self, job: Job, verdict: Verdict) -> bool:
        if verdict.is_cancelled:
            return self.jobs.cancel(job.job_id, job.attempt, verdict.reason)
        if verdict.may_retry:
            return self.jobs.retry(job.job_id, job.attempt, verdict.reason)
        text = f"{verdict.reason} Start the job again."
        failed = Report(job_id=job.job_id, attempt=job.attempt, status=JobState.FAILED, error=text, message=text)
        return self.jobs.report(failed)


class Steps(Protocol):
    """A reconciler."""

    def step(self) -> object: ...


async def keep_reconciling(reconciler: Steps) -> None:
    """Call `step` forever, whatever it raises: nothing else ends the jobs of dead runs."""
    while True:
        try:
            await asyncio.to_thread(reconciler.step)
        except InfraError as error:
            logger.warning("Jobs could not be compared with their runs: %s", error)
        except Exception:
            logger.exception("Jobs could not be compared with their runs; retrying")
        await asyncio.sleep(INTERVAL_SECONDS)


def _is_without_run(job: Job) -> bool:
    """Whether the attempt's run was never submitted. A job that reports by callback has a Nosana run instead."""
    return job.status is JobState.QUEUED and job.flow_run_id is None and job.nosana_run_id is None


def _verdict_without_run(job: Job, now: float) -> Verdict | None:
    """The verdict on a job whose run is not on the Prefect server."""
    if job.flow_run_id is None:  # a job that reports by callback has a Nosana run instead
        return None if job.nosana_run_id else Verdict("The job never got a run.", UNSUBMITTED_SECONDS)
    if now - job.updated_at < DEAD_SECONDS:
        return None
    return Verdict("The run has vanished from the Prefect server.", DEAD_WITHOUT_LEASE_SECONDS)
