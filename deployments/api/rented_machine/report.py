"""Takes reports from rented machines. Progress is recorded as it comes; an end is verified first."""

import logging

from anyio import to_thread
from fastapi import HTTPException

from deployments.api.dependencies import Services
from deployments.api.rented_machine.acceptance import OutputRejected, accept, delete_granted_objects, publish_error
from infra.errors import StoreError
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
    services.job(report.job_id)
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
    if not services.sessions.lock(session, "end", CHECK_SECONDS):
        raise HTTPException(*BEING_CHECKED)
    try:
        job = services.job(report.job_id)
        work = job.worked_on(session.run)
        if work and not work.has_ended:
            services.jobs.report(_verified(report, job, services))
            _delete_late_objects(report.job_id, services)
            work = services.job(report.job_id).worked_on(session.run)
        if work is None or work.status is not report.status:
            raise HTTPException(*ENDED)
        if work.status is JobState.SUCCEEDED:
            _delete_granted(job, services)
    finally:
        services.sessions.unlock(session, "end")


def _verified(report: Report, job: Job, services: Services) -> Report:
    """The report after verification: a success whose output is rejected becomes a failure."""
    if report.revision is not None:
        return report
    if report.status is JobState.FAILED:
        publish_error(job, services.bucket)
        return report
    try:
        accept(job, services.bucket, services.settings.max_source_seconds)
    except OutputRejected as rejection:
        text = f"The rented machine's output was rejected: {rejection} Start the job again."
        logger.error("Job %s: %s", job.job_id, text)  # noqa: TRY400 expected, one line
        return report.model_copy(update={"status": JobState.FAILED, "error": text, "message": text})
    return report


def _delete_granted(job: Job, services: Services) -> None:
    try:
        delete_granted_objects(job.job_id, services.bucket)
    except StoreError as error:
        logger.warning("Objects that a rented machine left of %s were not deleted: %s", job.job_id, error)
