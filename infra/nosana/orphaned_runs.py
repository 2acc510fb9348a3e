"""Cleans up after a dead worker: adopts its runs, and releases deployments of runs that have ended."""

import asyncio
import contextlib
import logging
from collections.abc import Container, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from infra.jobs.store import JobStore
from infra.nosana import rental
from infra.nosana.assignment import deployment_number, deployment_prefix, find_assignment, run_id_of
from infra.nosana.flow_runs import FINAL, STOPPED, FlowRun, FlowRuns, StateType
from infra.nosana.models import Deployment
from infra.nosana.watch_leases import WatchLeases
from infra.nosana.watching import Watch
from infra.settings import Settings

logger = logging.getLogger(__name__)

ORPHANED_SECONDS = 30.0
"""An unwatched run counts as orphaned once its state is this old: before that, its worker may just be starting."""


@dataclass(frozen=True)
class OrphanedRuns:
    """The work pool's runs and deployments that no live worker watches."""

    flow_runs: FlowRuns
    configured: Settings
    jobs: JobStore
    leases: WatchLeases

    async def find(self, submitting: Container[UUID]) -> list[FlowRun]:
        """Unfinished runs of the pool that this worker does not watch, is not `submitting`, and whose state is old."""
        runs = await self.flow_runs.unfinished()
        return [run for run in runs if run.id not in self.leases.held and run.id not in submitting and _is_old(run)]

    async def adopt(self, run: FlowRun) -> None:
        """Watch the run to its end, unless another worker does. Errors are logged: the worker has other runs."""
        with errors_logged(f"Run {run.id} could not be adopted"):
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
                self.flow_runs.logger(run).warning("Worker %s adopted this run", self.flow_runs.worker_name)
                await watch.watch_to_end(deployment)

    async def release_deployments(self) -> None:
        """Release the pool's deployments whose run has ended or was deleted."""
        prefix = deployment_prefix(self.flow_runs.work_pool.name)
        async with rental.connect(self.configured) as client:
            for deployment in await client.unarchived(prefix):
                run_id = run_id_of(prefix, deployment)
                if run_id is None or await self.flow_runs.state(run_id) not in {*FINAL, None}:
                    continue
                async with self.leases.hold(run_id) as is_held:
                    if is_held:
                        logger.warning("Releasing deployment %s: its run has ended", deployment.id)
                        await rental.release(client, deployment.id, 1)

    async def _newest_deployment(self, watch: Watch) -> Deployment | None:
        """Return the run's newest deployment, or None, and release older ones."""
        prefix = deployment_prefix(self.flow_runs.work_pool.name)
        async with rental.connect(self.configured) as client:
            found = await client.search(f"{prefix}{watch.run.id}-")
            *older, newest = [None, *sorted(found, key=lambda one: deployment_number(prefix, one))]
            await rental.release_all(client, filter(None, older), watch.configuration.poll_seconds)
        return newest

    async def _end_without_deployment(self, watch: Watch) -> None:
        """Handle a run without a deployment: reschedule it if it has not begun, else mark it as lost."""
        state = await self.flow_runs.state(watch.run.id)
        if state is StateType.PENDING:
            await self.flow_runs.reschedule(watch.run, "The worker died before it rented anything.")
        elif state in STOPPED:
            await watch.cancel()
        else:
            reason = "The run's deployment no longer exists."
            await self.flow_runs.force_crash(watch.run, reason)
            await asyncio.to_thread(watch.assignment.mark_lost, reason)


@contextlib.contextmanager
def errors_logged(failure: str) -> Generator[None]:
    """Log any error instead of raising it, so that a failed cleanup does not end the worker and its own runs."""
    try:
        yield
    except Exception:
        logger.exception("%s; the next sweep tries again", failure)


def _is_old(run: FlowRun) -> bool:
    since = run.state.timestamp if run.state else None
    return since is None or (datetime.now(UTC) - since).total_seconds() > ORPHANED_SECONDS
