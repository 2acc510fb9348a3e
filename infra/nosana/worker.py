"""The Prefect worker type `nosana`: each flow run becomes a deployment on Nosana, watched to its end.

The container gets a grant and no other secret. Unlike Prefect's own workers, this one stops a queued run within
seconds of its cancellation, ends a run whose container exited without ending it, and adopts the runs of dead workers.
"""

import asyncio
import time
from typing import Any

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.workers.base import BaseVariables, BaseWorker

from infra import settings
from infra.jobs.store import JobStore
from infra.nosana import rental
from infra.nosana.assignment import job_store, open_assignment
from infra.nosana.configuration import NosanaJobConfiguration, NosanaWorkerResult
from infra.nosana.flow_runs import FlowRuns
from infra.nosana.orphaned_runs import OrphanedRuns, errors_logged
from infra.nosana.watch_leases import WatchLeases
from infra.nosana.watching import Watch
from infra.settings import Settings

SWEEP_SECONDS = 30.0


class NosanaWorker(BaseWorker[NosanaJobConfiguration, BaseVariables, NosanaWorkerResult]):
    type = "nosana"
    job_configuration = NosanaJobConfiguration
    _display_name = "Nosana"
    _description = "Runs flows in containers on GPUs rented on the Nosana market."
    _logo_url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._last_sweep: float | None = None
        self._jobs: JobStore | None = None
        self._leases: WatchLeases | None = None

    async def run(
        self,
        flow_run: FlowRun,
        configuration: NosanaJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> NosanaWorkerResult:
        """Rent a machine for the run, watch it, and release it."""
        configured = settings.load()
        jobs, leases = self._shared(configured)
        flow_runs = self._flow_runs()
        async with leases.hold(flow_run.id, wait_seconds=configuration.poll_seconds):
            is_retry = await flow_runs.is_retry(flow_run.id)
            assignment = await asyncio.to_thread(
                open_assignment, flow_run.id, flow_run.parameters, jobs, is_retry=is_retry
            )
            watch = Watch(flow_run, assignment, configuration, configured, flow_runs)
            if await flow_runs.state(flow_run.id) is not StateType.PENDING:  # cancelled in the meantime
                return await watch.end_run(str(flow_run.id), None)
            deployment = await watch.rent()
            if task_status:
                task_status.started(deployment.id)  # pyright: ignore[reportArgumentType] kept as text
            return await watch.watch_to_end(deployment)
        return NosanaWorkerResult(identifier=str(flow_run.id), status_code=0)  # another worker took over the run

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: NosanaJobConfiguration,
        grace_seconds: int = 30,  # noqa: ARG002 Nosana has its own
    ) -> None:
        """Release the deployment of a run that was cancelled before it began."""
        async with rental.connect(settings.load()) as client:
            await rental.release(client, infrastructure_pid, configuration.poll_seconds)

    async def sync_with_backend(self) -> None:
        """Send the worker's heartbeat. First, and then every `SWEEP_SECONDS`, clean up after dead workers too."""
        await super().sync_with_backend()
        now = time.monotonic()
        is_due = self._last_sweep is None or now - self._last_sweep > SWEEP_SECONDS
        if self._work_pool and self._runs_task_group and is_due:
            self._last_sweep = now
            self._runs_task_group.start_soon(self._sweep)

    async def _sweep(self) -> None:
        with errors_logged("The search for orphaned runs failed"):
            orphans = self._orphaned_runs()
            for run in await orphans.find(self._submitting_flow_run_ids):
                if self._runs_task_group:
                    self._runs_task_group.start_soon(orphans.adopt, run)
        with errors_logged("The search for orphaned deployments failed"):
            await self._orphaned_runs().release_deployments()

    def _orphaned_runs(self) -> OrphanedRuns:
        configured = settings.load()
        return OrphanedRuns(self._flow_runs(), configured, *self._shared(configured))

    def _flow_runs(self) -> FlowRuns:
        return FlowRuns(self.client, self.work_pool, self.name)

    def _shared(self, configured: Settings) -> tuple[JobStore, WatchLeases]:
        """The worker's store and leases, created once, because a lease belongs to the store that took it."""
        self._jobs = self._jobs or job_store(configured)
        self._leases = self._leases or WatchLeases(self._jobs)
        return self._jobs, self._leases
