"""Authenticates rented machines: finds the session by the token that its grant was exchanged for."""

import base64
import binascii
from typing import Annotated

from fastapi import Depends, HTTPException, Request

from deployments.api.dependencies import Given, Parts
from deployments.api.models import NO_SESSION
from infra.granted.session import Session

CALLS_PER_MINUTE = 3000
"""Most requests a session may make per minute: many times what a run needs."""
SLOW_DOWN = (429, "too many requests; try again in a minute")


def token_of(authorization: str | None) -> str:
    """The token in `Bearer TOKEN`, or in `Basic` with only the token; empty if absent."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() == "bearer":
        return given.strip()
    try:
        return base64.b64decode(given, validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, ValueError):
        return ""


def open_session(token: str, parts: Parts) -> Session:
    """The token's session.

    Raises:
        HTTPException: 403 if there is none or it is over; 429 if it sends too many requests.
    """
    session = parts.sessions.find(token) if token else None
    if session is None:
        raise HTTPException(*NO_SESSION)
    if parts.rate_limit.wait_seconds(f"session {session.session_id}", CALLS_PER_MINUTE):
        raise HTTPException(*SLOW_DOWN)
    return session


def _session(request: Request, parts: Given) -> Session:
    session = open_session(token_of(request.headers.get("authorization")), parts)
    request.state.job_id = session.job_id
    return session


def _working(session: Annotated[Session, Depends(_session)], parts: Given) -> Session:
    job = parts.jobs.get(session.job_id)
    if job is None or job.has_ended or job.attempt != session.attempt:
        raise HTTPException(*NO_SESSION)
    return session


Open = Annotated[Session, Depends(_session)]
"""A session whose run may already be ending; only for the Prefect server's routes."""
Working = Annotated[Session, Depends(_working)]
"""A session whose job's attempt has not ended."""
