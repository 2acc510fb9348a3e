"""GET /api/jobs/{id}/events: a job's progress as server-sent events."""

import json
import logging
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import Depends, Header, HTTPException, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from deployments.api.concurrency import NoPlace, Places
from deployments.api.dependencies import Given, Parts
from deployments.api.guards import client_of, sees_job
from deployments.api.models import BUSY, NO_JOB, NO_KEY, NO_STORE, JobIdInPath, refusals
from deployments.api.routing import Router
from infra.errors import StateError
from infra.jobs.record import Job
from infra.states import JobState

PING_SECONDS = 15
STALLED_SECONDS = 30
"""How long a client may read nothing before its stream is closed; it can resume."""
AGAIN_SECONDS = 10
TOO_MANY = (429, "too many event streams; close one, or ask for the job instead")
_EVENT_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")
_EVENT = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "description": "Send it back as Last-Event-ID to resume."},
        "event": {"enum": ["progress", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "status, stage, progress, message, error and attempt, as in the job.",
        },
    },
}
_FIELDS = ("status", "stage", "progress", "message", "error", "attempt")

logger = logging.getLogger(__name__)
router = Router(dependencies=[Depends(sees_job)])


@router.get(
    "/api/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    summary="Follow a job",
    responses=refusals(NO_KEY, NO_JOB, TOO_MANY, NO_STORE, BUSY)
    | {
        200: {
            "description": "The first event is the current state; `end` is the last.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        }
    },
)
async def follow_job(
    request: Request,
    job_id: JobIdInPath,
    parts: Given,
    last_event_id: Annotated[str | None, Header(description="Resumes after this event.")] = None,
) -> Response:
    job = await run_in_threadpool(parts.job, job_id)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    resumed = last_event_id if last_event_id and _EVENT_ID.fullmatch(last_event_id) else None
    return _EventStream(_events(parts, job.job_id, resumed), parts.event_streams, client_of(request))


class _EventStream(EventSourceResponse):
    """An event stream that occupies one of its client's places."""

    def __init__(self, events: AsyncGenerator[ServerSentEvent], places: Places, client: str) -> None:
        super().__init__(events, ping=PING_SECONDS, sep="\n", send_timeout=STALLED_SECONDS)
        self._places, self._client = places, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._places.taken(self._client):
                await super().__call__(scope, receive, send)
        except NoPlace as full:
            raise HTTPException(*(TOO_MANY if full.own else BUSY), {"Retry-After": str(AGAIN_SECONDS)}) from None


async def _events(parts: Parts, job_id: str, resumed: str | None) -> AsyncGenerator[ServerSentEvent]:
    """The current job or the missed events, then new events until the job ends.

    If Redis goes away the stream ends; the client reconnects and resumes after its last id.
    """
    try:
        # The id is read before the job: a change in between is sent twice rather than never.
        newest = await run_in_threadpool(parts.events.last_id, job_id)
        job = await run_in_threadpool(parts.jobs.get, job_id)
        if job is None:
            return
        if resumed is None:
            yield _event("progress", newest, _of_job(job))
        if job.has_ended and (resumed is None or _number(resumed) >= _number(newest)):
            yield _event("end", newest, _of_job(job))
            return
        async for event in _following(parts, job, newest if resumed is None else resumed):
            yield event
    except StateError as error:
        logger.warning("The events of %s ended early: %s", job_id, error)


async def _following(parts: Parts, job: Job, after: str) -> AsyncGenerator[ServerSentEvent]:
    """Events after an id; if another attempt follows one that ended, the job has not ended."""
    while True:
        ended = False
        async for event_id, fields in parts.events.follow(job.job_id, after):
            after = event_id
            ended = fields["status"] in (JobState.SUCCEEDED, JobState.FAILED)
            yield _event("progress", event_id, _of_event(fields))
        now = await run_in_threadpool(parts.jobs.get, job.job_id)
        if not ended or now is None or now.has_ended:
            if ended and now is not None:
                yield _event("end", after, _of_job(now))
            return


def _event(kind: str, event_id: str, data: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False), event=kind, id=event_id, sep="\n")


def _of_job(job: Job) -> dict[str, Any]:
    return job.model_dump(mode="json", include=set(_FIELDS))


def _of_event(fields: dict[str, str]) -> dict[str, Any]:
    return {name: fields[name] for name in ("status", "stage", "message")} | {
        "progress": float(fields["progress"]),
        "error": fields["error"] or None,
        "attempt": int(fields["attempt"]),
    }


def _number(event_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in event_id.split("-"))
