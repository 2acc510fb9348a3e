"""Opens a recut's attempt, holds the job's lease while it runs, and ends it with its outcome.

On a rented machine, the worker has opened the attempt, and our API publishes what the machine has drawn.
"""

import logging
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.runtime import deployment, flow_run
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from flows.lifecycle import error_record, is_cancelled, may_pass
from infra import settings
from infra.broken_pipe import ignore_broken_pipe
from infra.bucket import background_transfers
from infra.errors import ConfigError, JobConflict, ReportLost, RunNotStopped, StateError
from infra.granted.access import access_of
from infra.jobs.record import Job, JobRef
from infra.jobs.reports import FINAL_PATIENCE, STOPPED_PATIENCE, Progress, recut_reports, report_end, sinks_of
from infra.jobs.run_lease import RunLease
from infra.jobs.store import JobStore
from infra.prefect import stop_signals
from infra.settings import Settings
from infra.states import JobState
from tasks.core.errors import ClipError, RecutRefused
from tasks.core.object_keys import job_key
from tasks.handover import Handover, drawn_key, read_handover
from tasks.next_revision import DrawnClips, Recut, prepare_revision, publish_revision, update_job_folder
from tasks.workspace import Workspace, machine_failures, sweep, work_folder

logger = logging.getLogger(__name__)


@dataclass
class RecutRun:
    """An attempt at a recut: its workspace, the job's request, and the published revision.

    `jobs` is None on a rented machine.
    """

    job: JobRef
    jobs: JobStore | None
    work: Workspace
    request: dict[str, Any]
    published: int | None

    def prepare(self, planned: Recut) -> None:
        """Make room for the revision; see `prepare_revision`."""
        if self.jobs:
            prepare_revision(planned, self.job, self.jobs, self.work.store)

    def publish(self, planned: Recut, drawn: DrawnClips) -> None:
        """From now on, readers see this revision and no other. A rented machine says what it has drawn for it.

        Raises:
            JobConflict: the recut has ended meanwhile, or another run makes it.
        """
        if self.jobs is None:
            self.work.store.put_json(drawn_key(self.job), drawn)
            return
        publish_revision(planned, drawn, self.job, self.jobs, self.work.store)
        self.published = self.job.revision

    def complete(self) -> None:
        """Bring the job's own folder to the published revision."""
        if self.jobs:
            update_job_folder(self.job, self.work.store)


@contextmanager
def attempt(job_id: str, revision: int, number: int) -> Generator[RecutRun]:
    """Open attempt `number` of the recut and hold the job's lease; end it SUCCEEDED, or FAILED if the body raises.

    Raises:
        JobConflict: this run may not open the attempt.
        ConfigError: there is no Redis, and so no record of the job; and this is no rented machine.
    """
    ignore_broken_pipe()
    configured = settings.load()
    store = JobStore.from_settings(configured)
    if store is None and access_of(configured) is None:
        raise ConfigError("A recut needs REDIS_URL, where the job's record is.")
    job, run = JobRef(job_id=job_id, attempt=number, revision=revision), None
    with stop_signals.recorded(), RunLease(store, job_id) as lease:
        try:
            record = _open(job, store) if store else None
            lease.guard(job)
            sweep(job, configured, store)
            with recut_reports(job, sinks_of(configured)) as report, machine_failures(configured):
                work = _workspace(job, configured, report)
                known = Handover.of(record) if record else read_handover(job, work.store)
                run = RecutRun(job, store, work, known.request, known.published)
                yield run
        except (JobConflict, ReportLost):
            raise
        except BaseException as error:
            if lease.loss_reason:
                raise JobConflict(lease.loss_reason) from error
            lease.guard(None)
            _fail(job, run, error, configured)
            raise
        else:
            background_transfers.wait_all(work_folder(job, configured))
            _succeed(job, run.work, configured)
        finally:
            if run:  # otherwise the folder may belong to another run
                shutil.rmtree(work_folder(job, configured), ignore_errors=True)


@retry(
    retry=retry_if_exception_type((StateError, RunNotStopped)),
    wait=wait_exponential(multiplier=0.2, max=5),
    stop=stop_after_delay(60),
    reraise=True,
)
def _open(job: JobRef, store: JobStore) -> Job:
    """Open the attempt, and return the job's record. The run that made the clips may still be cleaning up."""
    store.recuts.open(job.job_id, job.revision or 0, job.attempt, str(flow_run.get_id()), store.leases)
    record = store.get(job.job_id)
    if record is None:
        raise JobConflict(f"Job {job.job_id} was deleted.")
    return record


def _workspace(job: JobRef, configured: Settings, report: Progress) -> Workspace:
    def report_progress(fraction: float, message: str) -> None:
        stop_signals.raise_pending()
        report(fraction, message)

    return Workspace(job, configured, report_progress)


def _succeed(job: JobRef, work: Workspace, configured: Settings) -> None:
    if not report_end(job.report(status=JobState.SUCCEEDED), sinks_of(configured), FINAL_PATIENCE):
        raise ReportLost(f"Revision {job.revision} of {job.job_id} is made, but its recut is not recorded as done.")
    if access_of(configured):  # our API has already cleaned up
        return
    try:
        for key in list(work.store.list(job_key(job.job_id, "rendered/"))):
            work.store.delete(key)
    except Exception:
        logger.exception("Revision %s of %s is published; cleaning up afterwards failed", job.revision, job.job_id)


def _fail(job: JobRef, run: RecutRun | None, error: BaseException, configured: Settings) -> None:
    """Record why the attempt failed. If somebody's worker runs it and the error may pass, another attempt follows."""
    if access_of(configured) and may_pass(error):
        return  # the worker that rented the machine ends the attempt, or the API does by the run's state: both retry
    record = error_record(error)
    next_step = record["next_step"] if isinstance(error, ClipError) else RecutRefused.next_step
    was_stopped = not isinstance(error, Exception)
    is_cancel = was_stopped and is_cancelled()
    reason = "The run was cancelled in the Prefect UI." if is_cancel else record["error"]
    is_retried = deployment.get_id() is not None and may_pass(error) and not is_cancel
    text = f"{reason} {next_step}"
    if run and run.published == job.revision:
        text = f"Revision {job.revision} is published, but not all of its files are in the job's own folder: {text}"
    report = job.report(status=JobState.FAILED, error=text, retry_reason=reason if is_retried else None)
    report_end(report, sinks_of(configured), STOPPED_PATIENCE if was_stopped else FINAL_PATIENCE)
