"""POST /api/worker/objects: signs a rented machine's bucket requests, one at a time.

A machine can read and write under its job's granted root. In the shared cache it can read only what trusted runs
recorded for its own source, and write nothing.
"""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, ValidationError

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import JsonBody
from deployments.api.models import NO_SESSION, NO_STORE, TOO_LARGE, TOO_SLOW, body_of, refusals
from deployments.api.rented_machine.session import SLOW_DOWN, ActiveSession
from infra.bucket.request_rules import NotAllowed, ObjectRequest, allowed_key, is_cache_key
from infra.bucket.signing import enforces_signed_headers, presign_request
from infra.errors import ObjectMissing
from infra.granted.access import granted_root
from infra.granted.session import Session
from tasks.core.object_keys import alias_key, cache_entry, digest, job_uses, media_key, source_key, transcripts_prefix
from tasks.shared_cache import mark_use

logger = logging.getLogger(__name__)
router = APIRouter()

SIGNED_SECONDS = 900
"""How long a URL is valid: on a slow line, a part of 16 MiB may wait in a queue."""
NOT_OWN = (403, "this object does not belong to the run")
MALFORMED = (400, "method, path, query or headers are malformed")
NO_BUCKET = (502, "bucket did not answer")
UNSAFE_BUCKET = (501, "the bucket accepts unsigned headers")


class SignRequest(BaseModel):
    """The request that the machine wants to send. `path` is /BUCKET/KEY; `headers` are those to sign."""

    method: str = Field(max_length=10, examples=["GET"])
    path: str = Field(max_length=4000)
    query: dict[str, str] = Field(default_factory=dict[str, str], max_length=10)
    headers: dict[str, str] = Field(default_factory=dict[str, str], max_length=10)


class SignedUrl(BaseModel):
    url: str


@router.post(
    "/api/worker/objects",
    summary="Sign a request to the bucket",
    responses=refusals(
        MALFORMED, NOT_OWN, NO_SESSION, SLOW_DOWN, TOO_LARGE, TOO_SLOW, UNSAFE_BUCKET, NO_BUCKET, NO_STORE
    ),
    openapi_extra=body_of(SignRequest),
)
def sign(session: ActiveSession, body: JsonBody, services: ServicesDep) -> SignedUrl:
    """For a rented machine: a URL for one request, valid for some minutes."""
    try:
        wanted = SignRequest.model_validate(body)
    except ValidationError:
        raise HTTPException(*MALFORMED) from None
    root = granted_root(session.job_id)
    request = ObjectRequest(wanted.method, wanted.path, wanted.query, wanted.headers)
    try:
        key = allowed_key(request, services.settings.r2_bucket, root)
    except NotAllowed:
        logger.warning("A rented machine requested an object that does not belong to its run")
        raise HTTPException(*NOT_OWN) from None
    if wanted.method in ("GET", "HEAD"):
        key = _readable_key(key, session, services)
    elif not enforces_signed_headers(services.settings):  # pyright: ignore[reportArgumentType] frozen, so it has a hash
        logger.error("The bucket is unsafe to use with rented machines: %s; update its server", UNSAFE_BUCKET[1])
        raise HTTPException(*UNSAFE_BUCKET)
    return SignedUrl(url=presign_request(request, key, SIGNED_SECONDS, services.settings))


def _readable_key(key: str, session: Session, services: Services) -> str:
    """The key to read: the one in the shared cache if it exists and the job may read it, otherwise the run's own."""
    root = granted_root(session.job_id)
    shared = key.removeprefix(root)
    if not is_cache_key(key, root) or not _may_read(shared, session.job_id, services):
        return key
    mark_use(shared, session.job_id, services.bucket)
    return shared if services.bucket.exists(shared) else key


def _may_read(shared: str, job_id: str, services: Services) -> bool:
    """Whether a key in the shared cache belongs to the job's source."""
    request = services.job(job_id).request
    if shared == request.get("source_key"):
        return True
    # A trusted run of the job has used it, although its address may lead to another source by now.
    if shared.startswith(media_key("", "")[:-1]) and services.bucket.exists(job_uses(job_id) + cache_entry(shared)):
        return True
    source = _source_digest(request, services)
    if source is None:
        return False
    if shared.startswith(media_key(source, "")):
        return True
    audio = _field(source_key(source), "audio", services)
    sha256 = audio.get("sha256") if isinstance(audio, dict) else None
    return bool(sha256) and shared.startswith(transcripts_prefix(str(sha256)))


def _source_digest(request: dict[str, Any], services: Services) -> str | None:
    """Digest of the request's source, or None if no trusted run has recorded it."""
    if request.get("source_key"):
        return digest("upload", request["source_key"])
    found = _field(alias_key(str(request.get("video_url"))), "source", services)
    return found if isinstance(found, str) and found else None


def _field(key: str, name: str, services: Services) -> Any:
    try:
        found = services.bucket.get_json(key)
    except ObjectMissing:
        return None
    return found.get(name) if isinstance(found, dict) else None
