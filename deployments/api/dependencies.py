"""The services behind the API, and the dependency that hands them to a handler."""

from dataclasses import dataclass, field
from typing import Annotated

from anyio import CapacityLimiter
from fastapi import Depends, HTTPException, Request

from deployments.api.connections import streams_allowed
from deployments.api.job_documents import JobDocuments
from deployments.api.models import NO_JOB
from deployments.api.readiness import ReadinessChecks
from deployments.api.stream_limits import StreamLimit
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
from infra.uploads.records import UploadRecords

EDIT_CHECKS = 2
"""Edit documents that may be checked at once; a vast one takes two seconds of a core."""
CLIP_CHECKS = 2
"""Threads that may check rented machines' clips at once; each reads whole clips."""
UPLOAD_STREAMS, UPLOAD_STREAMS_PER_CLIENT = 16, 6
"""Pieces of files that may be received at once, in all and per client; each has up to 8 MiB in memory."""
RUN_CHANGES = 8
"""Threads that may start or stop runs at once. Reads use other threads, so they never wait for Prefect."""


@dataclass(frozen=True)
class Services:
    """Everything a handler may use."""

    settings: Settings
    jobs: JobStore
    bucket: ArtifactStore
    submitter: Submitter
    documents: JobDocuments
    prefect: PrefectForwarder
    clip_checks: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(CLIP_CHECKS))
    edit_checks: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(EDIT_CHECKS))
    run_changes: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(RUN_CHANGES))
    upload_writes: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(UPLOAD_STREAMS))
    readiness: ReadinessChecks = field(init=False)
    events: JobEvents = field(init=False)
    idempotency: IdempotencyKeys = field(init=False)
    rate_limit: RateLimit = field(init=False)
    sessions: SessionStore = field(init=False)
    event_streams: StreamLimit = field(init=False)
    clip_streams: StreamLimit = field(init=False)
    sockets: StreamLimit = field(init=False)
    uploads: UploadRecords = field(init=False)
    upload_streams: StreamLimit = field(init=False)

    def __post_init__(self) -> None:
        checks = {"redis": self.jobs.connection.ping, "bucket": self.bucket.probe, "prefect": self.submitter.ping}
        object.__setattr__(self, "readiness", ReadinessChecks(checks, self.settings.data_dir))
        object.__setattr__(self, "events", JobEvents(self.jobs.connection))
        object.__setattr__(self, "idempotency", IdempotencyKeys(self.jobs.connection))
        object.__setattr__(self, "rate_limit", RateLimit(self.jobs.connection))
        object.__setattr__(self, "sessions", SessionStore(self.jobs))
        object.__setattr__(self, "uploads", UploadRecords(self.jobs.connection))
        object.__setattr__(self, "upload_streams", StreamLimit(UPLOAD_STREAMS, UPLOAD_STREAMS_PER_CLIENT))
        total = streams_allowed()
        object.__setattr__(self, "event_streams", StreamLimit(total, self.settings.max_event_streams))
        object.__setattr__(self, "clip_streams", StreamLimit(total, total // 2))
        object.__setattr__(self, "sockets", StreamLimit(total, total // 2))

    def job(self, job_id: str) -> Job:
        """The job, or a 404; a malformed id is a 404 without a lookup."""
        job = self.jobs.get(job_id) if JOB_ID.fullmatch(job_id) else None
        if job is None:
            raise HTTPException(*NO_JOB)
        return job


async def _services(request: Request) -> Services:
    return request.app.state.services


ServicesDep = Annotated[Services, Depends(_services)]
