"""POST /api/jobs: creates a job and submits its run."""

import json
import logging
from http import HTTPStatus
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, HTTPException, Request

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import Caller, JsonBody, WriteCaller, own_upload
from deployments.api.job_request import TWO_SOURCES, JobRequest, UploadJobRequest, read_request, unknown_fields
from deployments.api.logs import audit
from deployments.api.models import (
    FOREIGN,
    NO_BUCKET,
    NO_KEY,
    NO_STORE,
    NO_UPLOAD,
    TOO_LARGE,
    TOO_SLOW,
    Created,
    body_of,
    refusals,
)
from infra.errors import ObjectMissing, StoreError, SubmitError, TooManyQueued
from infra.jobs.ids import new_job_id
from infra.jobs.record import Job, Requester
from infra.states import JobState
from infra.uploads.records import UploadGone
from infra.uploads.writer import finish
from tasks.core.plurals import pluralize
from tasks.shared_cache import mark_use

QUEUE_RETRY_SECONDS = 60
QUEUE_FULL = (429, "too many jobs are waiting; try again when some have started")
CLIENT_QUEUE_FULL = (429, "too many of your jobs are waiting; try again when some have started")
NO_WEBHOOKS = (400, "webhook_url is not available: the server has no WEBHOOK_SECRET")
UNFINISHED = (409, "upload is not finished; send the rest first")
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
        (400, "start_seconds must be a number of seconds from 0"),
        (400, "end_seconds must be a number of seconds, at least a clip's length after start_seconds"),
        (400, "ratio must be 9:16 or 4:5 or 1:1 or 16:9"),
        (400, "caption_preset must be classic or punch or word or box or label or reveal"),
        (400, "framing must be auto or fit or centre or split or screen"),
        (400, "tighten must be true or false"),
        (400, "topic must be text of at most 200 characters"),
        (400, "webhook_url must be a valid URL"),
        NO_WEBHOOKS,
        TWO_SOURCES,
        (400, "upload must be the id or the address of an upload"),
        NO_KEY,
        FOREIGN,
        NO_UPLOAD,
        TOO_SLOW,
        UNFINISHED,
        KEY_USED,
        TOO_LARGE,
        (429, "too many jobs; try again in 20 seconds"),
        QUEUE_FULL,
        CLIENT_QUEUE_FULL,
        (502, "The Prefect server did not answer (ConnectError)."),
        NO_BUCKET,
        NO_STORE,
    ),
    openapi_extra=body_of(JobRequest, UploadJobRequest),
)
async def create_job(
    request: Request,
    caller: WriteCaller,
    body: JsonBody,
    services: ServicesDep,
    idempotency_key: Annotated[
        str | None, Header(description="Repeating a request with the same key within a day returns the same job.")
    ] = None,
) -> Created:
    job_request = read_request(body)
    if job_request.webhook_url and not services.settings.webhook_secrets:
        raise HTTPException(*NO_WEBHOOKS)
    created = await to_thread.run_sync(
        _create, request, caller, job_request, idempotency_key, services, limiter=services.run_changes
    )
    return created.model_copy(update={"warnings": unknown_fields(body) or None})


def _create(request: Request, caller: Caller, job_request: JobRequest, key: str | None, services: Services) -> Created:
    scoped_key = f"{caller.key} {key}" if key and caller.key else key or ""
    job_id = _job_id_for(job_request, scoped_key, services)
    request.state.job_id = job_id
    earlier = services.jobs.get(job_id) if key else None
    try:
        if earlier is None:
            check_rate(caller.quota_owner, services)
        run_request = earlier.request if earlier else _run_request(job_request, caller, services)
        is_new = earlier is None and _record(job_id, job_request, run_request, caller, scoped_key, services)
    except HTTPException:  # refused: free the key for another request
        if scoped_key:
            services.idempotency.release(scoped_key, job_id)
        raise
    if earlier is None or _is_without_run(earlier):  # repeated requests share one run
        try:
            _submit_first(job_id, run_request, services)
        except SubmitError as error:
            raise HTTPException(HTTPStatus.BAD_GATEWAY, str(error)) from None
    if is_new:
        _keep_source(job_id, run_request, services)
        audit("create", job_id, key=caller.name, client=caller.address)
    return Created(job_id=job_id)


