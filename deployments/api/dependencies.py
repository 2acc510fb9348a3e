"""The services behind the API, and how a handler gets them."""

from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, HTTPException, Request

from deployments.api.concurrency import Places
from deployments.api.connections import streams_allowed
from deployments.api.job_documents import Documents
from deployments.api.models import NO_JOB
from deployments.api.readiness import ReadinessChecks
from infra.bucket.store import ArtifactStore
from infra.granted.session import SessionStore
from infra.jobs.events import JobEvents
from infra.jobs.idempotency import IdempotencyKeys
from infra.jobs.ids import JOB_ID
from infra.jobs.rates import RateLimit
from infra.jobs.record import Job
from infra.jobs.store import JobStore
from infra.prefect.forward import PrefectForwarder
from infra.prefect.runs import Submitter
from infra.settings import Settings

CHECKS = 2
"""Most threads that check rented machines' clips at once: each reads whole clips."""
RUN_CHANGES = 8
"""Most threads that start or stop runs at once. Reads use other threads, so they never wait for Prefect."""


@dataclass(frozen=True)
class Parts:
    settings: Settings
    jobs: JobStore
    bucket: ArtifactStore
    submitter: Submitter
    documents: Documents
    prefect: PrefectForwarder
    checks: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(CHECKS))
    run_changes: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(RUN_CHANGES))
    readiness: ReadinessChecks = field(init=False)
    events: JobEvents = field(init=False)
    idempotency: IdempotencyKeys = field(init=False)
    rate_limit: RateLimit = field(init=False)
    sessions: SessionStore = field(init=False)
    event_streams: Places = field(init=False)
    clip_streams: Places = field(init=False)
    sockets: Places = field(init=False)

    def __post_init__(self) -> None:
        checks = {"redis": self.jobs.connection.ping, "bucket": self.bucket.probe, "prefect": self.submitter.ping}
        object.__setattr__(self, "readiness", ReadinessChecks(checks, self.settings.data_dir))
        object.__setattr__(self, "events", JobEvents(self.jobs.connection))
        object.__setattr__(self, "idempotency", IdempotencyKeys(self.jobs.connection))
        object.__setattr__(self, "rate_limit", RateLimit(self.jobs.connection))
        object.__setattr__(self, "sessions", SessionStore(self.jobs))
        most = streams_allowed()
        object.__setattr__(self, "event_streams", Places(most, self.settings.max_event_streams))
        object.__setattr__(self, "clip_streams", Places(most, most // 2))
        object.__setattr__(self, "sockets", Places(most, most // 2))

    def job(self, job_id: str) -> Job:
        """The job, or a 404. Malformed ids are not looked up."""
        job = self.jobs.get(job_id) if JOB_ID.fullmatch(job_id) else None
        if job is None:
            raise HTTPException(*NO_JOB)
        return job


async def _parts(request: Request) -> Parts:
    return request.app.state.parts


Given = Annotated[Parts, Depends(_parts)]
