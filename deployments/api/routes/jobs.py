"""Reads, restarts, cancels and deletes a job, and lists recent jobs."""

import contextlib
import logging
from typing import Annotated

import anyio
from anyio import to_thread
from fastapi import Depends, HTTPException, Query

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import Caller, ReadCaller, WriteCaller, require_key, visible_job
from deployments.api.job_documents import Failure
from deployments.api.logs import audit
from deployments.api.models import (
    FOREIGN,
    NO_BUCKET,
    NO_JOB,
    NO_KEY,
    NO_STORE,
    JobIdInPath,
    JobLine,
    JobList,
    JobView,
    Ok,
    Started,
    refusals,
)
from deployments.api.routes.create import submit_run
from deployments.api.routes.revisions import published_revision
from deployments.api.routing import Router
from infra.errors import JobConflict, RunNotStopped, SubmitError
from infra.jobs.ids import JOB_ID
from infra.jobs.record import Job
from infra.states import JobState
from tasks.deletion import delete_job as delete_everything

NO_RUN = (409, "nosana run id missing")
ENDED = (409, "job has ended")
NOT_ENDED = (409, "job has not ended; cancel it first")
STILL_STOPPING = (409, "run is still stopping; try again in a few seconds")
NOT_STOPPED = (502, "run could not be stopped")
STOP_SECONDS, STOP_POLL_SECONDS = 10.0, 0.5
"""How long a deletion waits for the run of a cancelled job to stop, and how often it looks."""
CANCEL_ATTEMPTS = 3
"""If a job gets its next attempt while it is being cancelled, that attempt is cancelled too."""

logger = logging.getLogger(__name__)
router = Router()


