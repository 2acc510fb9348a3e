"""The flow runs of one work pool, as a worker reads and ends them through Prefect's client."""

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
    client: PrefectClient
    work_pool: WorkPool
    worker_name: str

    async def state(self, run_id: UUID) -> StateType | None:
        """The run's state, or None if the run was deleted. Waits while the Prefect server is away."""
        try:
            run = await _until_answered(self.client.read_flow_run)(run_id)
        except ObjectNotFound:
            return None
        return run.state.type if run.state else StateType.PENDING

    async def has_ended_before(self, run_id: UUID) -> bool:
        """Whether Prefect retries the run. Waits while the Prefect server is away."""
        states = await _until_answered(self.client.read_flow_run_states)(run_id)
        return any(state.type in FINAL for state in states)

    async def submitted(self) -> list[FlowRun]:
        """The pool's runs that a worker has taken and that have not ended."""
        states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        return await self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[self.work_pool.name])),
        )

    async def configuration(self, run: FlowRun) -> NosanaJobConfiguration:
        """What the run was submitted with, or the defaults if its Prefect deployment was deleted since."""
        try:
            return await NosanaJobConfiguration.resolve_for_flow_run(
                run, client=self.client, work_pool=self.work_pool, worker_name=self.worker_name
            )
        except ObjectNotFound:
            return NosanaJobConfiguration(infrastructure_retries=0)

    async def crash(self, run: FlowRun, message: str) -> None:
        """Propose that the run has crashed; a run that has ended keeps its state. Failing to is logged."""
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
        """Let a worker take the run again."""
        now = datetime.now(UTC)
        again = Scheduled(scheduled_time=now, message=message)  # pyright: ignore[reportArgumentType] Prefect's own type of a time
        await self.client.set_flow_run_state(run.id, again, force=True)

    def logger(self, run: FlowRun) -> PrefectLogAdapter:
        """Logs to the run's page in the Prefect UI."""
        extra = {"worker_name": self.worker_name, "work_pool_name": self.work_pool.name}
        return flow_run_logger(flow_run=run).getChild("worker", extra=extra)


def _until_answered(call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """The call, repeated until the Prefect server answers: nothing is concluded from its absence."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(httpx.HTTPError),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    ).wraps(call)
