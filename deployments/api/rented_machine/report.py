"""Takes reports from rented machines. Progress is recorded as it comes; an end is verified first."""

import contextlib
import logging
from collections.abc import Generator

from anyio import to_thread
from fastapi import HTTPException

from deployments.api.dependencies import Services
from deployments.api.rented_machine.acceptance import OutputRejected, accept, delete_granted_objects, publish_error
from deployments.api.rented_machine.recut_acceptance import accept_recut
from infra.errors import JobConflict, StoreError
from infra.granted.session import Session
from infra.jobs.record import Job, Report
from infra.states import JobState
from tasks.deletion import delete_objects

logger = logging.getLogger(__name__)

ENDED = (409, "job has ended differently")
BEING_CHECKED = (503, "clips are being checked; try again")
CHECK_SECONDS = 900
"""Longest check of a job's clips; after that, another check may start."""


def record_report(report: Report, services: Services) -> None:
    """Record a report of a known job."""
    if report.status in (JobState.SUCCEEDED, JobState.FAILED):
        _delete_late_objects(report.job_id, services)
    recut = services.job(report.job_id).recut
    if report.revision is not None and report.attempt is None:
        report = report.model_copy(update={"attempt": recut.attempt if recut else 0})
    services.jobs.report(report)


def _delete_late_objects(job_id: str, services: Services) -> None:
    """If the job was deleted, delete what its run, or our check of its clips, has written since."""
    if services.jobs.was_deleted(job_id):
        delete_objects(job_id, services.bucket)


async def take_session_report(report: Report, session: Session, services: Services) -> None:
    """Take a report for the session's attempt at a job or a recut, whichever it names.

    Raises:
        HTTPException: 409 if the attempt ended differently, 503 while its end is being checked.
    """
    own = report.model_copy(update={"attempt": session.attempt, "revision": session.revision})
    if own.status in (JobState.SUCCEEDED, JobState.FAILED):
        await to_thread.run_sync(_end_once, own, session, services, limiter=services.clip_checks)
    else:
        await to_thread.run_sync(record_report, own, services)


def _end_once(report: Report, session: Session, services: Services) -> None:
    work = services.job(report.job_id).worked_on(session.run)
    if work and not work.has_ended:
        with _checking(session, services):
            _end(report, session, services)
        work = services.job(report.job_id).worked_on(session.run)
    if work is None or work.status is not report.status:
        raise HTTPException(*ENDED)
    if work.status is JobState.SUCCEEDED:
        _delete_granted(report.job_id, services)


@contextlib.contextmanager
def _checking(session: Session, services: Services) -> Generator[None]:
    """Keep other checks of the same output, and other changes of the job's clips, from running meanwhile.

    Raises:
        HTTPException: 503 if one is running.
    """
    if session.revision is not None:
        with services.jobs.leases.kept(session.job_id) as is_kept:  # freed at once if this process dies
            if not is_kept:
                raise HTTPException(*BEING_CHECKED)
            yield
        return
    if not services.sessions.lock(session, "end", CHECK_SECONDS):
        raise HTTPException(*BEING_CHECKED)
    try:
        yield
    finally:
        services.sessions.unlock(session, "end")


def _end(report: Report, session: Session, services: Services) -> None:
    job = services.job(report.job_id)
    work = job.worked_on(session.run)
    if work and not work.has_ended:
        services.jobs.report(_verified(report, job, session, services))
        _delete_late_objects(report.job_id, services)


def _verified(report: Report, job: Job, session: Session, services: Services) -> Report:
    """The report after verification: a success whose output is rejected becomes a failure."""
    if report.status is JobState.FAILED:
        if session.revision is None:
            publish_error(job, services.bucket)
        return report
    try:
        if session.revision is None:
            accept(job, services.bucket, services.settings.max_source_seconds)
        else:
            accept_recut(session.run, services.jobs, services.bucket)
    except OutputRejected as rejection:
        text = session.run.advice(f"The rented machine's output was rejected: {rejection} Start the job again.")
        logger.error("Job %s: %s", job.job_id, text)  # noqa: TRY400 expected, one line
        return report.model_copy(update={"status": JobState.FAILED, "error": text, "message": text})
    except JobConflict as conflict:  # the report will be refused too
        logger.warning("Job %s: %s", job.job_id, conflict)
    return report


def _delete_granted(job_id: str, services: Services) -> None:
    try:
        delete_granted_objects(job_id, services.bucket)
    except StoreError as error:
        logger.warning("Objects that a rented machine left of %s were not deleted: %s", job_id, error)