@router.get(
    "/api/jobs",
    dependencies=[Depends(require_key)],
    response_model=JobList,
    summary="List recent jobs: all with the operator's key, its own with an API key",
    responses=refusals((400, "limit: input should be less than or equal to 100"), NO_KEY, (404, "not found"), NO_STORE),
    openapi_extra={
        "parameters": [
            {"name": "x-operator-key", "in": "header", "schema": {"type": "string"}, "description": "OPERATOR_KEY."},
            {"name": "x-api-key", "in": "header", "schema": {"type": "string"}, "description": "One of API_KEYS."},
        ]
    },
)
def list_jobs(caller: ReadCaller, services: ServicesDep, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> JobList:
    owner = None if caller.is_operator else caller.key
    return JobList(jobs=[JobLine.of(job) for job in services.jobs.recent(limit, owner)])


@router.get(
    "/api/jobs/{job_id}",
    response_model=JobView,
    summary="Read a job",
    responses=refusals(NO_KEY, NO_JOB, NO_STORE),
)
def read_job(job_id: JobIdInPath, caller: ReadCaller, services: ServicesDep) -> JobView:
    job = visible_job(caller, job_id, services)
    may_have_error = job.status is JobState.FAILED and not job.is_cancelled
    failure = services.documents.failure(job) if may_have_error else Failure()
    details = {"error_code": failure.code, "next_step": failure.next_step, "cancelled": job.is_cancelled}
    revision = {"revision": published_revision(job, services)}
    return JobView.model_validate(job.model_dump() | details | revision)


@router.post(
    "/api/jobs/{job_id}/start",
    response_model=Started,
    response_model_exclude_none=True,
    summary="Restart a failed job as a new attempt",
    responses=refusals(NO_KEY, FOREIGN, NO_JOB, NO_RUN, NO_STORE),
)
async def start_job(job_id: JobIdInPath, caller: WriteCaller, services: ServicesDep) -> Started:
    return await to_thread.run_sync(_start, job_id, caller, services, limiter=services.run_changes)


@router.post(
    "/api/jobs/{job_id}/cancel",
    response_model=Ok,
    summary="Cancel a job",
    responses=refusals(NO_KEY, FOREIGN, NO_JOB, ENDED, NOT_STOPPED, NO_STORE),
)
async def cancel_job(job_id: JobIdInPath, caller: WriteCaller, services: ServicesDep) -> Ok:
    """The run is stopped first. If that fails, the job continues and can be cancelled later."""
    return await to_thread.run_sync(_cancel, job_id, caller, services, limiter=services.run_changes)


@router.delete(
    "/api/jobs/{job_id}",
    response_model=Ok,
    summary="Delete a job that has ended, with its clips",
    responses=refusals(NO_KEY, FOREIGN, NO_JOB, NOT_ENDED, STILL_STOPPING, NO_BUCKET, NO_STORE),
)
async def delete_job(job_id: JobIdInPath, caller: WriteCaller, services: ServicesDep) -> Ok:
    """Deletes the record, all objects, and what only this job used of the shared cache.

    After a 502 the job is gone, but objects are left; the same request deletes them.
    """
    for _ in range(round(STOP_SECONDS / STOP_POLL_SECONDS)):
        try:
            return await to_thread.run_sync(_delete, job_id, caller, services, limiter=services.run_changes)
        except RunNotStopped:
            await anyio.sleep(STOP_POLL_SECONDS)
    raise HTTPException(*STILL_STOPPING)


def _start(job_id: str, caller: Caller, services: Services) -> Started:
    job = visible_job(caller, job_id, services)
    if job.status in (JobState.RUNNING, JobState.SUCCEEDED) or (job.flow_run_id and not job.has_ended):
        return Started(ok=True)
    if job.nosana_run_id is None and not job.had_run:
        raise HTTPException(*NO_RUN)
    result = Started(ok=True)
    try:
        attempt = services.jobs.reopen(job_id, after=job.attempt) if job.has_ended else job.attempt
        submit_run(job, attempt, services)
    except (JobConflict, SubmitError) as error:
        if services.job(job_id).status is JobState.FAILED:
            result = Started(ok=False, start_error=str(error))
    audit("start", job_id, key=caller.name, client=caller.address, ok=result.ok)
    return result


def _delete(job_id: str, caller: Caller, services: Services) -> Ok:
    _check_may_delete(caller, job_id, services)
    try:
        delete_everything(job_id, services.jobs, services.bucket)
    except RunNotStopped:
        raise
    except JobConflict:
        raise HTTPException(*NOT_ENDED) from None
    services.documents.forget(job_id)
    audit("delete", job_id, key=caller.name, client=caller.address)
    return Ok()


def _check_may_delete(caller: Caller, job_id: str, services: Services) -> None:
    """Check that the caller may see the job, or its unfinished deletion; otherwise, it is a 404."""
    owner = services.jobs.unfinished_deletions().get(job_id) if JOB_ID.fullmatch(job_id) else None
    if owner is None:
        visible_job(caller, job_id, services)
    elif not caller.can_see_jobs_of(owner):
        raise HTTPException(*NO_JOB)


def _cancel(job_id: str, caller: Caller, services: Services) -> Ok:
    for _ in range(CANCEL_ATTEMPTS):
        job = visible_job(caller, job_id, services)
        if job.has_ended:
            break
        _stop(job.flow_run_id, job_id, services)
        if services.jobs.cancel(job_id, job.attempt):
            _stop_newer(job, services)
            audit("cancel", job_id, key=caller.name, client=caller.address)
            return Ok()
    raise HTTPException(*ENDED)


def _stop(run_id: str | None, job_id: str, services: Services) -> None:
    """Stop a run, if there is one.

    Raises:
        HTTPException: 502 if the run could not be stopped.
    """
    try:
        if run_id:
            services.submitter.cancel(run_id)
    except SubmitError as error:
        logger.warning("The run of %s could not be stopped: %s", job_id, error)
        raise HTTPException(*NOT_STOPPED) from None


def _stop_newer(cancelled: Job, services: Services) -> None:
    """Stop a run that the attempt got while it was being cancelled. A failure is harmless: that run cannot start it."""
    job = services.job(cancelled.job_id)
    if job.attempt == cancelled.attempt and job.flow_run_id != cancelled.flow_run_id:
        with contextlib.suppress(HTTPException):
            _stop(job.flow_run_id, job.job_id, services)
