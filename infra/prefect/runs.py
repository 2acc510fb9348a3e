"""A job becomes a flow run: once for each attempt, however often it is asked.

Spoken to the Prefect server's own HTTP API: the process that does this need not import Prefect, whose
settings are read at import and whose import takes seconds.
"""

import logging
import threading
import uuid
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Protocol

import httpx
import tenacity

from infra.errors import SubmitError
from infra.settings import Settings

logger = logging.getLogger(__name__)
_TIMEOUT = httpx.Timeout(15, connect=3)
BUSY_TRIES = 6
PATIENCE_SECONDS = 40.0
"""After so long a server that is busy or loses its answers is not asked again."""
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


class Submitter(Protocol):
    """Where runs are started. Every method raises `SubmitError`, whose text is fit to be shown."""

    def submit(
        self,
        job_id: str,
        attempt: int,
        request: dict[str, Any],
        earlier_run_id: str | None = None,
        since: float | None = None,
    ) -> str:
        """Start the attempt's run, or find the one that was started; its id.

        Args:
            job_id: the run's name and tag.
            attempt: the one that the run may open.
            request: what the job was asked for.
            earlier_run_id: a run of the job, whose deployment runs this one too, if it is still there.
            since: seconds since the epoch; the run goes before all that have waited for less long. None is now.
        """
        ...

    def cancel(self, run_id: str) -> None:
        """Have the run stopped; one that has ended or is not known is left alone."""
        ...

    def run(self, run_id: str) -> dict[str, Any] | None:
        """The run as the server knows it; None where it does not."""
        ...

    def ping(self) -> None: ...

    def queue_depth(self) -> int:
        """Runs that wait for a worker."""
        ...


class _NotFoundError(SubmitError):
    """What was asked of the server is not there."""


class PrefectRuns:
    """Runs on a Prefect server: of the deployment `name` (flow/deployment), where no other is asked for."""

    def __init__(self, api_url: str, name: str, transport: httpx.BaseTransport | None = None) -> None:
        self._name = name
        self._client = httpx.Client(base_url=api_url.rstrip("/") + "/", timeout=_TIMEOUT, transport=transport)
        self._turn = threading.Lock()
        self._id: str | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "PrefectRuns":
        """Those of the settings' server and deployment.

        Raises:
            SubmitError: no server is named.
        """
        if settings.prefect_api_url is None:
            raise SubmitError("No Prefect server is named; set PREFECT_API_URL.")
        return cls(settings.prefect_api_url, settings.deployment)

    def close(self) -> None:
        self._client.close()

    def submit(
        self,
        job_id: str,
        attempt: int,
        request: dict[str, Any],
        earlier_run_id: str | None = None,
        since: float | None = None,
    ) -> str:
        """As `Submitter.submit`: in the earlier run's deployment, else in this object's own."""
        asked = {
            "name": job_id,
            "parameters": {"request": request, "job_id": job_id, "attempt": attempt},
            "idempotency_key": f"{job_id}:{attempt}",
            "tags": ["clip", job_id],
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": _iso(since)}},
            "enforce_parameter_schema": False,  # it is for people's forms, and knows no registered file
        }
        deployment_id = self._deployment_of(earlier_run_id)
        with self._turn:  # two at once keep each other from a database that one may write to
            if deployment_id:
                try:
                    return self._create(deployment_id, asked)
                except _NotFoundError:
                    logger.warning("Deployment %s is gone; job %s goes on in %s", deployment_id, job_id, self._name)
            try:
                return self._create(self._deployment(), asked)
            except _NotFoundError:  # the deployment was made anew
                return self._create(self._deployment(fresh=True), asked)

    def _deployment_of(self, run_id: str | None) -> str | None:
        run = self.run(run_id) if run_id else None
        return run.get("deployment_id") if run else None

    def _create(self, deployment_id: str, asked: dict[str, Any]) -> str:
        return self._ask("POST", f"deployments/{deployment_id}/create_flow_run", asked)["id"]

    def cancel(self, run_id: str) -> None:
        run = self.run(run_id)
        if run is None or (run.get("state_type") or "") in TERMINAL:
            return
        # A run that no process has yet is over at once; one that runs is stopped by its worker.
        waits = run.get("state_type") in ("SCHEDULED", "PENDING", "PAUSED")
        state = {"type": "CANCELLED"} if waits else {"type": "CANCELLING"}
        self._ask("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": False})

    def end(self, run_id: str, message: str) -> None:
        """Say of a run whose process is known to be dead that it has crashed."""
        state = {"type": "CRASHED", "name": "Crashed", "message": message}
        self._ask("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def run(self, run_id: str) -> dict[str, Any] | None:
        return self.runs([run_id]).get(run_id)

    def runs(self, run_ids: list[str]) -> dict[str, dict[str, Any]]:
        """Those of the runs that the server knows, by id. Ids of anything but a flow run are left out."""
        asked = [run_id for run_id in run_ids if is_run_id(run_id)]
        found: dict[str, dict[str, Any]] = {}
        for first in range(0, len(asked), 200):
            body = {"flow_runs": {"id": {"any_": asked[first : first + 200]}}, "limit": 200}
            found |= {run["id"]: run for run in self._ask("POST", "flow_runs/filter", body)}
        return found

    def ping(self) -> None:
        self._ask("GET", "health")

    def queue_depth(self) -> int:
        waiting = {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}
        return int(self._ask("POST", "flow_runs/count", {"flow_runs": waiting}))

    def _deployment(self, *, fresh: bool = False) -> str:
        """The deployment's id, asked for once."""
        if self._id is None or fresh:
            flow, _, name = self._name.partition("/")
            try:
                self._id = str(self._ask("GET", f"deployments/name/{flow}/{name}")["id"])
            except _NotFoundError:
                told = f"The Prefect server has no deployment {self._name}; run: kangklip deploy"
                raise SubmitError(told) from None
        return self._id

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            answer = self._patiently(method, path, body)
        except httpx.HTTPError as error:
            raise SubmitError(f"The Prefect server did not answer ({type(error).__name__}).") from error
        if answer.is_error:
            kind = _NotFoundError if answer.status_code == HTTPStatus.NOT_FOUND else SubmitError
            raise kind(f"The Prefect server answered {answer.status_code} to {path.partition('/')[0]}.")
        try:
            return answer.json()
        except ValueError:
            told = "PREFECT_API_URL leads to something else than a Prefect API; its address ends in /api."
            raise SubmitError(told) from None

    def _patiently(self, method: str, path: str, body: dict[str, Any] | None) -> httpx.Response:
        """The answer, asked for again while the server is busy or its answer was lost.

        Nothing is done twice by that: a run is created under a key, and a state that is set again is the same.
        """
        again = tenacity.Retrying(
            retry=tenacity.retry_if_result(_is_busy) | tenacity.retry_if_exception(_may_have_arrived),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
            stop=tenacity.stop_after_attempt(BUSY_TRIES) | tenacity.stop_after_delay(PATIENCE_SECONDS),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )
        return again(self._client.request, method, path, json=body)


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _is_busy(answer: httpx.Response) -> bool:
    """A server on SQLite answers 503 while its database is locked, and has done nothing then."""
    return answer.status_code in (httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS)


def _may_have_arrived(error: BaseException) -> bool:
    """Whether a request that got no answer may have been carried out: whoever asks again finds out."""
    return isinstance(error, httpx.TransportError) and not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def is_run_id(text: str) -> bool:
    """Whether the text can be a flow run's id."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
