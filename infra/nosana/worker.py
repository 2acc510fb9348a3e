"""The Prefect worker type `nosana`: a flow run becomes a deployment on Nosana, watched to its end.

The container gets one grant and no secret. Beyond what Prefect's own workers do, a run that is cancelled while
it waits is stopped within seconds, a container that ends without touching its run ends the run too, and after
a death of the worker its deployments are taken up again, or released where their run is over.
"""

import asyncio
import contextlib
import fnmatch
import json
import os
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import anyio.abc
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
from pydantic import Field, SecretStr

from infra import grants, settings
from infra.errors import ConfigError, InfraError, NosanaError
from infra.jobs import JobStore, Report, job_id_of_run
from infra.nosana import rental
from infra.nosana.client import NosanaClient
from infra.nosana.diagnosis import Diagnosis
from infra.nosana.job_definition import GRANT_VARIABLE, build, deployment_body
from infra.nosana.models import Deployment, DeploymentState, Market
from infra.settings import Settings
from infra.states import JobState

GRANT_MARGIN_MINUTES = 10
"""A grant may be redeemed so long after the queue limit: a host pulls the image first."""
SWEEP_SECONDS = 60.0
ABANDONED_SECONDS = 60.0
"""How old a run's state is before a worker that does not know the run takes it up."""
LEAST_MINUTES = 5
"""Minutes that the credits must pay for before a deployment is made; for the rest Nosana asks by itself."""
LOG_LINES = 30
FINAL = {StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED}
STOPPED = {StateType.CANCELLING, StateType.CANCELLED}


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
        inherited = [name for name in os.environ if any(fnmatch.fnmatchcase(name, mark) for mark in self.inherit)]
        self.env = {**{name: os.environ[name] for name in inherited}, **plain}


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
class Assignment:
    """A run, the job that it belongs to, and what it is run with."""

    run: FlowRun
    job_id: str
    configuration: NosanaJobConfiguration


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
        self._last_sweep = 0.0

    async def run(
        self,
        flow_run: FlowRun,
        configuration: NosanaJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> NosanaWorkerResult:
        """Rent, watch, release. A host that fails before the flow began is followed by another, a few times."""
        self._watched.add(flow_run.id)
        try:
            given = Assignment(flow_run, _job_id(flow_run), configuration)
            return await self._rented(given, task_status)
        finally:
            self._watched.discard(flow_run.id)

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
        """The worker's heartbeat; now and then what other workers have left is looked for."""
        await super().sync_with_backend()
        if self._work_pool and self._runs_task_group and time.monotonic() - self._last_sweep > SWEEP_SECONDS:
            self._last_sweep = time.monotonic()
            self._runs_task_group.start_soon(self._sweep)

    async def _rented(
        self, given: Assignment, task_status: anyio.abc.TaskStatus[int] | None = None
    ) -> NosanaWorkerResult:
        configured = settings.load()
        async with _nosana(configured) as client:
            while True:
                try:
                    deployment, market, number = await self._obtained(given, client, configured)
                except InfraError as error:
                    await self._not_started(given, str(error), configured)
                    raise
                if task_status:
                    task_status.started(deployment.id)  # pyright: ignore[reportArgumentType] kept as text
                    task_status = None
                diagnosis = await self._watched_to_end(given, client, deployment, market, configured)
                again = (
                    diagnosis is not None
                    and diagnosis.retryable
                    and number <= given.configuration.infrastructure_retries
                )
                if not again or await self._has_begun(given.run.id):
                    return await self._ended(given, deployment, diagnosis, configured)
                self.get_flow_run_logger(given.run).warning(
                    "%s Another host is asked.", diagnosis.message if diagnosis else ""
                )

    async def _obtained(
        self, given: Assignment, client: NosanaClient, configured: Settings
    ) -> tuple[Deployment, Market, int]:
        """The run's deployment, an earlier one that lives or a new one; its market; and the how many'th it is."""
        prefix = f"{self._prefix()}{given.run.id}-"
        market = await _market(given.configuration, client, configured)
        earlier = await client.search(prefix)
        live = [one for one in earlier if one.status is not DeploymentState.ARCHIVED]
        if live:
            return live[0], market, len(earlier)
        await _check_credits(client, market)
        body = await asyncio.to_thread(_body, f"{prefix}{len(earlier) + 1}", given, market, configured)
        deployment = await rental.obtain(client, body)
        logger = self.get_flow_run_logger(given.run)
        logger.info("Deployment %s on %s at $%g an hour", deployment.id, market.slug, market.usd_per_hour)
        await asyncio.to_thread(_note_deployment, given, deployment.id, configured)
        return deployment, market, len(earlier) + 1

    async def _watched_to_end(
        self, given: Assignment, client: NosanaClient, deployment: Deployment, market: Market, configured: Settings
    ) -> Diagnosis | None:
        """What became of the deployment, which is released then."""
        poll = given.configuration.poll_seconds

        async def wanted() -> bool | None:
            state = await self._state_type(given.run.id)
            return False if state is None or state in STOPPED else None if state in FINAL else True

        # A worker that is stopped leaves the deployment to the next one: nothing here is undone then.
        diagnosis = await rental.watch(client, deployment, wanted, poll, given.configuration.queue_limit_minutes * 60)
        released = await rental.release(client, deployment.id, poll)
        logger = self.get_flow_run_logger(given.run)
        if not released:
            logger.error("Deployment %s could not be archived; it is tried again later", deployment.id)
        with contextlib.suppress(NosanaError):
            seconds, usd = await rental.cost(client, deployment.id, market.usd_per_hour)
            logger.info("The deployment ran for %.0f s and cost $%.4f", seconds, usd)
            await asyncio.to_thread(_note_cost, given.job_id, usd, configured)
        return diagnosis

    async def _ended(
        self, given: Assignment, deployment: Deployment, diagnosis: Diagnosis | None, configured: Settings
    ) -> NosanaWorkerResult:
        """Settle the run and the job. Prefect's own final state of the run is believed before what Nosana says."""
        state = await self._state_type(given.run.id)
        if state in STOPPED:
            await self._mark_flow_run_as_cancelled(given.run, {"message": "Cancelled; its deployment is archived."})
            await asyncio.to_thread(_fail_job, given, "Cancelled.", configured)
            return NosanaWorkerResult(identifier=deployment.id, status_code=0)
        if state is None or state in FINAL:
            return NosanaWorkerResult(identifier=deployment.id, status_code=0)
        found = diagnosis or Diagnosis(status_code=1, summary="The deployment went away.")
        if found.status_code == 0:
            found = Diagnosis(status_code=1, summary="The container ended without running the flow.", logs=found.logs)
        logger = self.get_flow_run_logger(given.run)
        for line in found.logs[-LOG_LINES:]:
            logger.error("container: %s", _printable(line))
        await self._propose_crashed_state(given.run, found.message)
        await asyncio.to_thread(_fail_job, given, found.message, configured)
        return NosanaWorkerResult(identifier=deployment.id, status_code=found.status_code or 1)

    async def _not_started(self, given: Assignment, why: str, configured: Settings) -> None:
        """The job says why; the run gets it from the exception."""
        with contextlib.suppress(InfraError):
            await asyncio.to_thread(_note_start_error, given, why, configured)

    async def _sweep(self) -> None:
        """Take up what a worker that died has left: its runs are watched again, its orphans released."""
        try:
            await self._take_up()
        except InfraError as error:
            self._logger.warning("What other workers left could not be looked for: %s", error)

    async def _take_up(self) -> None:
        runs = {run.id: run for run in await self._open_runs()}
        async with _nosana(settings.load()) as client:
            found = await client.search(self._prefix())
            live = {_run_of(one): one for one in found if one.status is not DeploymentState.ARCHIVED}
            for run_id, deployment in live.items():
                if run_id not in runs and run_id not in self._watched:
                    self._logger.warning("Deployment %s belongs to no open run; it is released", deployment.id)
                    await rental.release(client, deployment.id, 1)
        for run_id, run in runs.items():
            if run_id in self._watched or not _is_abandoned(run):
                continue
            if run_id in live:
                self._start_adopting(run)
            else:
                await self._set_right(run)

    def _start_adopting(self, run: FlowRun) -> None:
        self._watched.add(run.id)
        if self._runs_task_group:
            self._runs_task_group.start_soon(self._adopt, run)

    async def _adopt(self, run: FlowRun) -> None:
        self.get_flow_run_logger(run).warning("Worker %s watches this run from here on", self.name)
        try:
            configuration = await self.job_configuration.resolve_for_flow_run(
                run, client=self.client, work_pool=self.work_pool, worker_name=self.name, worker_id=self.backend_id
            )
            await self._rented(Assignment(run, _job_id(run), configuration))
        except (InfraError, ObjectNotFound) as error:
            self._logger.warning("Run %s could not be taken up: %s", run.id, error)
        finally:
            self._watched.discard(run.id)

    async def _set_right(self, run: FlowRun) -> None:
        """A run without a deployment: one that never had any waits again, another has lost it."""
        state = run.state.type if run.state else None
        if state is StateType.PENDING:
            again = Scheduled(scheduled_time=datetime.now(UTC), message="The worker died before it rented anything.")  # pyright: ignore[reportArgumentType] Prefect's own type of a time
            await self.client.set_flow_run_state(run.id, again, force=True)
        elif state is StateType.CANCELLING:
            await self._mark_flow_run_as_cancelled(run)
        else:
            lost = Crashed(message="The deployment that ran it is no more. Start the job again.")
            await self.client.set_flow_run_state(run.id, lost, force=True)

    async def _open_runs(self) -> list[FlowRun]:
        states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        return await self.client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states))),
            work_pool_filter=WorkPoolFilter(name=WorkPoolFilterName(any_=[self.work_pool.name])),
        )

    async def _state_type(self, run_id: UUID) -> StateType | None:
        """The run's state; None where the run was deleted."""
        try:
            run = await self.client.read_flow_run(run_id)
        except ObjectNotFound:
            return None
        return run.state.type if run.state else StateType.PENDING

    async def _has_begun(self, run_id: UUID) -> bool:
        return await self._state_type(run_id) is not StateType.PENDING

    def _prefix(self) -> str:
        """How the deployments of this pool are called; the run's id and a number follow."""
        return f"kangklip-{self.work_pool.name}-"


