"""Authenticates rented machines by their session token, which they got in exchange for a grant."""

import base64
import binascii
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.models import NO_SESSION
from infra.granted.session import Session

CALLS_PER_MINUTE = 3000
"""Requests that a session may make per minute: many times what a run needs."""
SLOW_DOWN = (429, "too many requests; try again in a minute")


def token_of(authorization: str | None) -> str:
    """The token in `Bearer TOKEN`, or in `Basic` as the only content; "" if absent."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    try:
        return base64.b64decode(credentials, validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, ValueError):
        return ""


def authenticate(token: str, services: Services) -> Session:
    """The token's session.

    Raises:
        HTTPException: 403 if the session is unknown or over, 429 if it sends too many requests.
    """
    session = services.sessions.find(token) if token else None
    if session is None:
        raise HTTPException(*NO_SESSION)
    if services.rate_limit.wait_seconds(f"session {session.session_id}", CALLS_PER_MINUTE):
        raise HTTPException(*SLOW_DOWN)
    return session


def _session(request: Request, services: ServicesDep) -> Session:
    session = authenticate(token_of(request.headers.get("authorization")), services)
    request.state.job_id = session.job_id
    return session


def _active_session(session: Annotated[Session, Depends(_session)], services: ServicesDep) -> Session:
    job = services.jobs.get(session.job_id)
    work = job.worked_on(session.run) if job else None
    if work is None or work.has_ended:
        raise HTTPException(*NO_SESSION)
    return session


OpenSession = Annotated[Session, Depends(_session)]
"""A session whose attempt may have ended; only for the Prefect routes, which its run still needs then."""
ActiveSession = Annotated[Session, Depends(_active_session)]
"""A session whose attempt has not ended."""
