"""GET /api/jobs/{id}/events: streams a job's progress as server-sent events."""

import json
import logging
import re
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import Depends, Header, HTTPException, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import client_of, require_visible_job
from deployments.api.models import BUSY, NO_JOB, NO_KEY, NO_STORE, JobIdInPath, RecutView, refusals
from deployments.api.routes.revisions import published_revision
from deployments.api.routing import Router
from deployments.api.stream_limits import LimitReached, StreamLimit
from infra.errors import StateError
from infra.jobs.events import is_end
from infra.jobs.record import Job

PING_SECONDS = 15
STALLED_SECONDS = 30
"""How long a client may read nothing before its stream is closed. It can resume."""
RETRY_SECONDS = 10
TOO_MANY_STREAMS = (429, "too many event streams; close one, or poll the job instead")
_EVENT_ID = re.compile(r"[0-9]{1,18}-[0-9]{1,18}")
_EVENT = {
    "type": "object",
    "required": ["id", "event", "data"],
    "properties": {
        "id": {"type": "string", "description": "Send this as Last-Event-ID to resume."},
        "event": {"enum": ["progress", "end"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "status, stage, progress, message, error, attempt, revision and recut of the job.",
        },
    },
}
_FIELDS = ("status", "stage", "progress", "message", "error", "attempt")

logger = logging.getLogger(__name__)
router = Router(dependencies=[Depends(require_visible_job)])


@router.get(
    "/api/jobs/{job_id}/events",
    response_class=EventSourceResponse,
    summary="Follow a job",
    responses=refusals(NO_KEY, NO_JOB, TOO_MANY_STREAMS, NO_STORE, BUSY)
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
    services: ServicesDep,
    last_event_id: Annotated[str | None, Header(description="Resume after this event.")] = None,
) -> Response:
    job = await run_in_threadpool(services.job, job_id)
    if request.method == "HEAD":
        return Response(media_type="text/event-stream")
    resumed = last_event_id if last_event_id and _EVENT_ID.fullmatch(last_event_id) else None
    return _EventStream(_events(services, job.job_id, resumed), services.event_streams, client_of(request))


class _EventStream(EventSourceResponse):
    """An event stream that counts against its client's limit."""

    def __init__(self, events: AsyncGenerator[ServerSentEvent], limit: StreamLimit, client: str) -> None:
        super().__init__(events, ping=PING_SECONDS, sep="\n", send_timeout=STALLED_SECONDS)
        self._limit, self._client = limit, client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            with self._limit.slot(self._client):
                await super().__call__(scope, receive, send)
        except LimitReached as error:
            refusal = TOO_MANY_STREAMS if error.by_client else BUSY
            raise HTTPException(*refusal, {"Retry-After": str(RETRY_SECONDS)}) from None


async def _events(services: Services, job_id: str, resumed: str | None) -> AsyncGenerator[ServerSentEvent]:
    """The current state or the missed events, then new events until the job ends.

    If Redis does not answer, the stream ends; the client reconnects and resumes after its last id.
    """
    try:
        # Read the id before the job, so that a change in between is sent twice rather than never.
        newest = await run_in_threadpool(services.events.last_id, job_id)
        job = await run_in_threadpool(services.jobs.get, job_id)
        if job is None:
            return
        if resumed is None:
            yield _event("progress", newest, await run_in_threadpool(_job_data, job, services))
        if job.is_settled and (resumed is None or _number(resumed) >= _number(newest)):
            yield _event("end", newest, await run_in_threadpool(_job_data, job, services))
            return
        async for event in _following(services, job, newest if resumed is None else resumed):
            yield event
    except StateError as error:
        logger.warning("The events of %s ended early: %s", job_id, error)


async def _following(services: Services, job: Job, after: str) -> AsyncGenerator[ServerSentEvent]:
    """Events after an id. The job has not ended while another attempt follows."""
    while True:
        ended = False
        async for event_id, fields in services.events.follow(job.job_id, after):
            after = event_id
            ended = is_end(fields)
            yield _event("progress", event_id, _event_data(fields))
        current = await run_in_threadpool(services.jobs.get, job.job_id)
        if not ended or current is None or current.is_settled:
            if ended and current is not None:
                yield _event("end", after, await run_in_threadpool(_job_data, current, services))
            return


def _event(kind: str, event_id: str, data: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False), event=kind, id=event_id, sep="\n")


def _job_data(job: Job, services: Services) -> dict[str, Any]:
    recut = RecutView.model_validate(job.recut.model_dump()).model_dump(mode="json") if job.recut else None
    more = {"revision": published_revision(job, services), "recut": recut}
    return job.model_dump(mode="json", include=set(_FIELDS)) | more


def _event_data(fields: dict[str, str]) -> dict[str, Any]:
    recut = {name: fields.get(f"recut_{name}") or None for name in RecutView.model_fields}
    return {name: fields[name] for name in ("status", "stage", "message")} | {
        "progress": float(fields["progress"]),
        "error": fields["error"] or None,
        "attempt": int(fields["attempt"]),
        "revision": int(fields["revision"]) if fields.get("revision") else None,
        "recut": RecutView.model_validate(recut).model_dump(mode="json") if recut["revision"] else None,
    }


def _number(event_id: str) -> tuple[int, ...]:
    return tuple(int(part) for part in event_id.split("-"))
