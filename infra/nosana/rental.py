"""Rents one deployment on Nosana: chooses a market, creates the deployment, inspects it and releases it.

Plain async functions over the client. Every deployment must end with `release`: a forgotten one gets billed.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from typing import Any

from infra.errors import ConfigError, NosanaError
from infra.nosana.client import NosanaClient, NosanaNotFound, NosanaUnavailable, WrongState
from infra.nosana.diagnosis import Snapshot
from infra.nosana.models import Deployment, DeploymentState, JobDetail, Market, NosanaJob
from infra.settings import Settings

logger = logging.getLogger(__name__)

RELEASE_SECONDS = 600.0
"""How long `release` tries; after that, the next sweep does."""
MIN_PAID_MINUTES = 5
"""The credits must pay for this many minutes on the market; Nosana itself checks the rest."""


@contextlib.asynccontextmanager
async def connect(configured: Settings) -> AsyncGenerator[NosanaClient]:
    """A client for the account in the settings.

    Raises:
        ConfigError: NOSANA_API_KEY is missing.
    """
    if configured.nosana_api_key is None:
        raise ConfigError("The Nosana account's key is missing; set NOSANA_API_KEY for the worker.")
    async with NosanaClient(configured.nosana_api_base, configured.nosana_api_key) as client:
        yield client


async def affordable_market(client: NosanaClient, market: str, max_usd_per_hour: float | None) -> Market:
    """The market with that slug or address, if its price is allowed and the credits pay for `MIN_PAID_MINUTES`.

    Raises:
        ConfigError: no market is set, or it is too expensive.
        NosanaNotFound: there is no such market.
        NosanaError: too few credits are left.
    """
    if not market:
        raise ConfigError("No market is configured; set NOSANA_MARKET, or market in the work pool.")
    found = await client.market(market)
    if max_usd_per_hour is not None and found.usd_per_hour > max_usd_per_hour:
        raise ConfigError(
            f"Market {found.slug} costs ${found.usd_per_hour:g} an hour; the pool allows ${max_usd_per_hour:g}."
        )
    left = (await client.credits()).available
    if left < found.usd_per_hour * MIN_PAID_MINUTES / 60:
        raise NosanaError(f"The Nosana account has ${left:.2f} of credits left; top it up, then start the job again.")
    return found


async def ensure_started(client: NosanaClient, body: Mapping[str, Any]) -> Deployment:
    """Create the deployment unless one of that name exists, and start it."""
    deployment = await client.create(body)
    if deployment.status is DeploymentState.DRAFT:
        with contextlib.suppress(WrongState, NosanaUnavailable):  # it also starts by itself
            await client.start(deployment.id)
    return deployment


async def take_snapshot(client: NosanaClient, deployment_id: str) -> Snapshot:
    """Read the deployment and its newest job."""
    deployment, jobs = await client.get(deployment_id), await client.jobs(deployment_id)
    return Snapshot(
        deployment=deployment,
        job=jobs[0] if jobs else None,
        detail=await _detail(client, deployment_id, jobs[0]) if jobs else None,
        events=() if jobs else await client.events(deployment_id),
    )


async def release(client: NosanaClient, deployment_id: str, poll_seconds: float) -> bool:
    """Stop and archive the deployment. True once it is archived or gone, False after `RELEASE_SECONDS`."""
    deadline = time.monotonic() + RELEASE_SECONDS
    while time.monotonic() < deadline:
        try:
            if await _step_to_archive(client, await client.get(deployment_id)):
                return True
        except NosanaNotFound:
            return True
        except WrongState:
            pass  # the state has just changed; read it again
        except NosanaError as error:
            logger.warning("Deployment %s is not released yet: %s", deployment_id, error)
        await asyncio.sleep(min(poll_seconds, 2))
    return False


async def release_all(client: NosanaClient, deployments: Iterable[Deployment], poll_seconds: float) -> None:
    """Release the deployments that are not archived yet.

    Raises:
        NosanaUnavailable: one could not be released.
    """
    for one in deployments:
        is_archived = one.status is DeploymentState.ARCHIVED
        if not is_archived and not await release(client, one.id, poll_seconds):
            raise NosanaUnavailable(
                f"Nosana did not archive the run's earlier deployment {one.id}.", may_have_taken_effect=False
            )


async def cost(client: NosanaClient, deployment: Deployment) -> tuple[float, float]:
    """Seconds that the deployment's jobs ran, and their cost in dollars at the market's current price."""
    seconds = 0.0
    for job in await client.jobs(deployment.id):
        detail = await client.job(deployment.id, job.id)
        if detail.started_at:
            seconds += max(0.0, (detail.ended_at or time.time()) - detail.started_at)
    return seconds, seconds / 3600 * (await client.market(deployment.market)).usd_per_hour


async def _step_to_archive(client: NosanaClient, deployment: Deployment) -> bool:
    """Take the next step towards archiving the deployment. True if it is archived."""
    match deployment.status:
        case DeploymentState.ARCHIVED:
            return True
        case DeploymentState.STOPPED:
            await client.archive(deployment.id)
        case DeploymentState.RUNNING | DeploymentState.ERROR | DeploymentState.INSUFFICIENT_FUNDS:
            await client.stop(deployment.id)
        case DeploymentState.DRAFT:
            await client.start(deployment.id)  # a draft can only be started
        case DeploymentState.STARTING | DeploymentState.STOPPING:
            pass  # these states end by themselves
    return False


async def _detail(client: NosanaClient, deployment_id: str, job: NosanaJob) -> JobDetail | None:
    """The job's own record, or None if it does not exist yet."""
    try:
        return await client.job(deployment_id, job.id)
    except NosanaNotFound:
        return None