def _run_request(job_request: JobRequest, caller: Caller, services: Services) -> dict[str, Any]:
    """The request that the job's run gets."""
    if not isinstance(job_request, UploadJobRequest):
        return job_request.for_run()
    upload = own_upload(job_request.upload, caller, services)
    if upload.offset < upload.length:
        raise HTTPException(*UNFINISHED)
    try:
        finish(upload.upload_id, services.uploads, services.bucket)
        is_there = services.bucket.exists(upload.key)
    except (UploadGone, ObjectMissing):
        is_there = False
    if not is_there:
        raise HTTPException(*NO_UPLOAD)
    return {"source_key": upload.key, "source_name": upload.name, **job_request.for_run()}


def _keep_source(job_id: str, run_request: dict[str, Any], services: Services) -> None:
    """Keep an uploaded file beyond the upload's expiry, for as long as the job exists."""
    if key := run_request.get("source_key"):
        try:
            mark_use(key, job_id, services.bucket)
        except StoreError as error:  # DOWNLOAD marks it again
            logger.warning("The file of %s could not be marked as used: %s", job_id, error)


def _record(
    job_id: str, job_request: JobRequest, run_request: dict[str, Any], caller: Caller, key: str, services: Services
) -> bool:
    """Create the job's record; False if it exists."""
    requester = Requester(
        owner=caller.key,
        client=caller.quota_owner,
        idempotency_key=key,
        webhook_url=job_request.webhook_url or "",
        max_queued=services.settings.max_queued,
        max_queued_per_client=services.settings.max_queued_per_key,
    )
    try:
        return services.jobs.create(job_id, json.dumps(run_request), requester)
    except TooManyQueued as full:
        refusal = CLIENT_QUEUE_FULL if full.own else QUEUE_FULL
        raise HTTPException(*refusal, {"Retry-After": str(QUEUE_RETRY_SECONDS)}) from None


def _submit_first(job_id: str, run_request: dict[str, Any], services: Services) -> None:
    """Submit the run of a new job.

    Raises:
        SubmitError: the run could not be submitted, and the job is discarded. If the server created the run after
            all, the run finds no job and ends.
    """
    try:
        run_id = services.submitter.submit(job_id, 1, run_request)
    except SubmitError:
        if services.jobs.discard(job_id) or services.jobs.get(job_id) is None:
            raise
        return  # the run exists: it has started, or a concurrent request recorded it
    _assign_run(run_id, job_id, 1, services)
    if services.jobs.get(job_id) is None:
        raise SubmitError("The run could not be started; try again.")


def submit_run(job: Job, attempt: int, services: Services) -> None:
    """Submit an attempt's run to the deployment of the job's previous run; `job` is the record before the attempt.

    Raises:
        SubmitError: the run could not be submitted; the attempt is FAILED with the reason, and no run can start it.
    """
    try:
        run_id = services.submitter.submit(job.job_id, attempt, job.request, job.flow_run_id or job.earlier_run_id)
    except SubmitError as error:
        if services.jobs.start_failed(job.job_id, attempt, str(error)):
            raise
        return
    _assign_run(run_id, job.job_id, attempt, services)


def _assign_run(run_id: str, job_id: str, attempt: int, services: Services) -> None:
    """Record the attempt's run, or cancel the run if the attempt is over."""
    if services.jobs.set_run(job_id, attempt, run_id):
        return
    try:
        services.submitter.cancel(run_id)
    except SubmitError as error:  # harmless: the run cannot start its attempt
        logger.warning("An unwanted run of %s could not be cancelled: %s", job_id, error)


def _is_without_run(job: Job) -> bool:
    return job.status is JobState.QUEUED and job.flow_run_id is None


def _job_id_for(job_request: JobRequest, key: str, services: Services) -> str:
    """A new id, or the id of the job with this idempotency key."""
    if not key:
        return new_job_id()
    reserved = services.idempotency.reserve(key, job_request.fingerprint, new_job_id())
    if not reserved.is_same_request:
        raise HTTPException(*KEY_USED)
    return reserved.job_id


def check_rate(client: str, services: Services) -> None:
    """Count the request against the client's rate limit, which covers only requests that would create a job."""
    per_minute = services.settings.create_rate_per_minute
    if per_minute and (wait := services.rate_limit.wait_seconds(client, per_minute)):
        raise too_many(wait)


def too_many(wait: int) -> HTTPException:
    """The error for a client that may not create a job for another `wait` seconds."""
    detail = f"too many jobs; try again in {pluralize(wait, 'second')}"
    return HTTPException(HTTPStatus.TOO_MANY_REQUESTS, detail, {"Retry-After": str(wait)})
