"""The Prefect worker type `nosana`: a flow run becomes a deployment on Nosana, watched to its end.

The container gets one grant and no secret. Beyond what Prefect's own workers do, a run that is cancelled while
it waits is stopped within seconds, a container that ends without touching its run ends the run too, and after
a death of the worker its deployments are taken up again, or released where their run is over.
"""

import asyncio
import contextlib
import fnmatch
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import anyio
import anyio.abc
import httpx
import tenacity
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Crashed, Scheduled
from prefect.workers.base import BaseJobConfiguration, BaseVariables, BaseWorker, BaseWorkerResult
from pydantic import Field

from infra import settings
from infra.errors import ConfigError, InfraError, NosanaError, StateError
from infra.jobs.leases import LEASE_SECONDS, watch_lease
from infra.jobs.store import JobStore
from infra.nosana import rental
from infra.nosana.assignment import Assignment, Terms, job_store, known, known_secrets, name_of, run_and_number, take_on
from infra.nosana.client import NosanaAway, NosanaClient
from infra.nosana.diagnosis import Diagnosis, of_open_run
from infra.nosana.job_definition import without_secrets
from infra.nosana.models import Deployment, DeploymentState, Market
from infra.settings import Settings
from infra.untrusted_text import log_line

T = TypeVar("T")

SWEEP_SECONDS = 30.0
ABANDONED_SECONDS = 30.0
"""How old the state of a run that nobody watches is before it is taken up: the worker that got it may just begin."""
LEAST_MINUTES = 5
"""Minutes that the credits must pay for before a deployment is made; for the rest Nosana asks by itself."""
LOG_LINES = 30
FINAL = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}
OPEN = {StateType.PENDING, StateType.RUNNING}
STOPPED = {StateType.CANCELLING, StateType.CANCELLED}
WORKERS_OWN = ("PREFECT_API_", "PREFECT_HOME", "PREFECT_PROFILE", "PREFECT__")
"""How variables begin that lead to our Prefect server, or that the container gets from us alone."""


class NosanaJobConfiguration(BaseJobConfiguration):
    image: str = Field(default="")
    market: str = Field(default="")
    timeout_minutes: int = Field(default=120, ge=1, le=24 * 60)
    queue_limit_minutes: float = Field(default=30, gt=0, le=24 * 60)
    required_vram: int = Field(default=8, ge=1, le=192)
    required_cuda: list[str] = Field(default_factory=list[str])
    inherit: list[str] = Field(default_factory=list[str])
    poll_seconds: float = Field(default=5, ge=0.05, le=60)
    infrastructure_retries: int = Field(default=1, ge=0, le=3)
    max_usd_per_hour: float | None = Field(default=None, gt=0)

    def prepare_for_flow_run(self, flow_run: FlowRun, *args: Any, **kwargs: Any) -> None:
        """As everywhere, but what Prefect adds to the environment stays here: the worker's own settings are in it."""
        plain = {name: value for name, value in self.env.items() if value is not None}
        super().prepare_for_flow_run(flow_run, *args, **kwargs)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if any(fnmatch.fnmatchcase(name, mark) for mark in self.inherit) and not name.startswith("PREFECT_")
        }
        both = inherited | plain
        self.env = {name: value for name, value in both.items() if not name.startswith(WORKERS_OWN)}

    @property
    def terms(self) -> Terms:
        return Terms(
            image=self.image,
            env={name: value for name, value in self.env.items() if value is not None},
            timeout_minutes=self.timeout_minutes,
            queue_limit_minutes=self.queue_limit_minutes,
            required_vram=self.required_vram,
            required_cuda=self.required_cuda,
        )


