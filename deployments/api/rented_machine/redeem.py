"""POST /api/worker/grant: exchanges a grant for a session, once."""

import logging
import re
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import JsonBody
from deployments.api.models import NO_BUCKET, NO_STORE, TOO_LARGE, TOO_SLOW, refusals
from deployments.api.rented_machine.llm import llm_model_for_granted
from infra.bucket.temporary_keys import temporary_keys
from infra.errors import ConfigError, GrantRefused, StoreError, SubmitError
from infra.granted import grant as grants
from infra.granted.access import Access, BucketKeys, granted_root
from infra.granted.grant import Grant
from infra.granted.session import GrantAlreadyRedeemed
from infra.prefect.runs import TERMINAL
from tasks.handover import hand_over

logger = logging.getLogger(__name__)
router = APIRouter()

NONCE = re.compile(r"[A-Za-z0-9_-]{16,128}")
NO_GRANTS = (404, "this service issues no grants")
REFUSED = (403, "grant refused")
ALREADY_REDEEMED = (403, "grant was already redeemed")
NO_PREFECT = (502, "the Prefect server did not answer")


class Redeemed(BaseModel):
    """What the session gives access to. The container uses the API address that it called, not `access.url`."""

    access: Access
    expires_at: Annotated[float, Field(description="Seconds since the epoch.")]


@router.post(
    "/api/worker/grant",
    summary="Redeem a grant",
    responses=refusals(NO_GRANTS, REFUSED, ALREADY_REDEEMED, NO_PREFECT, TOO_SLOW, TOO_LARGE, NO_BUCKET, NO_STORE),
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
                                "description": "Random. If the response is lost, send the same nonce again.",
                            },
                        },
                        "required": ["grant"],
                    }
                }
            },
        }
    },
)
async def redeem(request: Request, body: JsonBody, services: ServicesDep) -> Redeemed:
    """For a container on a rented machine. A second use is refused and ends the run: one of the users stole the grant.

    With the nonce of the first use, the response is repeated for ten minutes or until the session is used; the token
    in the first response is then invalid. A malformed nonce is ignored.
    """
    text, nonce = body.get("grant"), body.get("nonce")
    try:
        grant = grants.verify(services.settings, text if isinstance(text, str) else "")
    except ConfigError:
        raise HTTPException(*NO_GRANTS) from None
    except GrantRefused as refused:
        logger.warning("A grant was refused: %s", refused)
        raise HTTPException(*REFUSED) from None
    request.state.job_id = grant.job_id
    nonce = nonce if isinstance(nonce, str) and NONCE.fullmatch(nonce) else None
    api_url = str(request.base_url)
    return await to_thread.run_sync(_redeem, grant, nonce, api_url, services, limiter=services.run_changes)


def _redeem(grant: Grant, nonce: str | None, api_url: str, services: Services) -> Redeemed:
    try:
        services.sessions.check(grant, nonce)  # before the run is looked up: a thief may have ended it
        run = _waiting_run(grant, services)
        token, session = services.sessions.open(grant, str(run["flow_id"]), run.get("deployment_id"), nonce)
        if grant.revision is not None:  # if the bucket does not answer, the container asks again with its nonce
            hand_over(services.job(grant.job_id), grant.run, services.bucket)
    except GrantAlreadyRedeemed:
        _cancel_stolen(grant, services)
        raise HTTPException(*ALREADY_REDEEMED) from None
    except GrantRefused as refused:
        logger.warning("A grant was refused: %s", refused)
        raise HTTPException(*REFUSED) from None
    except SubmitError:
        raise HTTPException(*NO_PREFECT) from None
    of_recut = f" at revision {grant.revision}" if grant.revision else ""
    logger.info("A rented machine has started attempt %d%s of %s", grant.attempt, of_recut, grant.job_id)
    access = Access(
        url=api_url.rstrip("/"),
        token=token,
        job_id=grant.job_id,
        attempt=grant.attempt,
        revision=grant.revision,
        bucket=services.settings.r2_bucket,
        root=granted_root(grant.job_id),
        keys=_bucket_keys(grant, services),
        llm_model=llm_model_for_granted(services.settings) if grant.revision is None else None,
    )
    return Redeemed(access=access, expires_at=session.expires_at)


def _waiting_run(grant: Grant, services: Services) -> dict[str, Any]:
    """The grant's run, if it can still start.

    Raises:
        GrantRefused: the run has ended.
        SubmitError: the Prefect server does not answer.
    """
    run = services.submitter.run(grant.run_id)
    if run is None or run.get("state_type") in {*TERMINAL, "CANCELLING"}:
        raise GrantRefused(f"Run {grant.run_id} has ended.")
    return run


def _cancel_stolen(grant: Grant, services: Services) -> None:
    """Cancel the run of a stolen grant. Its job already records the theft."""
    logger.error("The grant of run %s was redeemed twice", grant.run_id)
    try:
        services.submitter.cancel(grant.run_id)
    except SubmitError as error:
        logger.warning("Run %s could not be cancelled: %s", grant.run_id, error)


def _bucket_keys(grant: Grant, services: Services) -> BucketKeys | None:
    """Temporary keys for the bucket from Cloudflare, or None to have each request signed."""
    try:
        return temporary_keys(granted_root(grant.job_id), grant.session_seconds, services.settings)
    except StoreError as error:
        logger.warning("Bucket requests of %s are signed one by one: %s", grant.job_id, error)
        return None