@contextlib.asynccontextmanager
async def _nosana(configured: Settings) -> AsyncGenerator[NosanaClient]:
    if configured.nosana_api_key is None:
        raise ConfigError("The Nosana worker needs NOSANA_API_KEY.")
    async with NosanaClient(configured.nosana_api_base, configured.nosana_api_key) as client:
        yield client


def _job_id(run: FlowRun) -> str:
    """The job of the run, its own where it was started without one."""
    return str(run.parameters.get("job_id") or job_id_of_run(str(run.id)))


def _jobs(configured: Settings) -> JobStore:
    store = JobStore.from_settings(configured)
    if store is None:
        raise ConfigError("The Nosana worker needs REDIS_URL; it tells jobs what became of their runs.")
    return store


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


def _body(name: str, given: Assignment, market: Market, configured: Settings) -> dict[str, Any]:
    """What is asked of Nosana: the job is recorded first, for the grant names its attempt."""
    image = given.configuration.image or configured.nosana_worker_image
    if not image:
        raise ConfigError("No image is named; set NOSANA_WORKER_IMAGE, or the work pool's image.")
    if configured.callback_base_url is None:
        raise ConfigError("Set CALLBACK_BASE_URL: the address at which a container reaches this service's API.")
    queue, session = given.configuration.queue_limit_minutes + GRANT_MARGIN_MINUTES, given.configuration.timeout_minutes
    grant = grants.issue(
        configured, given.job_id, str(given.run.id), _attempt(given, configured), int(queue * 60), session * 60
    )
    env = {
        **{name: str(value) for name, value in given.configuration.env.items()},
        "KANGKLIP_API_URL": configured.callback_base_url,
        "PREFECT__FLOW_RUN_ID": str(given.run.id),
        GRANT_VARIABLE: grant,
    }
    asked = given.configuration
    definition = build(image, env, asked.required_vram, asked.required_cuda, _secrets(configured))
    return deployment_body(name, market.address, asked.timeout_minutes, definition)


