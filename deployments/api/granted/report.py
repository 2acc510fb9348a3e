"""Reports from rented machines: progress is taken as is, an end is checked first."""

import logging

from anyio import to_thread
from fastapi import HTTPException

from deployments.api.dependencies import Parts
from deployments.api.granted.acceptance import Unacceptable, accept, keep_error, tidy
from infra.errors import StoreError
from infra.granted.session import Session
from infra.jobs.record import Job, Report
from infra.states import JobState

logger = logging.getLogger(__name__)

ENDED = (409, "job has ended otherwise")
BEING_CHECKED = (503, "clips are being checked; ask again")
CHECK_SECONDS = 900
"""Longest check of a job's clips; after that another check may begin."""


def note(report: Report, parts: Parts) -> None:
    parts.job(report.job_id)
    parts.jobs.report(report)


async def take_granted(report: Report, session: Session, parts: Parts) -> None:
    """Take a report for the session's own attempt, whichever attempt it names.

    Raises:
        HTTPException: 409 for an end that was not confirmed, 503 while one is being checked.
    """
    own = report.model_copy(update={"attempt": session.attempt})
    if own.status in (JobState.SUCCEEDED, JobState.FAILED):
        await to_thread.run_sync(_end_once, own, session, parts, limiter=parts.checks)
    else:
        await to_thread.run_sync(note, own, parts)


def _end_once(report: Report, session: Session, parts: Parts) -> None:
    if not parts.sessions.lock(session, "end", CHECK_SECONDS):
        raise HTTPException(*BEING_CHECKED)
    try:
        job = parts.job(report.job_id)
        if not job.has_ended and job.attempt == session.attempt:
            parts.jobs.report(_looked_into(report, job, parts))
            job = parts.job(report.job_id)
        if (job.status, job.attempt) != (report.status, session.attempt):
            raise HTTPException(*ENDED)
        if job.status is JobState.SUCCEEDED:
            _tidy(job, parts)
    finally:
        parts.sessions.unlock(session, "end")


def _looked_into(report: Report, job: Job, parts: Parts) -> Report:
    """The report after the check: a success whose clips are refused becomes a failure."""
    if report.status is JobState.FAILED:
        keep_error(job, parts.bucket)
        return report
    try:
        accept(job, parts.bucket, parts.settings.max_source_seconds)
    except Unacceptable as refused:
        text = f"What the rented machine made was refused: {refused} Start the job again."
        logger.error("Job %s: %s", job.job_id, text)  # noqa: TRY400 expected, one line
        return report.model_copy(update={"status": JobState.FAILED, "error": text, "message": text})
    return report


def _tidy(job: Job, parts: Parts) -> None:
    try:
        tidy(job.job_id, parts.bucket)
    except StoreError as error:
        logger.warning("What a rented machine left of %s was not removed: %s", job.job_id, error)
