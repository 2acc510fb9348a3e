"""An assignment: the attempt, at a job or at a recut, that a flow run on Nosana executes.

Updates the job's record and describes the host.

This module does not know Prefect. Calls to Redis block.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import tenacity
from pydantic import SecretStr

from infra.errors import ConfigError, JobConflict, StateError
from infra.granted import grant as grants
from infra.jobs.ids import JOB_ID, job_id_of_run
from infra.jobs.record import CANCELLED, JobRef
from infra.jobs.store import JobStore
from infra.nosana.job_definition import GRANT_VARIABLE, build, deployment_body
from infra.nosana.models import Deployment, Market
from infra.settings import Settings
from infra.states import JobState

GRANT_MARGIN_MINUTES = 10
"""How long a grant outlives the queue limit: the host pulls the image before the container redeems the grant."""
_SHORTEST_SECRET = 8
"""In characters. Shorter parts of a secret setting also occur in harmless text."""
_retrying_redis = tenacity.retry(
    retry=tenacity.retry_if_exception_type(StateError),
    wait=tenacity.wait_exponential(multiplier=0.2, max=5),
    stop=tenacity.stop_after_delay(60),
    reraise=True,
)


@dataclass(frozen=True)
class ContainerSpec:
    """The container of a run and the host it needs. An empty `image` means NOSANA_WORKER_IMAGE.

    `required_vram` is in gigabytes; `required_cuda` lists acceptable CUDA versions, or is empty for any.
    """

    image: str
    env: Mapping[str, str]
    timeout_minutes: int
    queue_limit_minutes: float
    required_vram: int
    required_cuda: Iterable[str]


@dataclass(frozen=True)
class Assignment:
    """A flow run and the attempt it executes. Methods raise `StateError` if Redis does not answer for a minute.

    Once the job, or the recut, is at a later attempt, they change nothing.
    """

    run_id: UUID
    job: JobRef
    jobs: JobStore

    @_retrying_redis
    def record_deployment(self, deployment_id: str) -> None:
        self.jobs.set_deployment(self.job, deployment_id)

    @_retrying_redis
    def record_cost(self, deployment_id: str, usd: float) -> None:
        self.jobs.add_cost(self.job.job_id, deployment_id, usd)

    @_retrying_redis
    def record_start_failure(self, why: str) -> None:
        if self.job.revision is None:
            self.jobs.start_failed(self.job.job_id, self.job.attempt, why, str(self.run_id))
        else:
            self._end(why)

    @_retrying_redis
    def fail(self, why: str) -> None:
        """End the attempt as FAILED, unless it has ended."""
        self._end(why)

    @_retrying_redis
    def mark_lost(self, why: str) -> None:
        """End the attempt because its machine was lost; a retry follows automatically. No change if it has ended."""
        self._end(why, retry_reason=why)

    @_retrying_redis
    def cancel(self) -> None:
        """End the attempt as cancelled."""
        self._end(CANCELLED, is_cancel=True)

    def _end(self, why: str, **how: Any) -> None:
        text = self.job.advice(why)
        self.jobs.report(self.job.report(status=JobState.FAILED, error=text, message=text, **how))

    def has_ended(self) -> bool:
        """Whether the attempt has failed, was cancelled, or was superseded by another run's. Does not retry Redis.

        A run that Prefect retries opens the next attempt itself; that does not count as superseded.
        """
        record = self.jobs.get(self.job.job_id)
        if record is None:
            return self.jobs.was_deleted(self.job.job_id)
        work = record.worked_on(self.job)
        if work is None and (self.job.revision is not None or record.flow_run_id != str(self.run_id)):
            return True
        return (work or record).status is JobState.FAILED

    def deployment_body(self, name: str, spec: ContainerSpec, market: Market, configured: Settings) -> dict[str, Any]:
        """The request that creates the run's deployment, with a new grant.

        Raises:
            ConfigError: a setting is missing, or the definition would contain something that looks like a secret.
            JobConflict: the attempt has ended.
        """
        image = spec.image or configured.nosana_worker_image
        if not image:
            raise ConfigError("No image is configured; set NOSANA_WORKER_IMAGE, or image in the work pool.")
        if configured.callback_base_url is None:
            raise ConfigError("Set CALLBACK_BASE_URL to the address at which a container reaches this service's API.")
        env = {
            **spec.env,
            "KANGKLIP_API_URL": configured.callback_base_url,
            "PREFECT__FLOW_RUN_ID": str(self.run_id),
            GRANT_VARIABLE: self._grant(spec, configured),
        }
        secrets = [SecretStr(secret) for secret in known_secrets(configured)]
        definition = build(image, env, spec.required_vram, spec.required_cuda, secrets)
        return deployment_body(name, market.address, spec.timeout_minutes, definition)

    def _grant(self, spec: ContainerSpec, configured: Settings) -> str:
        """Issue a new grant for the attempt, which invalidates the grants of earlier hosts.

        Raises:
            JobConflict: the attempt has ended or was superseded.
        """
        grant = grants.Grant(
            run_id=str(self.run_id),
            **self.job.model_dump(include={"job_id", "attempt", "revision"}),
            session_seconds=spec.timeout_minutes * 60,
            expires_at=grants.expiry_after(int((spec.queue_limit_minutes + GRANT_MARGIN_MINUTES) * 60)),
        )
        text = grants.sign(grant, configured)
        if not self.jobs.set_grant(self.job, grant.grant_id):
            raise JobConflict(f"Attempt {grant.attempt} of job {grant.job_id} has ended; no machine was rented for it.")
        return text


@_retrying_redis
def open_assignment(
    run_id: UUID, parameters: Mapping[str, Any], jobs: JobStore, *, is_retry: bool = False
) -> Assignment:
    """Open the run's attempt. A run of the flow clip that was started in the Prefect UI creates its own job.

    Raises:
        ConfigError: the run belongs neither to the flow clip nor to the flow recut.
        JobConflict: the run may not open the attempt.
    """
    if recut := _recut_of(parameters):
        jobs.recuts.open(*recut, str(run_id), jobs.leases, lease=False)
        return _recut_assignment(run_id, recut, jobs)
    request = parameters.get("request")
    if not isinstance(request, dict):
        raise ConfigError("This run has no request; only runs of the flows clip and recut may go to Nosana.")
    job_id, requested = _job_and_attempt(run_id, parameters)
    if not JOB_ID.fullmatch(job_id):
        raise ConfigError("The run's job_id is malformed; leave it out, and the run creates a job.")
    attempt = jobs.open(job_id, str(run_id), requested, json.dumps(request), is_retry=is_retry, lease=False)
    return Assignment(run_id, JobRef(job_id=job_id, attempt=attempt), jobs)


@_retrying_redis
def find_assignment(run_id: UUID, parameters: Mapping[str, Any], jobs: JobStore) -> Assignment:
    """The assignment of a run that has already opened its attempt."""
    if recut := _recut_of(parameters):
        return _recut_assignment(run_id, recut, jobs)
    job_id, requested = _job_and_attempt(run_id, parameters)
    attempt = jobs.attempt_of(job_id, str(run_id)) or requested or 0
    return Assignment(run_id, JobRef(job_id=job_id, attempt=attempt), jobs)


def _recut_of(parameters: Mapping[str, Any]) -> tuple[str, int, int] | None:
    """Job id, revision and attempt in the parameters of a run of the flow recut; None for another flow's run."""
    job_id, revision, attempt = (parameters.get(name) for name in ("job_id", "revision", "attempt"))
    if type(job_id) is not str or type(revision) is not int or type(attempt) is not int:
        return None
    return (job_id, revision, attempt) if JOB_ID.fullmatch(job_id) else None