def _attempt(given: Assignment, configured: Settings) -> int:
    """The attempt that this run will be: the job's own while it waits, else the one after."""
    store = _jobs(configured)
    request = given.run.parameters.get("request")
    if not isinstance(request, dict):
        raise ConfigError("Only runs of the flow clip go to Nosana; this one has no request.")
    store.create(given.job_id, json.dumps(request))
    job = store.get(given.job_id)
    if job is None or job.status is JobState.SUCCEEDED:
        raise ConfigError(f"Job {given.job_id} has succeeded already.")
    if job.flow_run_id != str(given.run.id):
        store.set_run(given.job_id, str(given.run.id))
    return job.attempt if job.status is JobState.QUEUED else job.attempt + 1


def _secrets(configured: Settings) -> list[SecretStr]:
    return [value for name in Settings.model_fields if isinstance(value := getattr(configured, name), SecretStr)]


def _note_deployment(given: Assignment, deployment_id: str, configured: Settings) -> None:
    _jobs(configured).set_deployment(given.job_id, deployment_id)


def _note_cost(job_id: str, usd: float, configured: Settings) -> None:
    _jobs(configured).add_cost(job_id, usd)


def _note_start_error(given: Assignment, why: str, configured: Settings) -> None:
    _jobs(configured).set_start_error(given.job_id, why)
    _fail_job(given, why, configured)


def _fail_job(given: Assignment, why: str, configured: Settings) -> None:
    report = Report(job_id=given.job_id, attempt=None, status=JobState.FAILED, error=why, message=why)
    _jobs(configured).report(report)


def _run_of(deployment: Deployment) -> UUID | None:
    """The run in the deployment's name, which ends with its id and a number."""
    try:
        return UUID(deployment.name.rpartition("-")[0][-36:])
    except ValueError:
        return None


def _is_abandoned(run: FlowRun) -> bool:
    since = run.state.timestamp if run.state else None
    return since is None or (datetime.now(UTC) - since).total_seconds() > ABANDONED_SECONDS


def _printable(line: str) -> str:
    """A line of a stranger's machine, without control characters, and not long."""
    return "".join(c if c.isprintable() else " " for c in line)[:500].rstrip()
