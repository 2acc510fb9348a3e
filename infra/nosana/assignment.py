"""A flow run on Nosana and the attempt of a job that it runs: its record in Redis, and its deployment's definition.

Nothing here knows Prefect. Calls to Redis block.
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
from infra.jobs.record import Report
from infra.jobs.store import JobStore
from infra.nosana.job_definition import GRANT_VARIABLE, build, deployment_body
from infra.nosana.models import Deployment, Market
from infra.settings import Settings
from infra.states import JobState

GRANT_MARGIN_MINUTES = 10
"""How long after the queue limit a grant is valid: a host pulls the image before it redeems it."""
_SHORTEST_SECRET = 8
"""Characters; shorter parts of a secret setting also occur in text that is not secret."""
_patiently = tenacity.retry(
    retry=tenacity.retry_if_exception_type(StateError),
    wait=tenacity.wait_exponential(multiplier=0.2, max=5),
    stop=tenacity.stop_after_delay(60),
    reraise=True,
)


@dataclass(frozen=True)
class Terms:
    """What a run needs of a host; an empty image is that of NOSANA_WORKER_IMAGE."""

    image: str
    env: Mapping[str, str]
    timeout_minutes: int
    queue_limit_minutes: float
    required_vram: int
    required_cuda: Iterable[str]


@dataclass(frozen=True)
class Assignment:
    """A run and its attempt. Methods raise `StateError` if Redis does not answer for a minute.

    Once another attempt has followed, they change nothing.
    """

    run_id: UUID
    job_id: str
    attempt: int
    jobs: JobStore

    @_patiently
    def note_deployment(self, deployment_id: str) -> None:
        self.jobs.set_deployment(self.job_id, self.attempt, deployment_id)

    @_patiently
    def note_cost(self, deployment_id: str, usd: float) -> None:
        self.jobs.add_cost(self.job_id, deployment_id, usd)

    @_patiently
    def note_start_error(self, why: str) -> None:
        self.jobs.start_failed(self.job_id, self.attempt, why, str(self.run_id))

    @_patiently
    def fail(self, why: str) -> None:
        """End the attempt as FAILED, unless it has ended."""
        failed = Report(job_id=self.job_id, attempt=self.attempt, status=JobState.FAILED, error=why, message=why)
        self.jobs.report(failed)

    @_patiently
    def lose(self, why: str) -> None:
        """End the attempt through no fault of its own, so that another follows by itself, unless it has ended."""
        self.jobs.retry(self.job_id, self.attempt, why)

    @_patiently
    def cancel(self) -> None:
        """End the attempt because its run was cancelled."""
        self.jobs.cancel(self.job_id, self.attempt)

    def is_over(self) -> bool:
        """Whether the attempt has failed, was cancelled, or was followed by another run's. Raises at once.

        A run that Prefect retries opens the next attempt itself; that one counts as its own.
        """
        job = self.jobs.get(self.job_id)
        if job is None:
            return False
        is_followed = job.attempt != self.attempt and job.flow_run_id != str(self.run_id)
        return is_followed or job.status is JobState.FAILED

    def deployment_body(self, name: str, terms: Terms, market: Market, configured: Settings) -> dict[str, Any]:
        """The request that creates the run's deployment, with a new grant.

        Raises:
            ConfigError: a setting is missing, or something that looks like a secret would be sent.
            JobConflict: the attempt has ended.
        """
        image = terms.image or configured.nosana_worker_image
        if not image:
            raise ConfigError("No image is named; set NOSANA_WORKER_IMAGE, or the work pool's image.")
        if configured.callback_base_url is None:
            raise ConfigError("Set CALLBACK_BASE_URL: the address at which a container reaches this service's API.")
        env = {
            **terms.env,
            "KANGKLIP_API_URL": configured.callback_base_url,
            "PREFECT__FLOW_RUN_ID": str(self.run_id),
            GRANT_VARIABLE: self._grant(terms, configured),
        }
        secrets = [SecretStr(secret) for secret in known_secrets(configured)]
        definition = build(image, env, terms.required_vram, terms.required_cuda, secrets)
        return deployment_body(name, market.address, terms.timeout_minutes, definition)

    def _grant(self, terms: Terms, configured: Settings) -> str:
        """A new grant for the attempt; those of earlier hosts are no longer valid.

        Raises:
            JobConflict: the attempt has ended, or was followed.
        """
        grant = grants.Grant(
            job_id=self.job_id,
            run_id=str(self.run_id),
            attempt=self.attempt,
            session_seconds=terms.timeout_minutes * 60,
            expires_at=grants.until(int((terms.queue_limit_minutes + GRANT_MARGIN_MINUTES) * 60)),
        )
        text = grants.signed(grant, configured)
        if not self.jobs.set_grant(self.job_id, self.attempt, grant.grant_id):
            raise JobConflict(f"Attempt {self.attempt} of job {self.job_id} has ended; no machine is rented for it.")
        return text


@_patiently
def open_assignment(
    run_id: UUID, parameters: Mapping[str, Any], jobs: JobStore, *, is_retry: bool = False
) -> Assignment:
    """Open the run's attempt; a run started in the Prefect UI creates its own job.

    Raises:
        ConfigError: the run is not of the flow clip.
        JobConflict: the run may not open the attempt.
    """
    request = parameters.get("request")
    if not isinstance(request, dict):
        raise ConfigError("Only runs of the flow clip go to Nosana; this one has no request.")
    job_id, carried = _job_and_attempt(run_id, parameters)
    if not JOB_ID.fullmatch(job_id):
        raise ConfigError("The run's job_id is malformed; leave it out, and the run creates its own.")
    attempt = jobs.open(job_id, str(run_id), carried, json.dumps(request), is_retry=is_retry, lease=False)
    return Assignment(run_id, job_id, attempt, jobs)


@_patiently
def find_assignment(run_id: UUID, parameters: Mapping[str, Any], jobs: JobStore) -> Assignment:
    """The run with the attempt that it has opened before."""
    job_id, carried = _job_and_attempt(run_id, parameters)
    return Assignment(run_id, job_id, jobs.attempt_of(job_id, str(run_id)) or carried or 0, jobs)


def _job_and_attempt(run_id: UUID, parameters: Mapping[str, Any]) -> tuple[str, int | None]:
    """What the parameters say; a run without a job id has the one made from its own id."""
    attempt = parameters.get("attempt")
    return str(parameters.get("job_id") or job_id_of_run(str(run_id))), attempt if type(attempt) is int else None


def job_store(configured: Settings) -> JobStore:
    store = JobStore.from_settings(configured)
    if store is None:
        raise ConfigError("The Nosana worker records in Redis how runs end; set REDIS_URL.")
    return store


def known_secrets(configured: Settings) -> list[str]:
    """The values of all secret settings, with each entry of a list and the password of an address."""
    values = [getattr(configured, name) for name in Settings.model_fields]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    secrets += configured.named_api_keys  # of NAME:KEY the key alone
    parts = {part for secret in secrets for part in (*secret.split(","), urlsplit(secret).password or "")}
    return [*secrets, *(part for part in parts if len(part) >= _SHORTEST_SECRET)]


def deployment_prefix(work_pool: str) -> str:
    """What the names of the pool's deployments begin with."""
    return f"kangklip-{work_pool}-"


def deployment_name(prefix: str, run_id: UUID, number: int) -> str:
    """The name of a run's deployment; `number` counts the run's deployments from 1."""
    return f"{prefix}{run_id}-{number}"


def run_of(prefix: str, deployment: Deployment) -> UUID | None:
    """The run that the deployment was made for, or None if it is not the pool's."""
    found = _parsed(prefix, deployment)
    return UUID(found[1]) if found else None


def number_of(prefix: str, deployment: Deployment) -> int:
    """The deployment's number within its run, or 0 if it is not the pool's."""
    found = _parsed(prefix, deployment)
    return int(found[2]) if found else 0


def _parsed(prefix: str, deployment: Deployment) -> re.Match[str] | None:
    run_id = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
    return re.fullmatch(rf"{re.escape(prefix)}({run_id})-(\d+)", deployment.name)
