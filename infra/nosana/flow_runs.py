"""Reads and ends the flow runs of a work pool, through Prefect's client."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

import httpx
import tenacity
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType, WorkPool
from prefect.exceptions import Abort, ObjectNotFound
from prefect.logging.loggers import PrefectLogAdapter, flow_run_logger
from prefect.states import Cancelled, Crashed, Scheduled
from prefect.utilities.engine import propose_state

from infra.nosana.configuration import NosanaJobConfiguration

__all__ = ["FINAL", "OPEN", "STOPPED", "FlowRun", "FlowRuns", "StateType"]

T = TypeVar("T")

FINAL = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}
OPEN = {StateType.PENDING, StateType.RUNNING}
STOPPED = {StateType.CANCELLING, StateType.CANCELLED}


@dataclass(frozen=True)
class FlowRuns:
    """The flow runs of one work pool, from the point of view of one worker."""

    client: PrefectClient
    work_pool: WorkPool
    worker_name: str

    async def state(self, run_id: UUID) -> StateType | None:
        """The run's state, or None if the run was deleted. Waits until the Prefect server answers."""
        try:
            run = await _retrying_until_answered(self.client.read_flow_run)(run_id)
        except ObjectNotFound:
            return None
        return run.state.type if run.state else StateType.PENDING

    async def is_retry(self, run_id: UUID) -> bool:
        """Whether this is a retry by Prefect: the run has ended before. Waits until the Prefect server answers."""
        states = await _retrying_until_answered(self.client.read_flow_run_states)(run_id)
        return any(state.type in FINAL for state in states)

    async def unfinished(self) -> list[FlowRun]:
        """The pool's runs that a worker has taken and that have not ended."""
        states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        return await self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[self.work_pool.name])),
        )

    async def configuration(self, run: FlowRun) -> NosanaJobConfiguration:
        """The configuration of the run, or the defaults if its Prefect deployment has been deleted."""
        try:
            return await NosanaJobConfiguration.resolve_for_flow_run(
                run, client=self.client, work_pool=self.work_pool, worker_name=self.worker_name
            )
        except ObjectNotFound:
            return NosanaJobConfiguration(infrastructure_retries=0)

    async def crash(self, run: FlowRun, message: str) -> None:
        """Mark the run as crashed unless it has ended. Errors are logged."""
        logger = self.logger(run)
        try:
            await propose_state(self.client, Crashed(message=message), flow_run_id=run.id)
        except (Abort, ObjectNotFound):
            pass
        except Exception:
            logger.exception("The run could not be marked as crashed")

    async def force_crash(self, run: FlowRun, message: str) -> None:
        await self.client.set_flow_run_state(run.id, Crashed(message=message), force=True)

    async def mark_cancelled(self, run: FlowRun, message: str) -> None:
        try:
            await self.client.set_flow_run_state(run.id, Cancelled(message=message), force=True)
        except ObjectNotFound:
            self.logger(run).debug("The run was deleted before it could be marked as cancelled")

    async def reschedule(self, run: FlowRun, message: str) -> None:
        """Schedule the run again, for any worker to take."""
        now = datetime.now(UTC)
        again = Scheduled(scheduled_time=now, message=message)  # pyright: ignore[reportArgumentType] Prefect's own type of a time
        await self.client.set_flow_run_state(run.id, again, force=True)

    def logger(self, run: FlowRun) -> PrefectLogAdapter:
        """A logger whose lines appear on the run's page in the Prefect UI."""
        extra = {"worker_name": self.worker_name, "work_pool_name": self.work_pool.name}
        return flow_run_logger(flow_run=run).getChild("worker", extra=extra)


def _retrying_until_answered(call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """Wrap the call so that it is retried until the Prefect server answers."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(httpx.HTTPError),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    ).wraps(call)