class NosanaVariables(BaseVariables):
    """The form of the work pool. No field takes a secret: the worker has its own from its environment."""

    image: str = Field(
        default="", description="Image that the host runs; NOSANA_WORKER_IMAGE of the worker when empty."
    )
    market: str = Field(
        default="", description="Slug or address of the market to rent on; NOSANA_MARKET of the worker when empty."
    )
    timeout_minutes: int = Field(
        default=120, ge=1, le=24 * 60, description="Longest run in minutes; the host stops it then."
    )
    queue_limit_minutes: float = Field(
        default=30, gt=0, le=24 * 60, description="How long a run may wait for a host, in minutes."
    )
    required_vram: int = Field(default=8, ge=1, le=192, title="Required VRAM", description="Gigabytes of GPU memory.")
    required_cuda: list[str] = Field(
        default_factory=list[str],
        title="Required CUDA",
        description="CUDA versions of which the host has one; any when empty.",
    )
    inherit: list[str] = Field(
        default=["RENDER_*", "ASR_BEAM_SIZE", "ASR_MODEL", "MAX_SOURCE_SECONDS", "MAX_SOURCE_BYTES"],
        description="Variables of the worker that the container gets too, by name or pattern; never secrets.",
    )
    poll_seconds: float = Field(default=5, ge=0.05, le=60, description="Seconds between two looks at a deployment.")
    infrastructure_retries: int = Field(
        default=1, ge=0, le=3, description="New deployments after a host failed before the flow had begun."
    )
    max_usd_per_hour: float | None = Field(
        default=None, gt=0, description="Highest price of the market in dollars an hour; any when empty."
    )


class NosanaWorkerResult(BaseWorkerResult):
    """`identifier` is the deployment's id."""


@dataclass(frozen=True)
class Rental:
    """A run that this worker has taken on, and what it is run with."""

    run: FlowRun
    assignment: Assignment
    configuration: NosanaJobConfiguration
    configured: Settings


