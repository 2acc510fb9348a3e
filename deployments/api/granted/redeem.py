"""POST /api/worker/grant: exchanges a grant, once, for a session."""

import logging
import re
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from deployments.api.dependencies import Given, Parts
from deployments.api.granted.llm import llm_model_for_granted
from deployments.api.guards import Body
from deployments.api.models import NO_STORE, TOO_LARGE, TOO_SLOW, refusals
from infra.bucket.temporary_keys import temporary_keys
from infra.errors import ConfigError, GrantRefused, StoreError, SubmitError
from infra.granted import grant as grants
from infra.granted.access import Access, BucketKeys, granted_root
from infra.granted.grant import Grant
from infra.granted.session import GrantAlreadyRedeemed
from infra.prefect.runs import TERMINAL

logger = logging.getLogger(__name__)
router = APIRouter()

NONCE = re.compile(r"[A-Za-z0-9_-]{16,128}")
NO_GRANTS = (404, "this service gives no grants")
REFUSED = (403, "grant refused")
TAKEN = (403, "grant was redeemed before")
NO_RUN = (502, "the Prefect server did not answer")


class Redeemed(BaseModel):
    """What a session reaches; the container takes the address at which it has asked for ours."""

    access: Access
    expires_at: Annotated[float, Field(description="Seconds since the epoch.")]


@router.post(
    "/api/worker/grant",
    summary="Redeem a grant",
    responses=refusals(NO_GRANTS, REFUSED, TAKEN, NO_RUN, TOO_SLOW, TOO_LARGE, NO_STORE),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {
                            "grant": {"type": "string"},
                            "nonce": {
                                "type": "string",
                                "pattern": NONCE.pattern,
                                "description": "Random; who sends the same again because the answer was lost gets one.",
                            },
                        },
                        "required": ["grant"],
                    }
                }
            },
        }
    },
)
async def redeem(request: Request, body: Body, parts: Given) -> Redeemed:
    """For a container on a rented machine. A second use is refused and ends the run: one of the two stole the grant.

    With the nonce of the first, it is answered again for ten minutes and until the session is used; the token
    of the first answer is then no longer valid. A malformed nonce is ignored.
    """
    text, nonce = body.get("grant"), body.get("nonce")
    try:
        grant = grants.verify(parts.settings, text if isinstance(text, str) else "")
    except ConfigError:
        raise HTTPException(*NO_GRANTS) from None
    except GrantRefused as refused:
        logger.warning("A grant was refused: %s", refused)
        raise HTTPException(*REFUSED) from None
    request.state.job_id = grant.job_id
    nonce = nonce if isinstance(nonce, str) and NONCE.fullmatch(nonce) else None
    return await to_thread.run_sync(_redeemed, grant, nonce, str(request.base_url), parts, limiter=parts.run_changes)


def _redeemed(grant: Grant, nonce: str | None, asked_at: str, parts: Parts) -> Redeemed:
    try:
        parts.sessions.check(grant, nonce)  # first: a thief may have ended the run
        run = _waiting_run(grant, parts)
        token, session = parts.sessions.open(grant, str(run["flow_id"]), run.get("deployment_id"), nonce)
    except GrantAlreadyRedeemed:
        _stop_stolen(grant, parts)
        raise HTTPException(*TAKEN) from None
    except GrantRefused as refused:
        logger.warning("A grant was refused: %s", refused)
        raise HTTPException(*REFUSED) from None
    except SubmitError:
        raise HTTPException(*NO_RUN) from None
    logger.info("A rented machine runs attempt %d of %s", grant.attempt, grant.job_id)
    access = Access(
        url=asked_at.rstrip("/"),
        token=token,
        job_id=grant.job_id,
        attempt=grant.attempt,
        bucket=parts.settings.r2_bucket,
        root=granted_root(grant.job_id),
        keys=_bucket_keys(grant, parts),
        llm_model=llm_model_for_granted(parts.settings),
    )
    return Redeemed(access=access, expires_at=session.expires_at)


def _waiting_run(grant: Grant, parts: Parts) -> dict[str, Any]:
    """The grant's run, if it can still start.

    Raises:
        GrantRefused: it has ended.
        SubmitError: the Prefect server does not answer.
    """
    run = parts.submitter.run(grant.run_id)
    if run is None or run.get("state_type") in {*TERMINAL, "CANCELLING"}:
        raise GrantRefused(f"Run {grant.run_id} has ended.")
    return run


def _stop_stolen(grant: Grant, parts: Parts) -> None:
    """Stop the run of a stolen grant; its job already records the theft."""
    logger.error("The grant of run %s was redeemed twice", grant.run_id)
    try:
        parts.submitter.cancel(grant.run_id)
    except SubmitError as error:
        logger.warning("The run %s could not be cancelled: %s", grant.run_id, error)


def _bucket_keys(grant: Grant, parts: Parts) -> BucketKeys | None:
    """Temporary keys for the bucket if Cloudflare issues them, else None: we sign each request."""
    try:
        return temporary_keys(granted_root(grant.job_id), grant.session_seconds, parts.settings)
    except StoreError as error:
        logger.warning("Requests of %s to the bucket are signed one by one: %s", grant.job_id, error)
        return None
