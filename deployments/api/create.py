"""POST /api/jobs: what a request must say, in the order in which it is checked, and the job that it becomes."""

import difflib
import json
import logging
import math
from http import HTTPStatus
from typing import Annotated, Any, TypeGuard

from anyio import to_thread
from fastapi import APIRouter, Header, HTTPException, Request
from pydantic import ValidationError

from deployments.api.guards import Body, Caller, Changing
from deployments.api.logs import audit
from deployments.api.models import (
    FOREIGN,
    NO_KEY,
    NO_STORE,
    TOO_LARGE,
    TOO_SLOW,
    Created,
    JobRequest,
    body_of,
    refusals,
)
from deployments.api.parts import Given, Parts
from infra.errors import SubmitError, TooManyQueued
from infra.jobs import Asker, Job, Report, new_job_id
from infra.states import JobState
from tasks.core.keys import digest
from tasks.core.languages import LANGUAGES
from tasks.core.request import ClipRequest
from tasks.core.source_meta import text

SHORTEST, LONGEST = 30, 60
"""Bounds of a clip in seconds here; the flow and the command line allow more."""
MOST_CLIPS = 5
MOST_WARNINGS = 10
QUEUED_AGAIN_SECONDS = 60
ALL_QUEUED = (429, "too many jobs are waiting; try again when some of them have started")
OWN_QUEUED = (429, "too many of your jobs are waiting; try again when some of them have started")
KEY_USED = (409, "idempotency key was used for another request")
_ASKED = {"video_url", "clip_duration_seconds", "clip_count", "language"}

logger = logging.getLogger(__name__)
router = APIRouter()


@router.post(
    "/api/jobs",
    response_model_exclude_none=True,
    summary="Make clips of a video",
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
        str | None, Header(description="With the same key and body, a day long, the same job is answered.")
    ] = None,
) -> Created:
    asked = read_request(body)
    made = await to_thread.run_sync(_created, request, caller, asked, idempotency_key, parts, limiter=parts.run_changes)
    return made.model_copy(update={"warnings": unknown_fields(body) or None})


def unknown_fields(body: dict[str, Any]) -> list[str]:
    """A sentence for each field that nobody reads, with the one that may have been meant."""
    names = [name for name in body if name not in _ASKED]
    told = [_unknown(name) for name in names[:MOST_WARNINGS]]
    more = len(names) - len(told)
    return [*told, f"{more} more unknown fields were ignored."] if more else told


def _unknown(name: str) -> str:
    shown = text(name, 60) or ""
    close = difflib.get_close_matches(shown.lower(), sorted(_ASKED), n=1)
    return f'Unknown field "{shown}" was ignored' + (f"; did you mean {close[0]}?" if close else ".")


def read_request(body: dict[str, Any]) -> dict[str, Any]:
    """The request as the flow takes it.

    A number is what JSON calls one: neither "30" nor true. A count that is not whole is not between 1 and 5,
    and a language of null is a missing one.

    Raises:
        HTTPException: 400 with the first fault.
    """
    url = body.get("video_url")
    if not isinstance(url, str) or not url:
        raise _fault("video_url is required")
    seconds, count, language = body.get("clip_duration_seconds"), body.get("clip_count"), body.get("language")
    if (url := _clean_url(url)) is None:
        raise _fault("video_url must be a valid URL")
    if not _is_number(seconds):
        raise _fault("clip_duration_seconds is required")
    if not SHORTEST <= seconds <= LONGEST:
        raise _fault(f"clip_duration_seconds must be between {SHORTEST} and {LONGEST}")
    if not _is_number(count):
        raise _fault("clip_count is required")
    if not 1 <= count <= MOST_CLIPS or count != math.floor(count):
        raise _fault(f"clip_count must be between 1 and {MOST_CLIPS}")
    language = "auto" if language is None else language
    if not isinstance(language, str) or (language != "auto" and language not in LANGUAGES):
        raise _fault("language must be en, id, or auto")
    return {"video_url": url, "clip_duration_seconds": seconds, "clip_count": int(count), "language": language}


