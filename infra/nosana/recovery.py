"""What a worker that died has left on Nosana: its runs are adopted, deployments of ended runs released."""

import asyncio
import contextlib
import logging
from collections.abc import Container, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from infra.jobs.store import JobStore
from infra.nosana import rental
from infra.nosana.assignment import deployment_prefix, find_assignment, number_of, run_of
from infra.nosana.flow_runs import FINAL, STOPPED, FlowRun, FlowRuns, StateType
from infra.nosana.models import Deployment
from infra.nosana.watch_leases import WatchLeases
from infra.nosana.watching import Watch
from infra.settings import Settings

logger = logging.getLogger(__name__)

ABANDONED_SECONDS = 30.0
"""How old the state of an unwatched run must be before it is adopted: the worker that took it may just be starting."""


@dataclass(frozen=True)
class Recovery:
    flow_runs: FlowRuns
    configured: Settings
    jobs: JobStore
    leases: WatchLeases

    async def abandoned(self, submitting: Container[UUID]) -> list[FlowRun]:
        """Open runs of the pool that this worker neither watches nor is `submitting`, and whose state is old."""
        runs = await self.flow_runs.submitted()
        return [run for run in runs if run.id not in self.leases.held and run.id not in submitting and _is_old(run)]

    async def adopt(self, run: FlowRun) -> None:
        """Watch the run to its end, unless another worker does. A failure is logged: the worker has other runs."""
        with survived(f"Run {run.id} could not be adopted"):
            async with self.leases.hold(run.id) as is_held:
                if not is_held or await self.flow_runs.state(run.id) in {*FINAL, StateType.SCHEDULED, None}:
                    return
                assignment = await asyncio.to_thread(find_assignment, run.id, run.parameters, self.jobs)
                configuration = await self.flow_runs.configuration(run)
                watch = Watch(run, assignment, configuration, self.configured, self.flow_runs)
                deployment = await self._newest_deployment(watch)
                if deployment is None:
                    await self._end_without_deployment(watch)
                    return
                self.flow_runs.logger(run).warning(
                    "Worker %s watches this run from here on", self.flow_runs.worker_name
                )
                await watch.to_end(deployment)

    async def release_orphans(self) -> None:
        """Release the pool's deployments whose run has ended or was deleted."""
        prefix = deployment_prefix(self.flow_runs.work_pool.name)
        async with rental.connect(self.configured) as client:
            for deployment in await client.unarchived(prefix):
                run_id = run_of(prefix, deployment)
                if run_id is None or await self.flow_runs.state(run_id) not in {*FINAL, None}:
                    continue
                async with self.leases.hold(run_id) as is_held:
                    if is_held:
                        logger.warning("Deployment %s belongs to no open run; it is released", deployment.id)
                        await rental.release(client, deployment.id, 1)

    async def _newest_deployment(self, watch: Watch) -> Deployment | None:
        """The run's newest deployment, or None; older ones are released."""
        prefix = deployment_prefix(self.flow_runs.work_pool.name)
        async with rental.connect(self.configured) as client:
            found = await client.search(f"{prefix}{watch.run.id}-")
            *older, newest = [None, *sorted(found, key=lambda one: number_of(prefix, one))]
            await rental.release_all(client, filter(None, older), watch.configuration.poll_seconds)
        return newest

    async def _end_without_deployment(self, watch: Watch) -> None:
        """Nothing was rented, or no trace of it is left: a run that has not begun waits again, another is lost."""
        state = await self.flow_runs.state(watch.run.id)
        if state is StateType.PENDING:
            await self.flow_runs.reschedule(watch.run, "The worker died before it rented anything.")
        elif state in STOPPED:
            await watch.cancel()
        else:
            reason = "The deployment that ran it no longer exists."
            await self.flow_runs.force_crash(watch.run, reason)
            await asyncio.to_thread(watch.assignment.lose, reason)


@contextlib.contextmanager
def survived(failure: str) -> Generator[None]:
    """Log any error: a failed recovery must not end the worker, which has runs of its own."""
    try:
        yield
    except Exception:
        logger.exception("%s; it is tried again later", failure)


def _is_old(run: FlowRun) -> bool:
    since = run.state.timestamp if run.state else None
    return since is None or (datetime.now(UTC) - since).total_seconds() > ABANDONED_SECONDS