class NosanaWorker(BaseWorker[NosanaJobConfiguration, NosanaVariables, NosanaWorkerResult]):
    type = "nosana"
    job_configuration = NosanaJobConfiguration
    job_configuration_variables = NosanaVariables
    _display_name = "Nosana"
    _description = "Runs flows in containers on GPUs that are rented on the Nosana market."
    _logo_url = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watched: set[UUID] = set()
        self._last_sweep: float | None = None
        self._jobs: JobStore | None = None

    async def run(
        self,
        flow_run: FlowRun,
        configuration: NosanaJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> NosanaWorkerResult:
        """Rent, watch, release. A host that fails before the flow began is followed by another, a few times."""
        configured = settings.load()
        jobs = self._job_store(configured)
        async with self._watching(flow_run.id, jobs, wait_seconds=configuration.poll_seconds):
            before = await _reachable(self.client.read_flow_run_states)(flow_run.id)
            is_retry = any(state.type in FINAL for state in before)
            given = await asyncio.to_thread(take_on, flow_run.id, flow_run.parameters, jobs, is_retry=is_retry)
            rented = Rental(flow_run, given, configuration, configured)
            if await self._state_type(flow_run.id) is not StateType.PENDING:  # cancelled while this worker waited
                return await self._settle(rented, str(flow_run.id), None)
            return await self._see_through(rented, task_status=task_status)
        return NosanaWorkerResult(identifier=str(flow_run.id), status_code=0)  # another worker has taken it over

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: NosanaJobConfiguration,
        grace_seconds: int = 30,  # noqa: ARG002 Nosana has its own
    ) -> None:
        """Stop and archive the deployment of a run that was cancelled before it began."""
        async with _nosana(settings.load()) as client:
            await rental.release(client, infrastructure_pid, configuration.poll_seconds)

    async def sync_with_backend(self) -> None:
        """The worker's heartbeat; at first and now and then, what a worker that died has left is looked for."""
        await super().sync_with_backend()
        now = time.monotonic()
        is_due = self._last_sweep is None or now - self._last_sweep > SWEEP_SECONDS
        if self._work_pool and self._runs_task_group and is_due:
            self._last_sweep = now
            self._runs_task_group.start_soon(self._sweep)

    async def _see_through(
        self,
        rented: Rental,
        adopted: Deployment | None = None,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> NosanaWorkerResult:
        """From the first deployment, or the one that a worker which died has left, to the end of the run.

        Raises:
            InfraError: no deployment could be made; the run and the job say why.
        """
        try:
            async with _nosana(rented.configured) as client:
                deployment = adopted or await self._rent(rented, client)
                last = self._number(deployment) + rented.configuration.infrastructure_retries
                while True:
                    if task_status:
                        task_status.started(deployment.id)  # pyright: ignore[reportArgumentType] kept as text
                        task_status = None
                    diagnosis = await self._watch(rented, client, deployment)
                    may_try = diagnosis is not None and diagnosis.retryable and self._number(deployment) < last
                    if not may_try or await self._state_type(rented.run.id) is not StateType.PENDING:
                        return await self._settle(rented, deployment.id, diagnosis)
                    said = diagnosis.message if diagnosis else ""
                    self.get_flow_run_logger(rented.run).warning("%s Another host is asked.", said)
                    deployment = await self._rent(rented, client)
        except InfraError as error:
            await self._give_up(rented, error)
            raise

    async def _rent(self, rented: Rental, client: NosanaClient) -> Deployment:
        """A new deployment, the only one of its run: what may be left of an earlier one is released first."""
        run = rented.run
        earlier = await client.search(f"{self._prefix()}{run.id}-")
        await self._release([one for one in earlier if one.status is not DeploymentState.ARCHIVED], client, rented)
        market = await _market(rented.configuration, client, rented.configured)
        await _check_credits(client, market)
        name = name_of(self._prefix(), run.id, max(map(self._number, earlier), default=0) + 1)
        terms, given = rented.configuration.terms, rented.assignment
        body = await asyncio.to_thread(given.body, name, terms, market, rented.configured)
        deployment = await rental.obtain(client, body)
        price = f"${market.usd_per_hour:g} an hour"
        self.get_flow_run_logger(run).info("Deployment %s on %s at %s", deployment.id, market.slug, price)
        with self._telling(run):
            await asyncio.to_thread(given.note_deployment, deployment.id)
        return deployment

    async def _watch(self, rented: Rental, client: NosanaClient, deployment: Deployment) -> Diagnosis | None:
        """What became of the deployment, which is released then; None where its run did not want it any more."""
        settled, poll = rented.configuration, rented.configuration.poll_seconds

        async def wanted() -> bool | None:
            state = await self._state_type(rented.run.id)
            if state is None or state in STOPPED:
                return False
            return None if state in FINAL or (state in OPEN and await self._is_over(rented)) else True

        # A worker that is stopped leaves the deployment to the next one: nothing here is undone then.
        diagnosis = await rental.watch(client, deployment, wanted, poll, settled.queue_limit_minutes * 60)
        if deployment.status is DeploymentState.ARCHIVED:
            return diagnosis  # adopted after its end: it was released and counted before
        released = await rental.release(client, deployment.id, poll)
        logger = self.get_flow_run_logger(rented.run)
        if not released:
            logger.error("Deployment %s could not be archived; it is tried again later", deployment.id)
        with self._telling(rented.run):
            seconds, usd = await rental.cost(client, deployment)
            logger.info("The deployment ran for %.0f s and cost $%.4f", seconds, usd)
            await asyncio.to_thread(rented.assignment.note_cost, deployment.id, usd)
        return diagnosis

    async def _settle(self, rented: Rental, identifier: str, found: Diagnosis | None) -> NosanaWorkerResult:
        """End the run and the job. Prefect's own final state of the run is believed before what Nosana says."""
        state = await self._state_type(rented.run.id)
        if state in STOPPED:
            await self._cancel(rented)
        if found is None and state in OPEN and await self._is_over(rented):
            await self._propose_crashed_state(rented.run, "The attempt of its job has ended; its machine was released.")
        if found is None or state not in OPEN:
            return NosanaWorkerResult(identifier=identifier, status_code=0)
        has_begun = state is StateType.RUNNING
        is_lost, found = has_begun and found.is_loss, of_open_run(found, has_begun=has_begun)
        secrets = known_secrets(rented.configured)
        logger = self.get_flow_run_logger(rented.run)
        for line in found.logs[-LOG_LINES:]:
            logger.error("container: %s", without_secrets(log_line(line, 500), secrets))
        await self._propose_crashed_state(rented.run, found.message)
        with self._telling(rented.run):
            if is_lost:
                await asyncio.to_thread(rented.assignment.lose, found.cause)
            else:
                await asyncio.to_thread(rented.assignment.fail, found.message)
        return NosanaWorkerResult(identifier=identifier, status_code=found.status_code or 1)

    async def _is_over(self, rented: Rental) -> bool:
        """Whether the attempt is known to have ended; a Redis that is away says nothing."""
        try:
            return await asyncio.to_thread(rented.assignment.is_over)
        except StateError:
            return False

    async def _cancel(self, rented: Rental) -> None:
        await self._mark_flow_run_as_cancelled(rented.run, {"message": "Cancelled; nothing of it is left on Nosana."})
        with self._telling(rented.run):
            await asyncio.to_thread(rented.assignment.cancel)

    async def _give_up(self, rented: Rental, error: InfraError) -> None:
        """No host was rented. The run says why; the attempt is lost if the error may pass, else the job fails."""
        if await self._state_type(rented.run.id) in STOPPED:
            await self._cancel(rented)
            return
        await self._propose_crashed_state(rented.run, str(error))
        end = rented.assignment.lose if error.may_pass else rented.assignment.note_start_error
        with self._telling(rented.run):
            await asyncio.to_thread(end, str(error))

    async def _release(self, deployments: list[Deployment], client: NosanaClient, rented: Rental) -> None:
        for one in deployments:
            if not await rental.release(client, one.id, rented.configuration.poll_seconds):
                raise NosanaAway(f"The run's earlier deployment {one.id} could not be archived.", unsure=False)

    @contextlib.asynccontextmanager
    async def _watching(self, run_id: UUID, jobs: JobStore, wait_seconds: float | None = None) -> AsyncGenerator[bool]:
        """Whether nobody else watches the run; `wait_seconds` are between two tries, None tries once.

        Held by a lease in Redis, which a death leaves to run out. What stands in the context is cancelled, without
        an error, when the lease was lost: this machine slept, and another worker has taken the run over.
        """
        lease, scope = watch_lease(str(run_id)), anyio.CancelScope()
        while not await self._take(run_id, lease, jobs):
            if wait_seconds is None:
                yield False
                return
            await asyncio.sleep(wait_seconds)
        renewing = asyncio.create_task(self._renew(lease, jobs, scope))
        try:
            with scope:
                yield True
        finally:
            renewing.cancel()
            self._watched.discard(run_id)
            with contextlib.suppress(StateError):
                jobs.leases.release(lease)

    async def _take(self, run_id: UUID, lease: str, jobs: JobStore) -> bool:
        """Whether this caller alone watches the run from now on; the lease only keeps other workers out."""
        if run_id in self._watched:
            return False
        self._watched.add(run_id)
        held = False
        try:
            held = await asyncio.to_thread(jobs.leases.hold, lease)
        finally:
            if not held:
                self._watched.discard(run_id)
        return held

    async def _renew(self, lease: str, jobs: JobStore, scope: anyio.CancelScope) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            try:
                held = await asyncio.to_thread(jobs.leases.hold, lease)
            except StateError as error:
                self._logger.warning("The lease %s could not be renewed: %s", lease, error)
                continue
            if not held:
                self._logger.warning("Another worker holds the lease %s; its run is left to it", lease)
                scope.cancel()
                return

    async def _sweep(self) -> None:
        """Take up runs that nobody watches, and release deployments whose run is over."""
        await self._survive(self._take_up(), "Runs that nobody watches could not be looked for")
        await self._survive(self._release_orphans(), "Deployments that nobody needs could not be looked for")

    async def _survive(self, work: Awaitable[None], failed: str) -> None:
        """A fault in looking after what others left must not end the worker, which has runs of its own."""
        try:
            await work
        except Exception:
            self._logger.exception("%s; it is tried again later", failed)

    async def _release_orphans(self) -> None:
        configured = settings.load()
        jobs = self._job_store(configured)
        async with _nosana(configured) as client:
            for deployment in await client.unarchived(self._prefix()):
                made_for = run_and_number(self._prefix(), deployment)
                if made_for is None or await self._state_type(made_for[0]) not in {*FINAL, None}:
                    continue
                async with self._watching(made_for[0], jobs) as held:
                    if held:
                        self._logger.warning("Deployment %s belongs to no open run; it is released", deployment.id)
                        await rental.release(client, deployment.id, 1)

    async def _take_up(self) -> None:
        for run in await self._open_runs():
            ours = run.id in self._watched or run.id in self._submitting_flow_run_ids
            if not ours and _is_abandoned(run) and self._runs_task_group:
                self._runs_task_group.start_soon(self._survive, self._adopt(run), f"Run {run.id} could not be taken up")

    async def _adopt(self, run: FlowRun) -> None:
        configured = settings.load()
        jobs = self._job_store(configured)
        async with self._watching(run.id, jobs) as held:
            if not held or await self._state_type(run.id) in {*FINAL, StateType.SCHEDULED, None}:
                return
            given = await asyncio.to_thread(known, run.id, run.parameters, jobs)
            rented = Rental(run, given, await self._configuration_of(run), configured)
            async with _nosana(configured) as client:
                made = sorted(await client.search(f"{self._prefix()}{run.id}-"), key=self._number)
                if not made:
                    await self._set_right(rented)
                    return
                await self._release(
                    [one for one in made[:-1] if one.status is not DeploymentState.ARCHIVED], client, rented
                )
            self.get_flow_run_logger(run).warning("Worker %s watches this run from here on", self.name)
            await self._see_through(rented, made[-1])

    async def _configuration_of(self, run: FlowRun) -> NosanaJobConfiguration:
        """What the run was submitted with; the defaults where its Prefect deployment was deleted since."""
        try:
            return await self.job_configuration.resolve_for_flow_run(
                run, client=self.client, work_pool=self.work_pool, worker_name=self.name, worker_id=self.backend_id
            )
        except ObjectNotFound:
            return NosanaJobConfiguration(infrastructure_retries=0)

    async def _set_right(self, rented: Rental) -> None:
        """A run for which nothing was rented, or no trace is left of it: one that has not begun waits again."""
        run = rented.run
        state = await self._state_type(run.id)
        if state is StateType.PENDING:
            again = Scheduled(scheduled_time=datetime.now(UTC), message="The worker died before it rented anything.")  # pyright: ignore[reportArgumentType] Prefect's own type of a time
            await self.client.set_flow_run_state(run.id, again, force=True)
        elif state in STOPPED:
            await self._cancel(rented)
        else:
            lost = "The deployment that ran it is no more."
            await self.client.set_flow_run_state(run.id, Crashed(message=lost), force=True)
            await asyncio.to_thread(rented.assignment.lose, lost)

    async def _open_runs(self) -> list[FlowRun]:
        states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        return await self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[self.work_pool.name])),
        )

    async def _state_type(self, run_id: UUID) -> StateType | None:
        """The run's state; None where the run was deleted. A Prefect server that is away is waited for."""
        try:
            run = await _reachable(self.client.read_flow_run)(run_id)
        except ObjectNotFound:
            return None
        return run.state.type if run.state else StateType.PENDING

    @contextlib.contextmanager
    def _telling(self, run: FlowRun) -> Generator[None]:
        """What the job could not be told is said in the run's log; the run goes on."""
        try:
            yield
        except InfraError as error:
            self.get_flow_run_logger(run).warning("The job was not told: %s", error)

    def _job_store(self, configured: Settings) -> JobStore:
        """One for the worker's life: leases are this object's."""
        self._jobs = self._jobs or job_store(configured)
        return self._jobs

    def _prefix(self) -> str:
        """How the deployments of this pool are called; the run's id and a number follow."""
        return f"kangklip-{self.work_pool.name}-"

    def _number(self, deployment: Deployment) -> int:
        """The how many'th of its run the deployment is; 0 where it is not ours."""
        made_for = run_and_number(self._prefix(), deployment)
        return made_for[1] if made_for else 0


