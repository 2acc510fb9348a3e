"""Finds jobs whose run has died, and resumes them.

Each active job in Redis is compared with its run: the lease that a living process renews, and the run's state on the
Prefect server. Nothing is concluded while a server is away. All that resuming needs is in the record, so any process
of the API can do it, even after all of them died.
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
GRACE_SECONDS = LEASE_SECONDS + 5.0
"""How long a job must look dead: reports come late, and a lease outlives its holder for a while."""
SHORT_GRACE_SECONDS = 5.0
"""The same once the lease is gone: its holder reports before it releases it."""
PENDING_SECONDS = 60.0
"""How long a run may be PENDING before its worker counts as dead."""
WITHOUT_RUN_SECONDS = 60.0
"""How long the process that created a job may take to submit its run."""
SUBMIT_SECONDS = 3600.0
"""How long the Prefect server may refuse a due run before its job fails."""


class Runs(Submitter, Protocol):
    """The calls to the Prefect server; see `PrefectRuns`."""

    def runs(self, run_ids: list[str]) -> dict[str, dict[str, Any]]: ...

    def end(self, run_id: str, message: str) -> None: ...


class Verdict(NamedTuple):
    """Why a job looks dead, how many seconds it must look so, and whether another attempt may follow by itself."""

    reason: str
    patience: float
    again: bool = True
    by_user: bool = False

    @property
    def is_followed(self) -> bool:
        """Whether another attempt follows; never after the user has ended one."""
        return self.again and not self.by_user


@dataclass
class Reconciler:
    """Ends or resumes jobs whose run has ended, died or vanished. Call `step` every `INTERVAL_SECONDS`."""

    jobs: JobStore
    runs: Runs
    clock: Callable[[], float] = time.time
    _suspect_since: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])

    def step(self) -> list[str]:
        """Check every active job once; returns the ids of those whose attempt was ended.

        Raises:
            InfraError: Redis or the Prefect server does not answer; nothing was concluded.
        """
        active = self.jobs.active()
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
            if now - suspects[key] >= verdict.patience and self._end(job, run, verdict):
                ended.append(job.job_id)
        self._suspect_since = suspects
        return ended

    def resume_interrupted(self) -> list[Job]:
        """End at once the attempts that died with an earlier stack of this machine; another one follows each.

        Returns those jobs as they were before, and those that already wait for their next attempt.
        """
        resumed: list[Job] = []
        for job in self.jobs.active():
            if job.again_at is not None:
                resumed.append(job)
            elif job.status is JobState.RUNNING and job.is_leased and not self.jobs.leases.is_held(job.job_id):
                run = self.runs.runs([job.flow_run_id or ""]).get(job.flow_run_id or "")
                verdict = self._why_dead(job, run, self.clock())
                if verdict and verdict.is_followed and str(run and run.get("state_type")) not in TERMINAL:
                    verdict = Verdict("KangKlip was stopped while the job ran.", 0.0)
                if verdict and self._end(job, run, verdict) and verdict.is_followed:
                    resumed.append(job)
        return resumed

    def _why_dead(self, job: Job, run: dict[str, Any] | None, now: float) -> Verdict | None:
        """Why the job looks dead, or None if it does not."""
        if self.jobs.leases.is_held(job.job_id):
            return None
        if run is None:
            return _of_vanished(job, now)
        state = str(run.get("state_type"))
        if state in TERMINAL:
            early = job.status is not JobState.RUNNING or job.is_leased
            patience = SHORT_GRACE_SECONDS if early else GRACE_SECONDS
            again = not run_endings.would_fail_again(run)
            return Verdict(run_endings.reason(run), patience, again, by_user=state == "CANCELLED")
        # A worker that is renting for the run watches it.
        is_rented_for = self.jobs.leases.is_held(watch_lease(str(job.flow_run_id)))
        if state == "PENDING" and job.nosana_run_id == job.flow_run_id and not is_rented_for:
            return Verdict("The run was given to a worker that never started it.", PENDING_SECONDS)
        if state in ("RUNNING", "CANCELLING") and job.is_leased:
            died = "The process that ran the job has died."
            return Verdict(died, SHORT_GRACE_SECONDS, by_user=state == "CANCELLING")
        return None

    def _submit(self, job: Job, now: float) -> None:
        """Submit the run of an attempt that has none, once it is due.

        It goes to the deployment that the job ran in before, and keeps the job's place in the queue.
        """
        due = job.updated_at + WITHOUT_RUN_SECONDS if job.again_at is None else job.again_at
        if now < due:
            return
        try:
            run_id = self.runs.submit(job.job_id, job.attempt, job.request, job.earlier_run_id, job.created_at)
        except SubmitError as error:
            logger.warning("Job %s could not be submitted: %s", job.job_id, error)
            if now - due > SUBMIT_SECONDS:
                self.jobs.start_failed(job.job_id, job.attempt, str(error))
            return
        if self.jobs.set_run(job.job_id, job.attempt, run_id):
            logger.info("Job %s was submitted again by itself, as attempt %d", job.job_id, job.attempt)
        else:
            self.runs.cancel(run_id)

    def _end(self, job: Job, run: dict[str, Any] | None, verdict: Verdict) -> bool:
        """End the attempt and its run; False if the attempt had ended already."""
        if not self._ended(job, verdict):
            return False  # it has ended by itself, or another attempt runs: perhaps as the same run
        follows = " Another attempt follows." if verdict.is_followed else ""
        logger.warning("Job %s: %s%s", job.job_id, verdict.reason, follows)
        if run and str(run.get("state_type")) not in TERMINAL:
            try:
                self.runs.end(str(run["id"]), verdict.reason)
            except InfraError as error:
                logger.warning("The run of %s could not be ended: %s", job.job_id, error)
        return True

    def _ended(self, job: Job, verdict: Verdict) -> bool:
        if verdict.by_user:
            return self.jobs.cancel(job.job_id, job.attempt, verdict.reason)
        if verdict.again:
            return self.jobs.retry(job.job_id, job.attempt, verdict.reason)
        text = f"{verdict.reason} Start the job again."
        failed = Report(job_id=job.job_id, attempt=job.attempt, status=JobState.FAILED, error=text, message=text)
        return self.jobs.report(failed)


async def keep_reconciling(reconciler: Reconciler) -> None:
    """Call `step` for ever, whatever goes wrong: nothing else ends the jobs of dead runs."""
    while True:
        try:
            await asyncio.to_thread(reconciler.step)
        except InfraError as error:
            logger.warning("Jobs could not be compared with their runs: %s", error)
        except Exception:
            logger.exception("Jobs could not be compared with their runs; it is tried again")
        await asyncio.sleep(INTERVAL_SECONDS)


def _is_without_run(job: Job) -> bool:
    """Whether no run was submitted for the attempt. Jobs elsewhere that report by callback have no flow run either."""
    return job.status is JobState.QUEUED and job.flow_run_id is None and job.nosana_run_id is None


def _of_vanished(job: Job, now: float) -> Verdict | None:
    if job.flow_run_id is None:  # a job elsewhere that reports by callback has a deployment
        return None if job.nosana_run_id else Verdict("The job was never given to a run.", WITHOUT_RUN_SECONDS)
    if now - job.updated_at < GRACE_SECONDS:
        return None
    return Verdict("The run has vanished from the Prefect server.", SHORT_GRACE_SECONDS)
