"""Finds recuts whose run has died, and retries them, as `deployments/job_reconciler.py` does for jobs.

A recut whose revision is published already is not retried: what is left to do is done here.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deployments.job_reconciler import (
    DEAD_SECONDS,
    DEAD_WITHOUT_LEASE_SECONDS,
    PENDING_SECONDS,
    RESUBMIT_SECONDS,
    Runs,
    Verdict,
)
from infra.bucket.store import ArtifactStore
from infra.errors import InfraError, StoreError, SubmitError
from infra.granted.access import granted_root
from infra.jobs.leases import watch_lease
from infra.jobs.record import SEND_AGAIN, Job, JobRef, Recut
from infra.jobs.store import JobStore
from infra.prefect import run_endings
from infra.prefect.runs import TERMINAL
from infra.states import JobState
from tasks.next_revision import update_job_folder

UNSUBMITTED_SECONDS = 20.0
"""How long the process that began a recut may take to store the document and submit its run."""
_Suspect = tuple[str, int, int]

logger = logging.getLogger(__name__)


@dataclass
class RecutReconciler:
    """Ends or retries recuts whose run has ended, died or vanished. Call `step` every few seconds."""

    jobs: JobStore
    runs: Runs
    bucket: ArtifactStore
    clock: Callable[[], float] = time.time
    _suspect_since: dict[_Suspect, float] = field(default_factory=dict[_Suspect, float])

    def step(self) -> list[str]:
        """Check every recut once; return the ids of the jobs whose recut it retried or ended.

        Raises:
            InfraError: Redis or the Prefect server does not answer.
        """
        under_way = [(job, job.recut) for job in self.jobs.recuts.under_way() if job.recut]
        submitted = {recut.flow_run_id: recut.state for _, recut in under_way if recut.flow_run_id}
        waiting = self.runs.waiting([run for run, state in submitted.items() if state is JobState.QUEUED])
        known = self.runs.runs([run for run in submitted if run not in waiting])
        ended: list[str] = []
        suspects: dict[_Suspect, float] = {}
        now = self.clock()
        for job, recut in under_way:
            if recut.flow_run_id is None:
                self._submit(job, recut, now)
                continue
            if recut.flow_run_id in waiting:
                continue
            run = known.get(recut.flow_run_id)
            verdict = self._why_dead(job, run)
            if verdict is None:
                continue
            key = (job.job_id, recut.revision, recut.attempt)
            suspects[key] = self._suspect_since.get(key, now)
            if now - suspects[key] >= verdict.grace_seconds and self._end(job, recut, run, verdict):
                ended.append(job.job_id)
        self._suspect_since = suspects
        return ended

    def _why_dead(self, job: Job, run: dict[str, Any] | None) -> Verdict | None:
        """Why the recut's run looks dead, or None if it does not."""
        recut = job.recut
        if recut is None or self.jobs.leases.is_held(job.job_id):
            return None
        if job.revision == recut.revision:
            return Verdict("The process that published it has died.", DEAD_WITHOUT_LEASE_SECONDS)
        if run is None:
            return Verdict("The run has vanished from the Prefect server.", DEAD_SECONDS)
        state = str(run.get("state_type"))
        if state in TERMINAL:
            may_retry = not run_endings.would_fail_again(run)
            is_cancelled = state == "CANCELLED"
            return Verdict(run_endings.reason(run), DEAD_WITHOUT_LEASE_SECONDS, may_retry, is_cancelled)
        return self._why_abandoned(recut, state)

    def _why_abandoned(self, recut: Recut, state: str) -> Verdict | None:
        """Why a run that has not ended looks dead, or None if it does not."""
        # A worker that is renting a host for the run holds this lease; the next one adopts the run.
        if recut.nosana_run_id is not None or self.jobs.leases.is_held(watch_lease(str(recut.flow_run_id))):
            return None
        if state != "PENDING" and recut.grant_id is not None:
            return None
        if state == "PENDING" or (state == "RUNNING" and recut.state is JobState.QUEUED):
            return Verdict("The run was given to a worker that never started it.", PENDING_SECONDS)
        if state in ("RUNNING", "CANCELLING"):
            died = "The process that ran the recut has died."
            return Verdict(died, DEAD_WITHOUT_LEASE_SECONDS, is_cancelled=state == "CANCELLING")
        return None

    def _submit(self, job: Job, recut: Recut, now: float) -> None:
        """Submit the run of an attempt that has none, once it is due."""
        due = recut.updated_at + UNSUBMITTED_SECONDS if recut.again_at is None else recut.again_at
        if now < due:
            return
        attempt = (job.job_id, recut.revision, recut.attempt)
        try:
            run_id = self.runs.submit_recut(*attempt, recut.earlier_run_id, is_rented=job.is_rented)
        except SubmitError as error:
            logger.warning("The recut of %s could not be submitted: %s", job.job_id, error)
            if now - due > RESUBMIT_SECONDS:
                self.jobs.recuts.end(*attempt, JobState.FAILED, str(error))
            return
        if not self.jobs.recuts.set_run(*attempt, run_id):
            self.runs.cancel(run_id)

    def _end(self, job: Job, recut: Recut, run: dict[str, Any] | None, verdict: Verdict) -> bool:
        """End the attempt and its run; False if the attempt had ended already."""
        attempt = (job.job_id, recut.revision, recut.attempt)
        is_published = job.revision == recut.revision
        if is_published:
            is_ended = self._complete(JobRef(job_id=job.job_id, revision=recut.revision, attempt=recut.attempt))
        elif verdict.is_retried:
            is_ended = self.jobs.recuts.retry(*attempt, verdict.reason)
        else:
            text = f"{verdict.reason} {SEND_AGAIN}"
            is_ended = self.jobs.recuts.end(*attempt, JobState.FAILED, text)
        if not is_ended:
            return False
        done = "Its files are complete now." if is_published else "It is retried." if verdict.is_retried else ""
        logger.warning("Recut of %s: %s %s", job.job_id, verdict.reason, done)
        if run and recut.grant_id is None and str(run.get("state_type")) not in TERMINAL:
            try:
                self.runs.mark_crashed(str(run["id"]), verdict.reason)
            except InfraError as error:
                logger.warning("The recut's run of %s could not be ended: %s", job.job_id, error)
        return True

    def _complete(self, job: JobRef) -> bool:
        """Bring the job's own folder to the published revision. A rented machine learns that when it reports again."""
        with self.jobs.leases.kept(job.job_id) as is_kept:
            if not is_kept:
                return False
            try:
                update_job_folder(job, self.bucket)
                self.bucket.delete_all(granted_root(job.job_id))
            except StoreError as error:
                logger.warning("The files of %s could not be completed: %s", job.job_id, error)
                return False
            return self.jobs.report(job.report(status=JobState.SUCCEEDED))
