"""Changes a job's edit document: PUT and PATCH start a recut, which makes the next revision of the clips."""

import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Any, cast

from anyio import to_thread
from fastapi import APIRouter, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import Caller, WriteCaller, read_json, visible_job
from deployments.api.logs import audit
from deployments.api.models import (
    FOREIGN,
    NO_BUCKET,
    NO_DOCUMENT,
    NO_JOB,
    NO_KEY,
    NO_STORE,
    NOT_COMPLETED,
    TOO_LARGE,
    TOO_SLOW,
    Faults,
    JobIdInPath,
    NewerRevisionFound,
    RecutBegun,
    WrongDocument,
    body_of,
    refusals,
)
from deployments.api.routes.create import check_rate
from deployments.api.routes.revisions import editable_source, published_revision
from infra.errors import JobConflict, NewerRevision, StoreError, SubmitError
from infra.jobs.record import Job
from infra.states import JobState
from tasks.core.edit.document import EditClip, EditDocument
from tasks.core.edit.faults import faults
from tasks.core.edit.revisions import merged
from tasks.core.object_keys import job_key, revision_folder
from tasks.core.plurals import pluralize

NO_REVISION_NAMED = (428, "if-match is required; send the ETag of the document that you have changed")
BEING_RECUT = (409, "job is being recut; try again when that has ended")
NO_CLIP_ID = (404, "document has no such clip")
NOT_STARTED = (502, "The Prefect server did not answer (ConnectError).")
_TAG = re.compile(r'"([0-9]{1,7})"')
_REFUSALS = refusals(
    *(NO_KEY, FOREIGN, NO_JOB, NO_DOCUMENT, TOO_SLOW, NOT_COMPLETED, BEING_RECUT, TOO_LARGE, NO_REVISION_NAMED),
    *((429, "too many jobs; try again in 20 seconds"), NO_BUCKET, NOT_STARTED, NO_STORE),
) | {
    412: {"model": NewerRevisionFound, "description": "If-Match does not name the published revision."},
    422: {"model": WrongDocument, "description": "The document is wrong; nothing was changed."},
}
IfMatch = Annotated[str | None, Header(description="The ETag of the document that was changed.", examples=['"1"'])]
Change = Callable[[EditDocument], object]
"""Makes the new document from the published one."""

logger = logging.getLogger(__name__)
router = APIRouter()


@router.put(
    "/api/jobs/{job_id}/edit",
    status_code=202,
    response_model=RecutBegun,
    summary="Change the edit document, and get the clips that it changes drawn again",
    responses=_REFUSALS,
    openapi_extra=body_of(EditDocument),
)
async def put_edit(
    request: Request, job_id: JobIdInPath, caller: WriteCaller, services: ServicesDep, if_match: IfMatch = None
) -> Response:
    """The job stays SUCCEEDED, and its clips stay as they are until the new revision is published as a whole."""
    content = await read_json(request)
    return await _change(job_id, if_match, lambda _: content, caller, services)


@router.patch(
    "/api/jobs/{job_id}/edit/clips/{clip_id}",
    status_code=202,
    response_model=RecutBegun,
    summary="Change one clip of the edit document by a JSON merge patch (RFC 7396)",
    responses=_REFUSALS | refusals(NO_JOB, NO_DOCUMENT, NO_CLIP_ID),
    openapi_extra=body_of(EditClip),
)
async def patch_clip(
    request: Request,
    job_id: JobIdInPath,
    clip_id: str,
    caller: WriteCaller,
    services: ServicesDep,
    if_match: IfMatch = None,
) -> Response:
    patch = await read_json(request)
    return await _change(job_id, if_match, lambda document: _patched(document, clip_id, patch), caller, services)


def _patched(document: EditDocument, clip_id: str, patch: object) -> object:
    content = document.model_dump(mode="json")
    places = [place for place, clip in enumerate(document.clips) if clip.id == clip_id]
    if not places:
        raise HTTPException(*NO_CLIP_ID)
    content["clips"][places[0]] = merged(content["clips"][places[0]], patch)
    return content


async def _change(job_id: str, if_match: str | None, change: Change, caller: Caller, services: Services) -> Response:
    return await to_thread.run_sync(_recut, job_id, if_match, change, caller, services, limiter=services.run_changes)


def _recut(job_id: str, if_match: str | None, change: Change, caller: Caller, services: Services) -> Response:
    job = visible_job(caller, job_id, services)
    if if_match is None:
        raise HTTPException(*NO_REVISION_NAMED)
    base, source = editable_source(job, services)
    number = base.document.revision
    if _revision_in(if_match) != number:
        return _newer(number)
    if job.recut and not job.recut.has_ended:
        raise HTTPException(*BEING_RECUT)
    content = change(base.document)
    if found := faults(content, source.facts):
        wrong = WrongDocument(
            detail=f"the document has {pluralize(len(found), 'fault')}", errors=Faults.of(found).errors
        )
        return JSONResponse(wrong.model_dump(), HTTPStatus.UNPROCESSABLE_ENTITY)
    check_rate(f"recut {caller.quota_owner}", services)
    try:
        revision = services.jobs.recuts.begin(job_id, number)
    except NewerRevision:
        return _newer(published_revision(services.job(job_id), services) or 1)
    except JobConflict:
        services.job(job_id)
        raise HTTPException(*BEING_RECUT) from None
    _start(job, revision, cast("dict[str, Any]", content), services)
    audit("recut", job_id, key=caller.name, client=caller.address, revision=revision)
    return JSONResponse(RecutBegun(job_id=job_id, revision=revision).model_dump(mode="json"), HTTPStatus.ACCEPTED)


def _start(job: Job, revision: int, content: dict[str, Any], services: Services) -> None:
    """Store the document, then submit the recut's run.

    Raises:
        HTTPException: 502 if that failed; the recut is FAILED.
    """
    key = job_key(job.job_id, f"{revision_folder(revision)}edit.json")
    document = EditDocument.model_validate(content).model_copy(update={"revision": revision})
    try:
        services.bucket.put_json(key, document)
        run_id = services.submitter.submit_recut(job.job_id, revision, 1, is_rented=job.is_rented)
    except (StoreError, SubmitError) as error:
        services.jobs.recuts.end(job.job_id, revision, 1, JobState.FAILED, str(error))
        if isinstance(error, StoreError):
            raise
        raise HTTPException(HTTPStatus.BAD_GATEWAY, str(error)) from None
    if not services.jobs.recuts.set_run(job.job_id, revision, 1, run_id):
        logger.info("The recut of %s was over before its run was recorded", job.job_id)


def _newer(revision: int) -> Response:
    found = NewerRevisionFound(
        detail=f"the published revision is {revision}; read it and change that", revision=revision
    )
    return JSONResponse(found.model_dump(), HTTPStatus.PRECONDITION_FAILED, {"ETag": f'"{revision}"'})


def _revision_in(if_match: str) -> int | None:
    """The revision that an If-Match header names, or None."""
    found = _TAG.fullmatch(if_match.strip())
    return int(found[1]) if found else None
