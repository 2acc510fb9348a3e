"""Jobs whose run is no more, found without anybody asking, and taken up again.

A job that is active in Redis is held against what is known of its run: the lease that a living process
renews, and the run's state on the Prefect server. Nothing is concluded from a server that does not answer.
What has to be known to go on is in the record, so any process of the API can, also after all have died.
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
from infra.prefect import endings
from infra.prefect.runs import TERMINAL
from infra.states import JobState

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0
GRACE_SECONDS = LEASE_SECONDS + 5.0
"""How long a job may look dead before it is: reports are late, and a lease lives on for a while."""
SHORT_GRACE_SECONDS = 5.0
"""The same where the lease is gone already: its holder reports before it lets go."""
PENDING_SECONDS = 60.0
"""How long a run may be about to start before its worker is taken for dead."""
WITHOUT_RUN_SECONDS = 60.0
"""How long a job may wait for whoever has created it to submit its run."""
SUBMIT_SECONDS = 3600.0
"""How long a run that is due may be refused by the Prefect server before its job fails."""


class Runs(Protocol):
    """What is asked of the Prefect server; see `PrefectRuns`."""

    def runs(self, run_ids: list[str]) -> dict[str, dict[str, Any]]: ...

    def submit(
        self,
        job_id: str,
        attempt: int,
        request: dict[str, Any],
        earlier_run_id: str | None = None,
        since: float | None = None,
    ) -> str: ...

    def cancel(self, run_id: str) -> None: ...

    def end(self, run_id: str, message: str) -> None: ...


class Verdict(NamedTuple):
    """Why a job looks dead, how many seconds it may look so, and what follows: another attempt by itself or not."""

    reason: str
    patience: float
    again: bool = True
    by_person: bool = False

    @property
    def goes_on(self) -> bool:
        """Whether another attempt follows: never after a person has ended one."""
        return self.again and not self.by_person


@dataclass
class Reconciler:
    """Sees to jobs whose run has ended, died or vanished. `step` is called every `INTERVAL_SECONDS`."""

    jobs: JobStore
    runs: Runs
    clock: Callable[[], float] = time.time
    _suspect_since: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])

    def step(self) -> list[str]:
        """Look at every active job once; the ids of those whose attempt was ended.

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

    def take_up(self) -> list[Job]:
        """End at once what died with an earlier stack of this machine, so that it goes on; those jobs as they were.

        Jobs that wait to go on by themselves are among them.
        """
        taken: list[Job] = []
        for job in self.jobs.active():
            if job.again_at is not None:
                taken.append(job)
            elif job.status is JobState.RUNNING and job.is_leased and not self.jobs.leases.is_held(job.job_id):
                run = self.runs.runs([job.flow_run_id or ""]).get(job.flow_run_id or "")
                verdict = self._why_dead(job, run, self.clock())
                if verdict and verdict.goes_on and str(run and run.get("state_type")) not in TERMINAL:
                    verdict = Verdict("KangKlip was stopped while the job ran.", 0.0)
                if verdict and self._end(job, run, verdict) and verdict.goes_on:
                    taken.append(job)
        return taken

    def _why_dead(self, job: Job, run: dict[str, Any] | None, now: float) -> Verdict | None:
        """None while the job does not look dead."""
        if self.jobs.leases.is_held(job.job_id):
            return None
        if run is None:
            return _of_vanished(job, now)
        state = str(run.get("state_type"))
        if state in TERMINAL:
            early = job.status is not JobState.RUNNING or job.is_leased
            patience = SHORT_GRACE_SECONDS if early else GRACE_SECONDS
            again = not endings.would_fail_again(run)
            return Verdict(endings.reason(run), patience, again, by_person=state == "CANCELLED")
        is_rented_for = self.jobs.leases.is_held(watch_lease(str(job.flow_run_id)))  # whoever rents looks after the run
        if state == "PENDING" and job.nosana_run_id == job.flow_run_id and not is_rented_for:
            return Verdict("The run was given to a worker that never started it.", PENDING_SECONDS)
        if state in ("RUNNING", "CANCELLING") and job.is_leased:
            died = "The process that ran the job has died."
            return Verdict(died, SHORT_GRACE_SECONDS, by_person=state == "CANCELLING")
        return None

    def _submit(self, job: Job, now: float) -> None:
        """Start the run of an attempt that has none, once it is due.

        It goes to the deployment that the job ran in before, and keeps the job's place among those that wait.
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
        """Whether the attempt was still there to be ended."""
        if not self._ended(job, verdict):
            return False  # it has ended by itself, or another attempt runs: perhaps as the same run
        follows = " It goes on by itself." if verdict.goes_on else ""
        logger.warning("Job %s: %s%s", job.job_id, verdict.reason, follows)
        if run and str(run.get("state_type")) not in TERMINAL:
            try:
                self.runs.end(str(run["id"]), verdict.reason)
            except InfraError as error:
                logger.warning("The run of %s could not be ended: %s", job.job_id, error)
        return True

    def _ended(self, job: Job, verdict: Verdict) -> bool:
        if verdict.by_person:
            return self.jobs.cancel(job.job_id, job.attempt, verdict.reason)
        if verdict.again:
            return self.jobs.retry(job.job_id, job.attempt, verdict.reason)
        text = f"{verdict.reason} Start the job again."
        failed = Report(job_id=job.job_id, attempt=job.attempt, status=JobState.FAILED, error=text, message=text)
        return self.jobs.report(failed)


async def keep_reconciling(reconciler: Reconciler) -> None:
    """Look again and again, whatever goes wrong: without it no job of a dead run ever ends."""
    while True:
        try:
            await asyncio.to_thread(reconciler.step)
        except InfraError as error:
            logger.warning("Jobs were not held against their runs: %s", error)
        except Exception:
            logger.exception("Jobs were not held against their runs; it is tried again")
        await asyncio.sleep(INTERVAL_SECONDS)


def _is_without_run(job: Job) -> bool:
    """Submitted and lost, or waiting to go on by itself. Runs elsewhere that report by callback have no flow run."""
    return job.status is JobState.QUEUED and job.flow_run_id is None and job.nosana_run_id is None


def _of_vanished(job: Job, now: float) -> Verdict | None:
    if job.flow_run_id is None:  # one that runs elsewhere and reports by callback has a deployment, or was never ours
        return None if job.nosana_run_id else Verdict("The job was never given to a run.", WITHOUT_RUN_SECONDS)
    if now - job.updated_at < GRACE_SECONDS:
        return None
    return Verdict("The run has vanished from the Prefect server.", SHORT_GRACE_SECONDS)
