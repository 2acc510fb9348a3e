"""Flow runs of jobs: one for each attempt, however often it is submitted."""

import logging
import threading
import uuid
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx

from infra.errors import SubmitError
from infra.prefect.server import NotThere, PrefectServer, no_server
from infra.settings import Settings

logger = logging.getLogger(__name__)
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


class Submitter(Protocol):
    """Where runs are submitted. Every method raises `SubmitError`, whose text may be shown to the user."""

    def submit(
        self,
        job_id: str,
        attempt: int,
        request: dict[str, Any],
        earlier_run_id: str | None = None,
        since: float | None = None,
    ) -> str:
        """Submit the attempt's run, or find the one submitted before; returns its id.

        Args:
            job_id: the run's name and tag.
            attempt: the attempt that the run may open.
            request: the job's request.
            earlier_run_id: an earlier run of the job; this one goes to the same deployment, if that still exists.
            since: seconds since the epoch, now if None; the run starts before those that have waited less long.
        """
        ...

    def cancel(self, run_id: str) -> None:
        """Stop the run, unless it has ended or does not exist."""
        ...

    def run(self, run_id: str) -> dict[str, Any] | None:
        """The server's record of the run, or None if absent."""
        ...

    def ping(self) -> None: ...

    def queue_depth(self) -> int:
        """How many runs wait for a worker."""
        ...


class PrefectRuns:
    """Runs on a Prefect server, by default of the deployment `name` (flow/deployment)."""

    def __init__(self, api_url: str, name: str, transport: httpx.BaseTransport | None = None) -> None:
        self._name = name
        self._server = PrefectServer(api_url, transport)
        self._submitting = threading.Lock()
        self._id: str | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> "PrefectRuns":
        """Runs on the server and of the deployment that the settings name.

        Raises:
            SubmitError: no server is named.
        """
        if settings.prefect_api_url is None:
            raise no_server()
        return cls(settings.prefect_api_url, settings.deployment)

    def close(self) -> None:
        self._server.close()

    def submit(
        self,
        job_id: str,
        attempt: int,
        request: dict[str, Any],
        earlier_run_id: str | None = None,
        since: float | None = None,
    ) -> str:
        """As `Submitter.submit`: in the earlier run's deployment, else in the default one."""
        new_run = {
            "name": job_id,
            "parameters": {"request": request, "job_id": job_id, "attempt": attempt},
            "idempotency_key": f"{job_id}:{attempt}",
            "tags": ["clip", job_id],
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": _iso(since)}},
            "enforce_parameter_schema": False,  # the schema is for the form in the UI, and has no registered files
        }
        deployment_id = self._deployment_of(earlier_run_id)
        with self._submitting:  # SQLite has one writer: two at once only delay each other
            if deployment_id:
                try:
                    return self._create(deployment_id, new_run)
                except NotThere:
                    logger.warning("Deployment %s is gone; job %s continues in %s", deployment_id, job_id, self._name)
            try:
                return self._create(self._deployment(), new_run)
            except NotThere:  # the deployment was deleted and registered again
                return self._create(self._deployment(fresh=True), new_run)

    def _deployment_of(self, run_id: str | None) -> str | None:
        run = self.run(run_id) if run_id else None
        return run.get("deployment_id") if run else None

    def _create(self, deployment_id: str, new_run: dict[str, Any]) -> str:
        return self._server.ask("POST", f"deployments/{deployment_id}/create_flow_run", new_run)["id"]

    def cancel(self, run_id: str) -> None:
        run = self.run(run_id)
        if run is None or (run.get("state_type") or "") in TERMINAL:
            return
        # A run that has no process yet ends at once; one that runs is stopped by its worker.
        waits = run.get("state_type") in ("SCHEDULED", "PENDING", "PAUSED")
        state = {"type": "CANCELLED"} if waits else {"type": "CANCELLING"}
        self._server.ask("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": False})

    def end(self, run_id: str, message: str) -> None:
        """Mark a run as crashed, once its process is known to be dead."""
        state = {"type": "CRASHED", "name": "Crashed", "message": message}
        self._server.ask("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def run(self, run_id: str) -> dict[str, Any] | None:
        return self.runs([run_id]).get(run_id)

    def runs(self, run_ids: list[str]) -> dict[str, dict[str, Any]]:
        """The server's records of the runs, by id; what does not exist, or is no flow run's id, is left out."""
        ids = [run_id for run_id in run_ids if is_run_id(run_id)]
        found: dict[str, dict[str, Any]] = {}
        for first in range(0, len(ids), 200):
            body = {"flow_runs": {"id": {"any_": ids[first : first + 200]}}, "limit": 200}
            found |= {run["id"]: run for run in self._server.ask("POST", "flow_runs/filter", body)}
        return found

    def ping(self) -> None:
        self._server.ask("GET", "health")

    def queue_depth(self) -> int:
        waiting = {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}
        return int(self._server.ask("POST", "flow_runs/count", {"flow_runs": waiting}))

    def _deployment(self, *, fresh: bool = False) -> str:
        """The default deployment's id, looked up once."""
        if self._id is None or fresh:
            flow, _, name = self._name.partition("/")
            try:
                self._id = str(self._server.ask("GET", f"deployments/name/{flow}/{name}")["id"])
            except NotThere:
                message = f"The Prefect server has no deployment {self._name}; run: kangklip deploy"
                raise SubmitError(message) from None
        return self._id


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def is_run_id(text: str) -> bool:
    """Whether the text can be a flow run's id."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
