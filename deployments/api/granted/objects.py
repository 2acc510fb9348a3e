"""POST /api/worker/objects: signs a rented machine's bucket requests, one at a time.

A machine reads and writes under its job's own root. In the cache that jobs share it reads only what belongs to its
own source, as recorded by trusted runs, and writes nothing.
"""

import logging
from typing import Any

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field, ValidationError

from deployments.api.dependencies import Given, Parts
from deployments.api.granted.session import SLOW_DOWN, Working
from deployments.api.guards import Body
from deployments.api.models import NO_SESSION, NO_STORE, TOO_LARGE, TOO_SLOW, body_of, refusals
from infra.bucket.request_rules import NotAllowed, ObjectRequest, allowed_key, is_cache_key
from infra.bucket.signing import enforces_signed_headers, presign_request
from infra.errors import ObjectMissing
from infra.granted.access import granted_root
from infra.granted.session import Session
from tasks.core.object_keys import alias_key, digest, media_key, source_key, transcripts_prefix

logger = logging.getLogger(__name__)
router = APIRouter()

SIGNED_SECONDS = 900
"""How long a URL is valid: a part of 16 MiB may wait for its turn on a slow line."""
NOT_OWN = (403, "this object is not the run's")
MALFORMED = (400, "method, path, query or headers are malformed")
NO_BUCKET = (502, "bucket did not answer")
UNSAFE_BUCKET = (501, "the bucket takes headers that nobody has signed")


class Asked(BaseModel):
    """A request as the machine would send it; `path` is /bucket/key, `headers` those that are to be signed."""

    method: str = Field(max_length=10, examples=["GET"])
    path: str = Field(max_length=4000)
    query: dict[str, str] = Field(default_factory=dict[str, str], max_length=10)
    headers: dict[str, str] = Field(default_factory=dict[str, str], max_length=10)


class Signed(BaseModel):
    url: str


@router.post(
    "/api/worker/objects",
    summary="Sign a request to the bucket",
    responses=refusals(
        MALFORMED, NOT_OWN, NO_SESSION, SLOW_DOWN, TOO_LARGE, TOO_SLOW, UNSAFE_BUCKET, NO_BUCKET, NO_STORE
    ),
    openapi_extra=body_of(Asked),
)
def sign(session: Working, body: Body, parts: Given) -> Signed:
    """For a rented machine: an address for one request, good for some minutes."""
    try:
        asked = Asked.model_validate(body)
    except ValidationError:
        raise HTTPException(*MALFORMED) from None
    root = granted_root(session.job_id)
    request = ObjectRequest(asked.method, asked.path, asked.query, asked.headers)
    try:
        key = allowed_key(request, parts.settings.r2_bucket, root)
    except NotAllowed:
        logger.warning("A rented machine asked for an object that is not its own")
        raise HTTPException(*NOT_OWN) from None
    if asked.method in ("GET", "HEAD"):
        key = _where_it_is(key, session, parts)
    elif not enforces_signed_headers(parts.settings):  # pyright: ignore[reportArgumentType] frozen, so it has a hash
        logger.error("The bucket is not safe with rented machines: %s. Update its server.", UNSAFE_BUCKET[1])
        raise HTTPException(*UNSAFE_BUCKET)
    return Signed(url=presign_request(request, key, SIGNED_SECONDS, parts.settings))


def _where_it_is(key: str, session: Session, parts: Parts) -> str:
    """The key to read: the shared cache's if it exists and belongs to the job's source, else the run's own."""
    root = granted_root(session.job_id)
    shared = key.removeprefix(root)
    if is_cache_key(key, root) and _may_read(shared, session.job_id, parts) and parts.bucket.exists(shared):
        return shared
    return key


def _may_read(shared: str, job_id: str, parts: Parts) -> bool:
    """Whether a key of the shared cache belongs to the job's own source."""
    request = parts.job(job_id).request
    if shared == request.get("source_key"):
        return True
    source = _source(request, parts)
    if source is None:
        return False
    if shared.startswith(media_key(source, "")):
        return True
    audio = _field(source_key(source), "audio", parts)
    sha256 = audio.get("sha256") if isinstance(audio, dict) else None
    return bool(sha256) and shared.startswith(transcripts_prefix(str(sha256)))


def _source(request: dict[str, Any], parts: Parts) -> str | None:
    """Digest of the request's source, or None if no trusted run has recorded it."""
    if request.get("source_key"):
        return digest("upload", request["source_key"])
    found = _field(alias_key(str(request.get("video_url"))), "source", parts)
    return found if isinstance(found, str) and found else None


def _field(key: str, name: str, parts: Parts) -> Any:
    try:
        found = parts.bucket.get_json(key)
    except ObjectMissing:
        return None
    return found.get(name) if isinstance(found, dict) else None