@contextlib.asynccontextmanager
async def _nosana(configured: Settings) -> AsyncGenerator[NosanaClient]:
    if configured.nosana_api_key is None:
        raise ConfigError("The Nosana worker needs NOSANA_API_KEY.")
    async with NosanaClient(configured.nosana_api_base, configured.nosana_api_key) as client:
        yield client


async def _market(configuration: NosanaJobConfiguration, client: NosanaClient, configured: Settings) -> Market:
    wanted = configuration.market or configured.nosana_market
    if not wanted:
        raise ConfigError("No market is named; set NOSANA_MARKET, or the work pool's market.")
    market = await client.market(wanted)
    limit = configuration.max_usd_per_hour
    if limit is not None and market.usd_per_hour > limit:
        raise ConfigError(f"Market {market.slug} costs ${market.usd_per_hour:g} an hour; the pool allows ${limit:g}.")
    return market


async def _check_credits(client: NosanaClient, market: Market) -> None:
    left = (await client.credits()).available
    if left < market.usd_per_hour * LEAST_MINUTES / 60:
        raise NosanaError(f"The Nosana account has ${left:.2f} of credits left; top it up, then start the job again.")


def _reachable(ask: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """The call, made until the Prefect server answers; only what it says counts, its absence says nothing."""
    return tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(httpx.HTTPError),
        wait=tenacity.wait_random_exponential(multiplier=0.2, max=10),
    ).wraps(ask)


def _is_abandoned(run: FlowRun) -> bool:
    since = run.state.timestamp if run.state else None
    return since is None or (datetime.now(UTC) - since).total_seconds() > ABANDONED_SECONDS
