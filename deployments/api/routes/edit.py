"""Reads and checks a job's edit document, and serves what an editor shows: the words and the source."""

from typing import Annotated, Any

from anyio import to_thread
from fastapi import Depends, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import read_json, require_visible_job
from deployments.api.models import (
    FOREIGN,
    NO_BUCKET,
    NO_DOCUMENT,
    NO_JOB,
    NO_KEY,
    NO_REVISION,
    NO_STORE,
    NOT_COMPLETED,
    TOO_LARGE,
    TOO_SLOW,
    Camera,
    ClipCamera,
    Faults,
    JobIdInPath,
    Words,
    WordView,
    body_of,
    refusals,
)
from deployments.api.routes.clips import DOWNLOAD_SECONDS
from deployments.api.routes.revisions import BAD_REVISION, RevisionInQuery, editable_source, readable_revision
from deployments.api.routing import Router
from tasks.core.edit.document import EditDocument
from tasks.core.edit.faults import faults
from tasks.core.edit.words import words_between
from tasks.revisions import find_media, read_camera

MOST_WORDS = 20_000
"""Words in one answer: two hours of quick speech."""
NO_SOURCE = (404, "source is no longer in the bucket")
_REFUSALS = (NO_KEY, NO_JOB, NO_DOCUMENT, NOT_COMPLETED, NO_BUCKET, NO_STORE)
_BAD_NUMBER = (400, "start: input should be greater than or equal to 0")
_DOCUMENT = {"content": {"application/json": {"schema": EditDocument.model_json_schema()}}}

router = Router(dependencies=[Depends(require_visible_job)])


@router.get(
    "/api/jobs/{job_id}/edit",
    response_class=JSONResponse,
    summary="The edit document of the published clips",
    responses=refusals(*_REFUSALS, NO_REVISION, BAD_REVISION)
    | {200: {"description": "The document.", "headers": {"ETag": {"schema": {"type": "string"}}}}},
)
def read_edit(job_id: JobIdInPath, services: ServicesDep, revision: RevisionInQuery = None) -> Response:
    """Its ETag is the number of its revision: send it as If-Match with a change."""
    document = readable_revision(services.job(job_id), services, revision).document
    return JSONResponse(document.model_dump(mode="json"), headers={"ETag": etag(document.revision)})


@router.post(
    "/api/jobs/{job_id}/edit/check",
    response_model=Faults,
    summary="Everything that is wrong with an edit document; changes nothing",
    responses=refusals(*_REFUSALS, FOREIGN, TOO_LARGE, TOO_SLOW),
    openapi_extra=body_of(EditDocument),
)
async def check_edit(request: Request, job_id: JobIdInPath, services: ServicesDep) -> Faults:
    content = await read_json(request)
    return await to_thread.run_sync(_check, job_id, content, services, limiter=services.edit_checks)


@router.get(
    "/api/jobs/{job_id}/words",
    response_model=Words,
    summary="The words of the source, which a document names by their place",
    responses=refusals(*_REFUSALS, _BAD_NUMBER),
)
def read_words(
    job_id: JobIdInPath,
    services: ServicesDep,
    start: Annotated[float, Query(ge=0, allow_inf_nan=False, description="Seconds.")] = 0.0,
    end: Annotated[float | None, Query(ge=0, allow_inf_nan=False, description="Seconds.")] = None,
) -> Words:
    _, source = editable_source(services.job(job_id), services)
    first, found = words_between(source.facts.words, start, source.facts.end if end is None else end)
    return Words(
        first=first,
        language=source.speech.language,
        duration=source.info.duration,
        words=[
            WordView(start=word.start, end=word.end, text=word.word, speaker=word.speaker)
            for word in found[:MOST_WORDS]
        ],
    )


@router.get(
    "/api/jobs/{job_id}/camera",
    response_model=Camera,
    summary="What the camera showed in the published clips, where it followed faces",
    responses=refusals(*_REFUSALS),
)
def read_camera_views(job_id: JobIdInPath, services: ServicesDep) -> Camera:
    revision, source = editable_source(services.job(job_id), services)
    views = read_camera(job_id, revision, (source.info.width, source.info.height), services.bucket)
    clips = [ClipCamera(id=clip.id, views=of) for clip, of in zip(revision.document.clips, views, strict=True)]
    return Camera(revision=revision.document.revision, clips=clips)


@router.get(
    "/api/jobs/{job_id}/source",
    status_code=307,
    response_class=RedirectResponse,
    summary="The source video, in the bucket",
    responses=refusals(*_REFUSALS, NO_SOURCE)
    | {307: {"description": "Location is valid for six hours, and answers ranges.", "content": {}}},
)
def read_source(job_id: JobIdInPath, services: ServicesDep) -> Response:
    revision = readable_revision(services.job(job_id), services)
    media = find_media(job_id, revision.document.source.video, services.bucket)
    if media is None:
        raise HTTPException(*NO_SOURCE)
    return RedirectResponse(services.bucket.presign(media.video.key, DOWNLOAD_SECONDS, is_shown=True))


def etag(revision: int) -> str:
    return f'"{revision}"'


def _check(job_id: str, content: Any, services: Services) -> Faults:
    _, source = editable_source(services.job(job_id), services)
    return Faults.of(faults(content, source.facts))
