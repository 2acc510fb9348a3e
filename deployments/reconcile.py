"""Jobs whose run is no more, found without anybody asking.

A job that is active in Redis is held against what is known of its run: the lease that a living process
renews, and the run's state on the Prefect server. Nothing is concluded from a server that does not answer.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from deployments import endings
from deployments.submit import TERMINAL
from infra.errors import InfraError
from infra.jobs import LEASE_SECONDS, Job, JobStore, Report, watch_lease
from infra.states import JobState

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0
GRACE_SECONDS = LEASE_SECONDS + 5.0
"""How long a job may look dead before it is: reports are late, and a lease lives on for a while."""
PENDING_SECONDS = 120.0
"""How long a run may be about to start before its worker is taken for dead."""


class Runs(Protocol):
    """What is asked of the Prefect server; see `PrefectRuns`."""

    def runs(self, run_ids: list[str]) -> dict[str, dict[str, Any]]: ...

    def end(self, run_id: str, message: str) -> None: ...


@dataclass
class Reconciler:
    """Ends jobs whose run has ended, died or vanished. `step` is called every `INTERVAL_SECONDS`."""

    jobs: JobStore
    runs: Runs
    clock: Callable[[], float] = time.time
    _suspect_since: dict[tuple[str, int], float] = field(default_factory=dict[tuple[str, int], float])

    def step(self) -> list[str]:
        """Look at every active job once; the ids of those that were ended.

        Raises:
            InfraError: Redis or the Prefect server does not answer; nothing was concluded.
        """
        active = self.jobs.active()
        known = self.runs.runs([job.flow_run_id for job in active if job.flow_run_id])
        ended: list[str] = []
        suspects: dict[tuple[str, int], float] = {}
        now = self.clock()
        for job in active:
            run = known.get(job.flow_run_id or "")
            reason, patience = self._why_dead(job, run, now)
            if reason is None:
                continue
            key = (job.job_id, job.attempt)
            suspects[key] = self._suspect_since.get(key, now)
            if now - suspects[key] >= patience and self._end(job, run, reason):
                ended.append(job.job_id)
        self._suspect_since = suspects
        return ended

    def _why_dead(self, job: Job, run: dict[str, Any] | None, now: float) -> tuple[str | None, float]:
        """Why the job looks dead, None while it does not, and for how many seconds it may look so."""
        if self.jobs.is_held(job.job_id):
            return None, 0.0
        if run is None:
            return _without_run(job, now)
        state = str(run.get("state_type"))
        if state in TERMINAL:
            return endings.reason(run), GRACE_SECONDS if job.status is JobState.RUNNING else 5.0
        is_rented_for = self.jobs.is_held(watch_lease(str(job.flow_run_id)))  # whoever rents looks after the run
        if state == "PENDING" and job.nosana_run_id == job.flow_run_id and not is_rented_for:
            return "The run was given to a worker that never started it.", PENDING_SECONDS
        if state in ("RUNNING", "CANCELLING") and job.is_leased:
            return "The process that ran the job has died.", GRACE_SECONDS - LEASE_SECONDS
        return None, 0.0

    def _end(self, job: Job, run: dict[str, Any] | None, reason: str) -> bool:
        """Whether the attempt was still there to be ended."""
        text = f"{reason} Start the job again."
        failed = Report(job_id=job.job_id, attempt=job.attempt, status=JobState.FAILED, error=text, message=text)
        is_without_run = job.flow_run_id is None
        ended = self.jobs.start_failed(job.job_id, job.attempt, text) if is_without_run else self.jobs.report(failed)
        if not ended:
            return False  # it has ended by itself, or another attempt runs: perhaps as the same run
        logger.warning("Job %s: %s", job.job_id, reason)
        if run and str(run.get("state_type")) not in TERMINAL:
            try:
                self.runs.end(str(run["id"]), reason)
            except InfraError as error:
                logger.warning("The run of %s could not be ended: %s", job.job_id, error)
        return True


async def keep_reconciling(reconciler: Reconciler) -> None:
    """Look again and again, also after Redis or the Prefect server was away."""
    while True:
        try:
            await asyncio.to_thread(reconciler.step)
        except InfraError as error:
            logger.warning("Jobs were not held against their runs: %s", error)
        await asyncio.sleep(INTERVAL_SECONDS)


def _without_run(job: Job, now: float) -> tuple[str | None, float]:
    """A job that no flow run of the server's belongs to: submitted and lost, or run elsewhere by callbacks."""
    if job.flow_run_id is None and job.nosana_run_id is not None:
        return None, 0.0
    if job.flow_run_id is None:
        return "The job was never given to a run.", 60.0
    if now - job.updated_at < GRACE_SECONDS:
        return None, 0.0
    return "The run has vanished from the Prefect server.", GRACE_SECONDS - LEASE_SECONDS
