"""A job after it was created: how it stands, started again, cancelled, and the list of the recent ones."""

import logging
from http import HTTPStatus
from typing import Annotated

from anyio import to_thread
from fastapi import Depends, HTTPException, Query

from deployments.api.create import submit_run
from deployments.api.documents import Failure
from deployments.api.guards import needs_key, needs_operator
from deployments.api.models import (
    FOREIGN,
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
from deployments.api.parts import Given, Parts
from deployments.api.routing import Router
from infra.errors import JobConflict, SubmitError
from infra.jobs import Report
from infra.states import JobState

NO_RUN = (409, "nosana run id missing")
ENDED = (409, "job has ended")
NOT_STOPPED = (502, "run could not be stopped")

logger = logging.getLogger(__name__)
router = Router()


@router.get(
    "/api/jobs",
    dependencies=[Depends(needs_operator)],
    response_model=JobList,
    summary="Recent jobs, for the operator",
    responses=refusals((400, "limit: input should be less than or equal to 100"), (404, "not found"), NO_STORE),
    openapi_extra={
        "parameters": [
            {"name": "x-operator-key", "in": "header", "schema": {"type": "string"}, "description": "OPERATOR_KEY."}
        ]
    },
)
def list_jobs(parts: Given, limit: Annotated[int, Query(ge=1, le=100)] = 20) -> JobList:
    return JobList(jobs=[JobLine.of(job) for job in parts.jobs.recent(limit)])


@router.get(
    "/api/jobs/{job_id}", response_model=JobView, summary="A job as it stands", responses=refusals(NO_JOB, NO_STORE)
)
def read_job(job_id: JobIdInPath, parts: Given) -> JobView:
    job = parts.job(job_id)
    failure = parts.documents.failure(job) if job.status is JobState.FAILED else Failure()
    told = {"error_code": failure.code, "next_step": failure.next_step}
    return JobView.model_validate(job.model_dump() | told)


@router.post(
    "/api/jobs/{job_id}/start",
    dependencies=[Depends(needs_key)],
    response_model=Started,
    response_model_exclude_none=True,
    summary="Start a failed job again, as a new attempt",
    responses=refusals(NO_KEY, FOREIGN, NO_JOB, NO_RUN, NO_STORE),
)
async def start_job(job_id: JobIdInPath, parts: Given) -> Started:
    return await to_thread.run_sync(_start, job_id, parts, limiter=parts.run_changes)


@router.post(
    "/api/jobs/{job_id}/cancel",
    dependencies=[Depends(needs_key)],
    response_model=Ok,
    summary="Stop a job",
    responses=refusals(NO_KEY, FOREIGN, NO_JOB, ENDED, NOT_STOPPED, NO_STORE),
)
async def cancel_job(job_id: JobIdInPath, parts: Given) -> Ok:
    """The run is stopped first: if it cannot be, the job goes on and can be cancelled again."""
    return await to_thread.run_sync(_cancel, job_id, parts, limiter=parts.run_changes)


def _start(job_id: str, parts: Parts) -> Started:
    job = parts.job(job_id)
    if job.status in (JobState.RUNNING, JobState.SUCCEEDED):
        return Started(ok=True)
    if job.nosana_run_id is None:
        raise HTTPException(*NO_RUN)
    if job.status is JobState.QUEUED:
        return Started(ok=True)
    try:
        submit_run(job_id, parts.jobs.reopen(job_id, after=job.attempt), job.request, parts)
    except (JobConflict, SubmitError) as error:
        if parts.job(job_id).status is JobState.FAILED:
            return Started(ok=False, start_error=str(error))
    return Started(ok=True)


def _cancel(job_id: str, parts: Parts) -> Ok:
    job = parts.job(job_id)
    if job.has_ended:
        raise HTTPException(*ENDED)
    try:
        if job.flow_run_id:
            parts.submitter.cancel(job.flow_run_id)
    except SubmitError as error:
        logger.warning("The run of %s could not be stopped: %s", job_id, error)
        raise HTTPException(*NOT_STOPPED) from None
    said = Report(job_id=job_id, attempt=job.attempt, status=JobState.FAILED, error="Cancelled.", message="Cancelled.")
    if not parts.jobs.report(said) and parts.job(job_id).status is JobState.SUCCEEDED:
        raise HTTPException(HTTPStatus.CONFLICT, ENDED[1])
    return Ok()
