"""One deployment, from its creation to the archive: plain async code over the client.

Whatever happens in between, `release` is what it ends with: a deployment that is left is listed and billed later.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from infra.errors import NosanaError
from infra.nosana.client import NosanaAway, NosanaClient, NosanaMissing, WrongState
from infra.nosana.diagnosis import Diagnosis, Seen, diagnose, of_deleted
from infra.nosana.models import Deployment, DeploymentState, Job, JobDetail, JobPhase

logger = logging.getLogger(__name__)

RELEASE_SECONDS = 600.0
"""How long it is tried to stop and archive a deployment; the next sweep tries again."""
GRACE_SECONDS = 15.0
"""How long a container may go on after its run has ended: it sends the last of its log."""

Wanted = Callable[[], Awaitable[bool | None]]
"""Whether the run still wants its deployment; None when the run has ended by itself, or its attempt has."""


async def obtain(client: NosanaClient, body: Mapping[str, Any]) -> Deployment:
    """The deployment of that name, made if there is none, and on its way."""
    deployment = await client.create(body)
    if deployment.status is DeploymentState.DRAFT:
        with contextlib.suppress(WrongState, NosanaAway):  # it starts by itself, and is watched either way
            await client.start(deployment.id)
    return deployment


async def watch(
    client: NosanaClient, deployment: Deployment, wanted: Wanted, poll_seconds: float, queue_limit: float
) -> Diagnosis | None:
    """What became of it; None when its run did not want it any more, or ended by itself.

    A Nosana that does not answer, or no longer takes the key, is waited for: what it was asked to run goes on running.
    """
    job_ended: float | None = None
    run_ended: float | None = None
    queued_since = deployment.created_at.timestamp()
    while True:
        want = await wanted()
        run_ended = (run_ended or time.time()) if want is None else None
        if want is False or (run_ended and time.time() - run_ended > GRACE_SECONDS):
            return None
        try:
            seen = await _look(client, deployment.id)
        except NosanaMissing:
            return of_deleted()
        except NosanaError as error:
            logger.warning("Deployment %s could not be looked at: %s", deployment.id, error)
        else:
            over = seen.job is not None and seen.job.phase in (JobPhase.COMPLETED, JobPhase.STOPPED)
            job_ended = job_ended or (time.time() if over else None)
            found = diagnose(seen, time.time() - (job_ended or queued_since), queue_limit)
            if found is not None:
                return found
        await asyncio.sleep(poll_seconds)


async def release(client: NosanaClient, deployment_id: str, poll_seconds: float) -> bool:
    """Stop it where it may be stopped and archive it; whether it is seen in the archive, or gone."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while time.monotonic() < deadline:
        try:
            if await _next_step(client, await client.get(deployment_id)):
                return True
        except NosanaMissing:
            return True
        except WrongState:
            pass  # it moved meanwhile: look again
        except NosanaError as error:
            logger.warning("Deployment %s is not released yet: %s", deployment_id, error)
        await asyncio.sleep(min(poll_seconds, 2))
    return False


async def cost(client: NosanaClient, deployment: Deployment) -> tuple[float, float]:
    """Seconds that its jobs ran, and what that costs in dollars by its market's price of now."""
    seconds = 0.0
    for job in await client.jobs(deployment.id):
        page = await client.job(deployment.id, job.id)
        if page.started_at:
            seconds += max(0.0, (page.ended_at or time.time()) - page.started_at)
    return seconds, seconds / 3600 * (await client.market(deployment.market)).usd_per_hour


async def _next_step(client: NosanaClient, deployment: Deployment) -> bool:
    """One step on the way into the archive; whether it is there."""
    match deployment.status:
        case DeploymentState.ARCHIVED:
            return True
        case DeploymentState.STOPPED:
            await client.archive(deployment.id)
        case DeploymentState.RUNNING | DeploymentState.ERROR | DeploymentState.INSUFFICIENT_FUNDS:
            await client.stop(deployment.id)
        case DeploymentState.DRAFT:
            await client.start(deployment.id)  # nothing else may be done with a draft
        case DeploymentState.STARTING | DeploymentState.STOPPING:
            pass  # these pass by themselves
    return False


async def _look(client: NosanaClient, deployment_id: str) -> Seen:
    deployment, jobs = await client.get(deployment_id), await client.jobs(deployment_id)
    return Seen(
        deployment=deployment,
        job=jobs[0] if jobs else None,
        detail=await _page(client, deployment_id, jobs[0]) if jobs else None,
        events=() if jobs else await client.events(deployment_id),
    )


async def _page(client: NosanaClient, deployment_id: str, job: Job) -> JobDetail | None:
    """The job's own page; None where it is not there yet."""
    try:
        return await client.job(deployment_id, job.id)
    except NosanaMissing:
        return None
