"""One run on rented machines, from the first deployment to the end of the run and its job."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass

from infra.errors import InfraError, NosanaError, StateError
from infra.nosana import rental
from infra.nosana.assignment import Assignment, deployment_name, deployment_prefix, known_secrets, number_of
from infra.nosana.client import NosanaClient, NosanaMissing
from infra.nosana.configuration import NosanaJobConfiguration, NosanaWorkerResult
from infra.nosana.diagnosis import DELETED, Diagnosis, Snapshot, diagnose, of_unfinished_run
from infra.nosana.flow_runs import FINAL, OPEN, STOPPED, FlowRun, FlowRuns, StateType
from infra.nosana.job_definition import without_secrets
from infra.nosana.models import Deployment, DeploymentState
from infra.settings import Settings
from infra.untrusted_text import log_line

logger = logging.getLogger(__name__)

LAST_LOG_SECONDS = 15.0
"""How long a container may continue after its run has ended: it sends the last of its log."""
LOG_LINES = 30


@dataclass
class _Clock:
    """When the deployment was queued, its job ended, and its run ended, in seconds since the epoch."""

    queued_at: float
    job_ended_at: float | None = None
    run_ended_at: float | None = None

    def note_run(self, *, has_ended: bool) -> None:
        self.run_ended_at = (self.run_ended_at or time.time()) if has_ended else None

    def waited(self, seen: Snapshot) -> float:
        """Seconds since the last thing that must be followed by another."""
        if seen.has_job_ended:
            self.job_ended_at = self.job_ended_at or time.time()
        return time.time() - (self.job_ended_at or self.queued_at)

    @property
    def is_log_complete(self) -> bool:
        return self.run_ended_at is not None and time.time() - self.run_ended_at > LAST_LOG_SECONDS


@dataclass(frozen=True)
class Watch:
    """A run that this worker has taken, and what it is run with."""

    run: FlowRun
    assignment: Assignment
    configuration: NosanaJobConfiguration
    configured: Settings
    flow_runs: FlowRuns

    async def rent(self) -> Deployment:
        """Rent a machine for the run.

        Raises:
            InfraError: there is no deployment; the run and its job say why.
        """
        async with self._ended_by_failure(), rental.connect(self.configured) as client:
            return await self._rent(client)

    async def to_end(self, deployment: Deployment) -> NosanaWorkerResult:
        """Watch the deployment, and those that follow it while hosts fail before the flow began, to the run's end.

        Raises:
            InfraError: another machine could not be rented; the run and its job say why.
        """
        last = self._number(deployment) + self.configuration.infrastructure_retries
        async with self._ended_by_failure(), rental.connect(self.configured) as client:
            while True:
                diagnosis = await self._watch(client, deployment)
                may_follow = diagnosis is not None and diagnosis.retryable and self._number(deployment) < last
                if not may_follow or await self.flow_runs.state(self.run.id) is not StateType.PENDING:
                    return await self.settle(deployment.id, diagnosis)
                reason = diagnosis.message if diagnosis else ""
                self._logger.warning("%s Another host is rented.", reason)
                deployment = await self._rent(client)

    async def settle(self, identifier: str, found: Diagnosis | None) -> NosanaWorkerResult:
        """End the run and its job. A final state that the run already has counts more than the diagnosis."""
        state = await self.flow_runs.state(self.run.id)
        if state in STOPPED:
            await self.cancel()
        if found is None and state in OPEN and await self._is_attempt_over():
            await self.flow_runs.crash(self.run, "The attempt of its job has ended; its machine was released.")
        if found is None or state not in OPEN:
            return NosanaWorkerResult(identifier=identifier, status_code=0)
        has_begun = state is StateType.RUNNING
        is_lost, found = has_begun and found.is_loss, of_unfinished_run(found, has_begun=has_begun)
        secrets = known_secrets(self.configured)
        for line in found.logs[-LOG_LINES:]:
            self._logger.error("container: %s", without_secrets(log_line(line, 500), secrets))
        await self.flow_runs.crash(self.run, found.message)
        with self._logging_missed_updates():
            if is_lost:
                await asyncio.to_thread(self.assignment.lose, found.cause)
            else:
                await asyncio.to_thread(self.assignment.fail, found.message)
        return NosanaWorkerResult(identifier=identifier, status_code=found.status_code or 1)

    async def cancel(self) -> None:
        """End the run and its job as cancelled."""
        await self.flow_runs.mark_cancelled(self.run, "Cancelled; its machine was released.")
        with self._logging_missed_updates():
            await asyncio.to_thread(self.assignment.cancel)

    async def _rent(self, client: NosanaClient) -> Deployment:
        """A new deployment, the only one of its run: earlier ones are released first."""
        prefix = deployment_prefix(self.flow_runs.work_pool.name)
        earlier = await client.search(f"{prefix}{self.run.id}-")
        await rental.release_all(client, earlier, self.configuration.poll_seconds)
        wanted = self.configuration.market or self.configured.nosana_market
        market = await rental.affordable_market(client, wanted or "", self.configuration.max_usd_per_hour)
        name = deployment_name(prefix, self.run.id, max(map(self._number, earlier), default=0) + 1)
        terms = self.configuration.terms
        body = await asyncio.to_thread(self.assignment.deployment_body, name, terms, market, self.configured)
        deployment = await rental.obtain(client, body)
        self._logger.info("Deployment %s on %s at $%g an hour", deployment.id, market.slug, market.usd_per_hour)
        with self._logging_missed_updates():
            await asyncio.to_thread(self.assignment.note_deployment, deployment.id)
        return deployment

    async def _watch(self, client: NosanaClient, deployment: Deployment) -> Diagnosis | None:
        """Watch the deployment to its end and release it; a worker that is stopped leaves it to the next one."""
        diagnosis = await self._diagnosis(client, deployment)
        if deployment.status is DeploymentState.ARCHIVED:
            return diagnosis  # adopted after its end: it was released, and its cost recorded, before
        if not await rental.release(client, deployment.id, self.configuration.poll_seconds):
            self._logger.error("Deployment %s could not be archived; it is tried again later", deployment.id)
        with self._logging_missed_updates():
            seconds, usd = await rental.cost(client, deployment)
            self._logger.info("The deployment ran for %.0f s and cost $%.4f", seconds, usd)
            await asyncio.to_thread(self.assignment.note_cost, deployment.id, usd)
        return diagnosis

    async def _diagnosis(self, client: NosanaClient, deployment: Deployment) -> Diagnosis | None:
        """What ended the deployment, or None if its run ended first.

        While Nosana is away or refuses the key, this waits: what runs there continues.
        """
        clock = _Clock(deployment.created_at.timestamp())
        while True:
            state = await self.flow_runs.state(self.run.id)
            if state is None or state in STOPPED:
                return None
            clock.note_run(has_ended=state in FINAL or (state in OPEN and await self._is_attempt_over()))
            if clock.is_log_complete:
                return None
            try:
                seen = await rental.look(client, deployment.id)
            except NosanaMissing:
                return DELETED
            except NosanaError as error:
                logger.warning("Deployment %s could not be looked at: %s", deployment.id, error)
            else:
                found = diagnose(seen, clock.waited(seen), self.configuration.queue_limit_minutes * 60)
                if found is not None:
                    return found
            await asyncio.sleep(self.configuration.poll_seconds)

    async def _is_attempt_over(self) -> bool:
        """Whether the attempt is known to have ended; nothing is concluded while Redis is away."""
        try:
            return await asyncio.to_thread(self.assignment.is_over)
        except StateError:
            return False

    @contextlib.asynccontextmanager
    async def _ended_by_failure(self) -> AsyncGenerator[None]:
        """End the run when no machine can be rented. The attempt is lost if the error may pass, else the job fails."""
        try:
            yield
        except InfraError as error:
            if await self.flow_runs.state(self.run.id) in STOPPED:
                await self.cancel()
                raise
            await self.flow_runs.crash(self.run, str(error))
            end = self.assignment.lose if error.may_pass else self.assignment.note_start_error
            with self._logging_missed_updates():
                await asyncio.to_thread(end, str(error))
            raise

    @contextlib.contextmanager
    def _logging_missed_updates(self) -> Generator[None]:
        """Log in the run what its job's record could not take; the run continues."""
        try:
            yield
        except InfraError as error:
            self._logger.warning("The job's record was not updated: %s", error)

    def _number(self, deployment: Deployment) -> int:
        return number_of(deployment_prefix(self.flow_runs.work_pool.name), deployment)

    @property
    def _logger(self) -> logging.LoggerAdapter[logging.Logger]:
        return self.flow_runs.logger(self.run)
