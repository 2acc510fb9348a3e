"""Runs a flow run on rented machines: rents, watches and releases them, and ends the run and its job."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass

from infra.errors import InfraError, NosanaError, StateError
from infra.nosana import rental
from infra.nosana.assignment import Assignment, deployment_name, deployment_number, deployment_prefix, known_secrets
from infra.nosana.client import NosanaClient, NosanaNotFound
from infra.nosana.configuration import NosanaJobConfiguration, NosanaWorkerResult
from infra.nosana.diagnosis import DELETED, Diagnosis, Snapshot, diagnose, diagnose_unfinished_run
from infra.nosana.flow_runs import FINAL, OPEN, STOPPED, FlowRun, FlowRuns, StateType
from infra.nosana.job_definition import without_secrets
from infra.nosana.models import Deployment, DeploymentState
from infra.settings import Settings
from infra.untrusted_text import log_line

logger = logging.getLogger(__name__)

LAST_LOG_SECONDS = 15.0
"""How long a container may continue after its run has ended, to send the rest of its log."""
LOG_LINES = 30


@dataclass
class _Clock:
    """When the deployment was queued, when its job ended, and when its run ended, in seconds since the epoch."""

    queued_at: float
    job_ended_at: float | None = None
    run_ended_at: float | None = None

    def update_run(self, *, has_ended: bool) -> None:
        self.run_ended_at = (self.run_ended_at or time.time()) if has_ended else None

    def seconds_waiting(self, snapshot: Snapshot) -> float:
        """Seconds since the job ended, or since the deployment was queued if the job has not ended."""
        if snapshot.has_job_ended:
            self.job_ended_at = self.job_ended_at or time.time()
        return time.time() - (self.job_ended_at or self.queued_at)

    @property
    def is_log_complete(self) -> bool:
        return self.run_ended_at is not None and time.time() - self.run_ended_at > LAST_LOG_SECONDS


@dataclass(frozen=True)
class Watch:
    """A run that this worker has taken, with its assignment and configuration."""

    run: FlowRun
    assignment: Assignment
    configuration: NosanaJobConfiguration
    configured: Settings
    flow_runs: FlowRuns

    async def rent(self) -> Deployment:
        """Rent a machine for the run.

        Raises:
            InfraError: no machine was rented. The run and its job have ended with the reason.
        """
        async with self._ending_run_on_failure(), rental.connect(self.configured) as client:
            return await self._rent(client)

    async def watch_to_end(self, deployment: Deployment) -> NosanaWorkerResult:
        """Watch the deployment until the run ends, and replace it if its host fails before the flow begins.

        Raises:
            InfraError: another machine could not be rented. The run and its job have ended with the reason.
        """
        last = self._number(deployment) + self.configuration.infrastructure_retries
        async with self._ending_run_on_failure(), rental.connect(self.configured) as client:
            while True:
                diagnosis = await self._watch(client, deployment)
                may_retry = diagnosis is not None and diagnosis.retryable and self._number(deployment) < last
                if not may_retry or await self.flow_runs.state(self.run.id) is not StateType.PENDING:
                    return await self.end_run(deployment.id, diagnosis)
                reason = diagnosis.message if diagnosis else ""
                self._logger.warning("%s Renting another host.", reason)
                deployment = await self._rent(client)

    async def end_run(self, identifier: str, found: Diagnosis | None) -> NosanaWorkerResult:
        """End the run and its job. If the run already has a final state, the diagnosis is ignored."""
        state = await self.flow_runs.state(self.run.id)
        if state in STOPPED:
            await self.cancel()
        if found is None and state in OPEN and await self._is_attempt_over():
            await self.flow_runs.crash(self.run, "The attempt of its job has ended; its machine was released.")
        if found is None or state not in OPEN:
            return NosanaWorkerResult(identifier=identifier, status_code=0)
        found = diagnose_unfinished_run(found, has_begun=state is StateType.RUNNING)
        secrets = known_secrets(self.configured)
        for line in found.logs[-LOG_LINES:]:
            self._logger.error("container: %s", without_secrets(log_line(line, 500), secrets))
        await self.flow_runs.crash(self.run, found.message)
        with self._logging_missed_updates():
            end = self.assignment.mark_lost if found.is_loss else self.assignment.fail
            await asyncio.to_thread(end, found.message)
        return NosanaWorkerResult(identifier=identifier, status_code=found.status_code or 1)

    async def cancel(self) -> None:
        """End the run and its job as cancelled."""
        await self.flow_runs.mark_cancelled(self.run, "Cancelled; its machine was released.")
        with self._logging_missed_updates():
            await asyncio.to_thread(self.assignment.cancel)

    async def _rent(self, client: NosanaClient) -> Deployment:
        """Rent a machine, after releasing the run's earlier deployments."""
        prefix = deployment_prefix(self.flow_runs.work_pool.name)
        earlier = await client.search(f"{prefix}{self.run.id}-")
        await rental.release_all(client, earlier, self.configuration.poll_seconds)
        wanted = self.configuration.market or self.configured.nosana_market
        market = await rental.affordable_market(client, wanted or "", self.configuration.max_usd_per_hour)
        name = deployment_name(prefix, self.run.id, max(map(self._number, earlier), default=0) + 1)
        spec = self.configuration.spec
        body = await asyncio.to_thread(self.assignment.deployment_body, name, spec, market, self.configured)
        deployment = await rental.ensure_started(client, body)
        self._logger.info("Created deployment %s on %s at $%g an hour", deployment.id, market.slug, market.usd_per_hour)
        with self._logging_missed_updates():
            await asyncio.to_thread(self.assignment.record_deployment, deployment.id)
        return deployment

    async def _watch(self, client: NosanaClient, deployment: Deployment) -> Diagnosis | None:
        """Watch the deployment until it ends, and release it. A worker that is stopped leaves that to the next one."""
        diagnosis = await self._diagnosis(client, deployment)
        if deployment.status is DeploymentState.ARCHIVED:
            return diagnosis  # it was adopted after its end, and has already been released and paid for
        if not await rental.release(client, deployment.id, self.configuration.poll_seconds):
            self._logger.error("Deployment %s could not be archived; the next sweep tries again", deployment.id)
        with self._logging_missed_updates():
            seconds, usd = await rental.cost(client, deployment)
            self._logger.info("The deployment ran for %.0f s and cost $%.4f", seconds, usd)
            await asyncio.to_thread(self.assignment.record_cost, deployment.id, usd)
        return diagnosis

    async def _diagnosis(self, client: NosanaClient, deployment: Deployment) -> Diagnosis | None:
        """Wait for the end, and return what ended the deployment, or None if its run ended first.

        Keeps waiting while Nosana is unreachable or refuses the key: the deployment continues meanwhile.
        """
        clock = _Clock(deployment.created_at.timestamp())
        while True:
            state = await self.flow_runs.state(self.run.id)
            if state is None or state in STOPPED:
                return None
            clock.update_run(has_ended=state in FINAL or (state in OPEN and await self._is_attempt_over()))
            if clock.is_log_complete:
                return None
            try:
                snapshot = await rental.take_snapshot(client, deployment.id)
            except NosanaNotFound:
                return DELETED
            except NosanaError as error:
                logger.warning("Deployment %s could not be read: %s", deployment.id, error)
            else:
                waited = clock.seconds_waiting(snapshot)
                found = diagnose(snapshot, waited, self.configuration.queue_limit_minutes * 60)
                if found is not None:
                    return found
            await asyncio.sleep(self.configuration.poll_seconds)

    async def _is_attempt_over(self) -> bool:
        """Whether the attempt is known to have ended; False if Redis does not answer."""
        try:
            return await asyncio.to_thread(self.assignment.has_ended)
        except StateError:
            return False

    @contextlib.asynccontextmanager
    async def _ending_run_on_failure(self) -> AsyncGenerator[None]:
        """End the run if the body fails. After a transient error the attempt is retried; otherwise the job fails."""
        try:
            yield
        except InfraError as error:
            if await self.flow_runs.state(self.run.id) in STOPPED:
                await self.cancel()
                raise
            await self.flow_runs.crash(self.run, str(error))
            end = self.assignment.mark_lost if error.is_transient else self.assignment.record_start_failure
            with self._logging_missed_updates():
                await asyncio.to_thread(end, str(error))
            raise

    @contextlib.contextmanager
    def _logging_missed_updates(self) -> Generator[None]:
        """Log it in the run if its job's record could not be updated, and continue."""
        try:
            yield
        except InfraError as error:
            self._logger.warning("The job's record was not updated: %s", error)

    def _number(self, deployment: Deployment) -> int:
        return deployment_number(deployment_prefix(self.flow_runs.work_pool.name), deployment)

    @property
    def _logger(self) -> logging.LoggerAdapter[logging.Logger]:
        return self.flow_runs.logger(self.run)