def _created(request: Request, caller: Caller, asked: dict[str, Any], key: str | None, parts: Parts) -> Created:
    claim = f"{caller.key} {key}" if key and caller.key else key or ""
    job_id = _job_id_for(asked, claim, parts)
    request.state.job_id = job_id
    if (earlier := parts.jobs.get(job_id) if key else None) is not None:
        return _answered_before(earlier, parts)
    _count(caller.counted, parts)
    if _recorded(job_id, asked, caller, claim, parts):
        _started(job_id, asked, parts)
        audit("create", job_id, key=caller.name, client=caller.address)
    return Created(job_id=job_id)


def _recorded(job_id: str, asked: dict[str, Any], caller: Caller, claim: str, parts: Parts) -> bool:
    bounds = parts.settings.max_queued, parts.settings.max_queued_per_key
    asker = Asker(
        owner=caller.key,
        client=caller.counted,
        claim=claim,
        most_queued=bounds[0],
        most_queued_of_client=bounds[1],
    )
    try:
        return parts.jobs.create(job_id, json.dumps(asked), asker)
    except TooManyQueued as full:
        said = OWN_QUEUED if full.own else ALL_QUEUED
        raise HTTPException(*said, {"Retry-After": str(QUEUED_AGAIN_SECONDS)}) from None


def submit_run(job_id: str, attempt: int, request: dict[str, Any], parts: Parts) -> None:
    """Start the attempt's run and record it; a job that was ended meanwhile has its run stopped.

    Raises:
        SubmitError: it could not be started; the job is FAILED, and says why.
    """
    try:
        run_id = parts.submitter.submit(job_id, attempt, request)
    except SubmitError as error:
        said = str(error)
        parts.jobs.set_start_error(job_id, said)
        parts.jobs.report(Report(job_id=job_id, attempt=attempt, status=JobState.FAILED, error=said))
        raise
    parts.jobs.set_run(job_id, run_id)
    job = parts.jobs.get(job_id)
    if job is not None and job.attempt == attempt and job.status is JobState.FAILED:
        _stop(run_id, job_id, parts)


def _stop(run_id: str, job_id: str, parts: Parts) -> None:
    """A run that cannot be stopped stops itself: it sees that its job has ended."""
    try:
        parts.submitter.cancel(run_id)
    except SubmitError as error:
        logger.warning("The run of %s was not stopped from here: %s", job_id, error)


def _started(job_id: str, asked: dict[str, Any], parts: Parts) -> None:
    try:
        submit_run(job_id, 1, asked, parts)
    except SubmitError as error:
        raise HTTPException(HTTPStatus.BAD_GATEWAY, str(error)) from None


def _job_id_for(asked: dict[str, Any], key: str, parts: Parts) -> str:
    """A new id, or that of the job which has the idempotency key."""
    if not key:
        return new_job_id()
    claim = parts.jobs.claim(key, digest(asked), new_job_id())
    if not claim.is_same:
        raise HTTPException(*KEY_USED)
    return claim.job_id


def _answered_before(job: Job, parts: Parts) -> Created:
    """The same answer as the first time. A job that was left without a run gets it now: asking twice is one run."""
    if job.start_error and job.nosana_run_id is None:
        raise HTTPException(HTTPStatus.BAD_GATEWAY, job.start_error)
    if job.status is JobState.QUEUED and job.nosana_run_id is None:
        _started(job.job_id, job.request, parts)
    return Created(job_id=job.job_id)


def _count(client: str, parts: Parts) -> None:
    """Only requests that would become a job are counted."""
    per_minute = parts.settings.create_rate_per_minute
    if per_minute and (wait := parts.jobs.allow(client, per_minute)):
        said = f"too many jobs; try again in {wait} seconds"
        raise HTTPException(HTTPStatus.TOO_MANY_REQUESTS, said, {"Retry-After": str(wait)})


def _clean_url(given: str) -> str | None:
    """An http or https URL without white space around it; None where it is none.

    Control characters and spaces within are refused: parsers drop some of them, so that two would read two addresses.
    """
    url = given.strip()
    if not url.isprintable() or " " in url:
        return None
    try:
        return ClipRequest(video_url=url).video_url
    except ValidationError:
        return None


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fault(said: str) -> HTTPException:
    return HTTPException(HTTPStatus.BAD_REQUEST, said)
