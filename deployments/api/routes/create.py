"""POST /api/jobs: creates a job from a request and submits its run."""

import logging
from http import HTTPStatus
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Header, HTTPException, Request

from deployments.api.dependencies import Given, Parts
from deployments.api.guards import Body, Caller, Changing
from deployments.api.job_request import JobRequest, read_request, unknown_fields
from deployments.api.logs import audit
from deployments.api.models import (
    FOREIGN,
    NO_KEY,
    NO_STORE,
    TOO_LARGE,
    TOO_SLOW,
    Created,
    body_of,
    refusals,
)
from infra.errors import SubmitError, TooManyQueued
from infra.jobs.ids import new_job_id
from infra.jobs.record import Job, Requester
from infra.states import JobState
from tasks.core.object_keys import digest
from tasks.core.plurals import pluralize

QUEUED_AGAIN_SECONDS = 60
ALL_QUEUED = (429, "too many jobs are waiting; try again when some of them have started")
OWN_QUEUED = (429, "too many of your jobs are waiting; try again when some of them have started")
KEY_USED = (409, "idempotency key was used for another request")

logger = logging.getLogger(__name__)
router = APIRouter()


@router.post(
    "/api/jobs",
    response_model_exclude_none=True,
    summary="Create a job that cuts clips from a video",
    responses=refusals(
        (400, "video_url is required"),
        (400, "video_url must be a valid URL"),
        (400, "clip_duration_seconds is required"),
        (400, "clip_duration_seconds must be between 30 and 60"),
        (400, "clip_count is required"),
        (400, "clip_count must be between 1 and 5"),
        (400, "language must be en, id, or auto"),
        NO_KEY,
        FOREIGN,
        TOO_SLOW,
        KEY_USED,
        TOO_LARGE,
        (429, "too many jobs; try again in 20 seconds"),
        ALL_QUEUED,
        OWN_QUEUED,
        (502, "The Prefect server did not answer (ConnectError)."),
        NO_STORE,
    ),
    openapi_extra=body_of(JobRequest),
)
async def create_job(
    request: Request,
    caller: Changing,
    body: Body,
    parts: Given,
    idempotency_key: Annotated[
        str | None, Header(description="For a day, the same key and body get the same job.")
    ] = None,
) -> Created:
    asked = read_request(body)
    made = await to_thread.run_sync(_created, request, caller, asked, idempotency_key, parts, limiter=parts.run_changes)
    return made.model_copy(update={"warnings": unknown_fields(body) or None})


def _created(request: Request, caller: Caller, asked: JobRequest, key: str | None, parts: Parts) -> Created:
    own_key = f"{caller.key} {key}" if key and caller.key else key or ""
    job_id = _job_id_for(asked, own_key, parts)
    request.state.job_id = job_id
    earlier = parts.jobs.get(job_id) if key else None
    try:
        if earlier is None:
            _count(caller.counted, parts)
        is_new = earlier is None and _recorded(job_id, asked, caller, own_key, parts)
    except HTTPException:  # refused: the key may be used for another request
        if own_key:
            parts.idempotency.release(own_key, job_id)
        raise
    if earlier is None or _is_without_run(earlier):  # a repeated request shares one run
        try:
            _submit_first(job_id, asked, parts)
        except SubmitError as error:
            raise HTTPException(HTTPStatus.BAD_GATEWAY, str(error)) from None
    if is_new:
        audit("create", job_id, key=caller.name, client=caller.address)
    return Created(job_id=job_id)


def _recorded(job_id: str, asked: JobRequest, caller: Caller, key: str, parts: Parts) -> bool:
    bounds = parts.settings.max_queued, parts.settings.max_queued_per_key
    requester = Requester(
        owner=caller.key,
        client=caller.counted,
        idempotency_key=key,
        max_queued=bounds[0],
        max_queued_per_client=bounds[1],
    )
    try:
        return parts.jobs.create(job_id, asked.model_dump_json(), requester)
    except TooManyQueued as full:
        said = OWN_QUEUED if full.own else ALL_QUEUED
        raise HTTPException(*said, {"Retry-After": str(QUEUED_AGAIN_SECONDS)}) from None


def _submit_first(job_id: str, asked: JobRequest, parts: Parts) -> None:
    """Start the run of a new job.

    Raises:
        SubmitError: it could not be started, and the job is discarded. If the server created the run after all, the
            run finds no job and ends.
    """
    try:
        run_id = parts.submitter.submit(job_id, 1, asked.model_dump())
    except SubmitError:
        if parts.jobs.discard(job_id) or parts.jobs.get(job_id) is None:
            raise
        return  # its run exists: it has begun, or a concurrent request recorded it
    _give(run_id, job_id, 1, parts)
    if parts.jobs.get(job_id) is None:
        raise SubmitError("The run could not be started; ask again.")


def submit_run(job: Job, attempt: int, parts: Parts) -> None:
    """Start an attempt's run in the deployment of the job's previous run; `job` is the record before the attempt.

    Raises:
        SubmitError: it could not be started; the attempt is FAILED, with the reason, and no run can open it.
    """
    try:
        run_id = parts.submitter.submit(job.job_id, attempt, job.request, job.flow_run_id or job.earlier_run_id)
    except SubmitError as error:
        if parts.jobs.start_failed(job.job_id, attempt, str(error)):
            raise
        return
    _give(run_id, job.job_id, attempt, parts)


def _give(run_id: str, job_id: str, attempt: int, parts: Parts) -> None:
    """Record the attempt's run, or stop it if it is no longer wanted."""
    if parts.jobs.set_run(job_id, attempt, run_id):
        return
    try:
        parts.submitter.cancel(run_id)
    except SubmitError as error:  # stopped or not, it cannot open its attempt
        logger.warning("The run of %s was not stopped from here: %s", job_id, error)


def _is_without_run(job: Job) -> bool:
    return job.status is JobState.QUEUED and job.flow_run_id is None


def _job_id_for(asked: JobRequest, key: str, parts: Parts) -> str:
    """A new id, or the id of the job with this idempotency key."""
    if not key:
        return new_job_id()
    reserved = parts.idempotency.reserve(key, digest(asked.model_dump()), new_job_id())
    if not reserved.is_same_request:
        raise HTTPException(*KEY_USED)
    return reserved.job_id


def _count(client: str, parts: Parts) -> None:
    """Count a request that would create a job against the client's rate limit; others are not counted."""
    per_minute = parts.settings.create_rate_per_minute
    if per_minute and (wait := parts.rate_limit.wait_seconds(client, per_minute)):
        raise too_many(wait)


def too_many(wait: int) -> HTTPException:
    """The refusal of a client that may create a job again in `wait` seconds."""
    said = f"too many jobs; try again in {pluralize(wait, 'second')}"
    return HTTPException(HTTPStatus.TOO_MANY_REQUESTS, said, {"Retry-After": str(wait)})
