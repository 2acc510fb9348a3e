"""POST /api/callback/nosana: a worker's progress report."""

import math
import re
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request

from deployments.api.dependencies import ServicesDep
from deployments.api.guards import BAD_TOKEN, JsonBody, Reporter
from deployments.api.models import (
    FOREIGN,
    NO_JOB,
    NO_STORE,
    TOO_LARGE,
    TOO_SLOW,
    Callback,
    Ok,
    body_of,
    refusals,
)
from deployments.api.rented_machine.report import BEING_CHECKED, ENDED, record_report, take_session_report
from infra.jobs.ids import JOB_ID
from infra.jobs.record import Report
from infra.jobs.reports import ATTEMPT_HEADER
from infra.states import JobState, Stage
from infra.untrusted_text import one_line, several_lines
from tasks.core.object_keys import job_key
from tasks.core.source.addresses import MAX_MESSAGE_CHARS

BAD_ID = (400, "invalid job id")
BAD_STATUS = (400, "invalid status")
BAD_PREFIX = (400, "invalid r2_prefix")
BAD_REVISION = (400, "invalid revision")
FIRST_RECUT, MAX_REVISION = 2, 1_000_000
"""Revisions that a recut may make."""
_NUMBER = re.compile(r"[0-9]{1,9}")

router = APIRouter()


@router.post(
    "/api/callback/nosana",
    summary="Report progress",
    responses=refusals(
        BAD_ID,
        BAD_STATUS,
        BAD_PREFIX,
        BAD_REVISION,
        BAD_TOKEN,
        FOREIGN,
        NO_JOB,
        ENDED,
        BEING_CHECKED,
        TOO_SLOW,
        TOO_LARGE,
        NO_STORE,
    ),
    openapi_extra=body_of(Callback)
    | {
        "parameters": [
            {
                "name": "x-callback-token",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "description": "A token from CALLBACK_TOKEN, or a rented machine's session token.",
            },
            {
                "name": ATTEMPT_HEADER,
                "in": "header",
                "schema": {"type": "integer", "minimum": 1},
                "description": "The reporting attempt, if the body does not name it; by default, the current one.",
            },
        ],
    },
)
async def take_report(request: Request, session: Reporter, body: JsonBody, services: ServicesDep) -> Ok:
    """Reports that are late, repeated or from another attempt get the same response and change nothing.

    A rented machine's success counts once its clips are verified, which takes some seconds.
    """
    report = read_report(body, request.headers.get(ATTEMPT_HEADER))
    request.state.job_id = report.job_id
    if session is None:
        await to_thread.run_sync(record_report, report, services)
    elif session.job_id != report.job_id:
        raise HTTPException(*BAD_TOKEN)
    else:
        await take_session_report(report, session, services)
    return Ok()


def read_report(body: dict[str, Any], attempt_header: str | None = None) -> Report:
    """The report in a body; the header gives the attempt if the body does not.

    Raises:
        HTTPException: 400 for the first invalid field.
    """
    job_id, status, stage = body.get("job_id"), body.get("status"), body.get("stage")
    if not isinstance(job_id, str) or not JOB_ID.fullmatch(job_id):
        raise HTTPException(*BAD_ID)
    if not isinstance(status, str) or status not in JobState.__members__:
        raise HTTPException(*BAD_STATUS)
    if body.get("r2_prefix") not in (None, "", job_key(job_id, ""), job_key(job_id, "").rstrip("/")):
        raise HTTPException(*BAD_PREFIX)
    revision = body.get("revision")
    if revision is not None and (type(revision) is not int or not FIRST_RECUT <= revision <= MAX_REVISION):
        raise HTTPException(*BAD_REVISION)
    is_final = status in (JobState.SUCCEEDED, JobState.FAILED)
    known_stage = Stage(stage) if isinstance(stage, str) and stage in Stage.__members__ else None
    progress = _percent(body.get("progress"))
    return Report(
        job_id=job_id,
        attempt=_attempt(body.get("attempt"), attempt_header),
        status=JobState(status),
        stage=Stage.DONE if is_final and known_stage is None else known_stage,
        progress=100 if is_final and progress is None else progress,
        message=one_line(body.get("message"), MAX_MESSAGE_CHARS),
        error=several_lines(body.get("error"), MAX_MESSAGE_CHARS) or None,
        revision=revision,
    )


def _attempt(in_body: Any, in_header: str | None) -> int | None:
    """The attempt named in the body or else in the header, or None for the current one."""
    if type(in_body) is int:
        return in_body
    return int(in_header) if in_header and _NUMBER.fullmatch(in_header) else None


def _percent(value: Any) -> float | None:
    """A number clamped to 0..100, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return None
    return float(min(max(value, 0), 100))