def _recut_assignment(run_id: UUID, recut: tuple[str, int, int], jobs: JobStore) -> Assignment:
    job_id, revision, attempt = recut
    return Assignment(run_id, JobRef(job_id=job_id, attempt=attempt, revision=revision), jobs)


def _job_and_attempt(run_id: UUID, parameters: Mapping[str, Any]) -> tuple[str, int | None]:
    """The job id and attempt number in the parameters. Without a job id, it is derived from the run's id."""
    attempt = parameters.get("attempt")
    return str(parameters.get("job_id") or job_id_of_run(str(run_id))), attempt if type(attempt) is int else None


def job_store(configured: Settings) -> JobStore:
    store = JobStore.from_settings(configured)
    if store is None:
        raise ConfigError("The Nosana worker records the end of runs in Redis; set REDIS_URL.")
    return store


def known_secrets(configured: Settings) -> list[str]:
    """The values of all secret settings, along with each entry of a list and the password in each URL."""
    values = [getattr(configured, name) for name in Settings.model_fields]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    secrets += configured.named_api_keys  # the key without its name
    parts = {part for secret in secrets for part in (*secret.split(","), urlsplit(secret).password or "")}
    return [*secrets, *(part for part in parts if len(part) >= _SHORTEST_SECRET)]


def deployment_prefix(work_pool: str) -> str:
    """The prefix of the names of the pool's deployments."""
    return f"kangklip-{work_pool}-"


def deployment_name(prefix: str, run_id: UUID, number: int) -> str:
    """The name of a run's deployment; `number` counts the run's deployments from 1."""
    return f"{prefix}{run_id}-{number}"


def run_id_of(prefix: str, deployment: Deployment) -> UUID | None:
    """The id of the run that the deployment was created for, or None if it belongs to another pool."""
    found = _parse_name(prefix, deployment)
    return UUID(found[1]) if found else None


def deployment_number(prefix: str, deployment: Deployment) -> int:
    """The deployment's number within its run, or 0 if it belongs to another pool."""
    found = _parse_name(prefix, deployment)
    return int(found[2]) if found else 0


def _parse_name(prefix: str, deployment: Deployment) -> re.Match[str] | None:
    run_id = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    return re.fullmatch(rf"{re.escape(prefix)}({run_id})-(\d+)", deployment.name)
