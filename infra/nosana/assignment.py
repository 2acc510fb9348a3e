"""A flow run that is given to Nosana: the job that it belongs to, what a host is asked, what the job is told.

Prefect is not known here. Everything talks to Redis and blocks.
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
"""A grant may be redeemed so long after the queue limit: a host pulls the image first."""
_SHORTEST_SECRET = 8
"""Letters; parts of a setting that are shorter than this also stand in what is no secret."""
_patiently = tenacity.retry(
    retry=tenacity.retry_if_exception_type(StateError),
    wait=tenacity.wait_exponential(multiplier=0.2, max=5),
    stop=tenacity.stop_after_delay(60),
    reraise=True,
)


@dataclass(frozen=True)
class Terms:
    """What a run is rented with; an empty image is the worker's own."""

    image: str
    env: Mapping[str, str]
    timeout_minutes: int
    queue_limit_minutes: float
    required_vram: int
    required_cuda: Iterable[str]


@dataclass(frozen=True)
class Assignment:
    """A run and the attempt of a job that it is. Methods raise `StateError` when Redis does not answer for a minute.

    What is told of an attempt that was followed meanwhile changes nothing.
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
        """End the attempt, unless it has ended already."""
        failed = Report(job_id=self.job_id, attempt=self.attempt, status=JobState.FAILED, error=why, message=why)
        self.jobs.report(failed)

    @_patiently
    def lose(self, why: str) -> None:
        """End the attempt, which lost its machine, and have another follow by itself, unless it has ended already."""
        self.jobs.retry(self.job_id, self.attempt, why)

    @_patiently
    def cancel(self) -> None:
        """End the attempt because somebody has cancelled its run."""
        self.jobs.cancel(self.job_id, self.attempt)

    def is_over(self) -> bool:
        """Whether nobody wants the run any more: its attempt has failed, was cancelled, or was followed by another run.

        A run that Prefect retries has the attempt after its own; that one is its own too. Raises at once.
        """
        job = self.jobs.get(self.job_id)
        if job is None:
            return False
        is_followed = job.attempt != self.attempt and job.flow_run_id != str(self.run_id)
        return is_followed or job.status is JobState.FAILED

    def body(self, name: str, terms: Terms, market: Market, configured: Settings) -> dict[str, Any]:
        """What is asked of Nosana, with a new grant.

        Raises:
            ConfigError: a setting is missing, or something would have been sent that looks like a secret.
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
        """For the attempt, whose only grant it is from now on: what an earlier host was given is good for nothing.

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
def take_on(run_id: UUID, parameters: Mapping[str, Any], jobs: JobStore, *, is_retry: bool = False) -> Assignment:
    """The run with the attempt that it opens; a run of the Prefect UI makes its own job.

    Raises:
        ConfigError: the run is none of the flow clip.
        JobConflict: the attempt is not this run's to open.
    """
    request = parameters.get("request")
    if not isinstance(request, dict):
        raise ConfigError("Only runs of the flow clip go to Nosana; this one has no request.")
    job_id, carried = _named(run_id, parameters)
    if not JOB_ID.fullmatch(job_id):
        raise ConfigError("The run's job_id is none; leave it away, and the run makes its own.")
    attempt = jobs.open(job_id, str(run_id), carried, json.dumps(request), is_retry=is_retry, lease=False)
    return Assignment(run_id, job_id, attempt, jobs)


@_patiently
def known(run_id: UUID, parameters: Mapping[str, Any], jobs: JobStore) -> Assignment:
    """A run that was taken on before, with the attempt that it opened then."""
    job_id, carried = _named(run_id, parameters)
    return Assignment(run_id, job_id, jobs.attempt_of(job_id, str(run_id)) or carried or 0, jobs)


def _named(run_id: UUID, parameters: Mapping[str, Any]) -> tuple[str, int | None]:
    """The job and the attempt that a run was given; its own job where it was given none."""
    attempt = parameters.get("attempt")
    return str(parameters.get("job_id") or job_id_of_run(str(run_id))), attempt if type(attempt) is int else None


def job_store(configured: Settings) -> JobStore:
    store = JobStore.from_settings(configured)
    if store is None:
        raise ConfigError("The Nosana worker needs REDIS_URL; it tells jobs what became of their runs.")
    return store


def known_secrets(configured: Settings) -> list[str]:
    """The values of all settings that are secret, of lists each entry, of addresses the password too."""
    values = [getattr(configured, name) for name in Settings.model_fields]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    secrets += configured.named_api_keys  # of NAME:KEY the key alone
    parts = {part for secret in secrets for part in (*secret.split(","), urlsplit(secret).password or "")}
    return [*secrets, *(part for part in parts if len(part) >= _SHORTEST_SECRET)]


def name_of(prefix: str, run_id: UUID, number: int) -> str:
    """How a run's deployment is called; `prefix` is the pool's."""
    return f"{prefix}{run_id}-{number}"


def run_and_number(prefix: str, deployment: Deployment) -> tuple[UUID, int] | None:
    """The run that the deployment was made for, and the how many'th of the run it is; None where it is not ours."""
    own = re.fullmatch(re.escape(prefix) + r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})-(\d+)", deployment.name)
    return (UUID(own[1]), int(own[2])) if own else None
