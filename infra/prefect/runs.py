"""Submits, cancels and reads the flow runs of jobs: one run per attempt, even if it is submitted twice."""

import logging
import threading
import uuid
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx

from infra.errors import SubmitError
from infra.prefect import warm_runs
from infra.prefect.server import NotFound, PrefectServer, no_server_error
from infra.settings import Settings

logger = logging.getLogger(__name__)
TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
_ASKED_AT_ONCE = 1000
"""Runs whose state is asked for in one request."""


class Submitter(Protocol):
    """Submits and reads flow runs. Every method raises `SubmitError`, whose message may be shown to the user."""

    def submit(
        self,
        job_id: str,
        attempt: int,
        request: dict[str, Any],
        earlier_run_id: str | None = None,
        since: float | None = None,
    ) -> str:
        """Submit the attempt's run unless it has been submitted, and return its id.

        Args:
            job_id: the run's name and tag.
            attempt: the attempt that the run may open.
            request: the job's request.
            earlier_run_id: an earlier run of the job; this one goes to the same deployment, if that still exists.
            since: when the wait began, in seconds since the epoch, or None for now. Longer waits start first.
        """
        ...

    def submit_recut(
        self,
        job_id: str,
        revision: int,
        attempt: int,
        earlier_run_id: str | None = None,
        *,
        is_rented: bool = False,
    ) -> str:
        """Submit the run of an attempt at a recut unless it has been submitted, and return its id.

        Args:
            job_id: the run's name and tag.
            revision: the revision that the run makes.
            attempt: the attempt that the run may open.
            is_rented: a rented machine has made the job's clips.
            earlier_run_id: an earlier run of the recut; this one goes to the same deployment, if that still exists.
        """
        ...

    def cancel(self, run_id: str) -> None:
        """Cancel the run, unless it has ended or does not exist."""
        ...

    def run(self, run_id: str) -> dict[str, Any] | None:
        """The server's record of the run, or None if absent."""
        ...

    def ping(self) -> None: ...

    def queue_depth(self) -> int:
        """The number of runs that wait for a worker."""
        ...


RECUTS, RENTED_RECUTS = "recut/local", "recut/gpu"
"""The deployments of recuts: where the job's clips were made, on our own machines or on a rented one, they change."""


class PrefectRuns:
    """Flow runs on a Prefect server. New jobs run in the deployment `name` (flow/deployment).

    Recuts run in the deployment `recuts`; without it, where the job's clips were made.
    """

    def __init__(
        self, api_url: str, name: str, transport: httpx.BaseTransport | None = None, recuts: str | None = None
    ) -> None:
        self._name, self._recuts = name, recuts
        self._server = PrefectServer(api_url, transport)
        self._submitting = threading.Lock()
        self._ids: dict[str, str] = {}

    @classmethod
    def from_settings(cls, settings: Settings) -> "PrefectRuns":
        """Runs on the server and in the deployment of the settings.

        Raises:
            SubmitError: PREFECT_API_URL is not set.
        """
        if settings.prefect_api_url is None:
            raise no_server_error()
        return cls(settings.prefect_api_url, settings.deployment, recuts=settings.recut_deployment)

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
        """Submit to the earlier run's deployment or, if that is gone, to the default one; see `Submitter.submit`."""
        new_run = {
            "name": job_id,
            "parameters": {"request": request, "job_id": job_id, "attempt": attempt},
            "idempotency_key": f"{job_id}:{attempt}",
            "tags": ["clip", job_id],
            "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": _iso(since)}},
            "enforce_parameter_schema": False,  # the schema is for the UI's form, and lacks registered files
        }
        return self._submit(new_run, self._name, earlier_run_id)

    def submit_recut(
        self,
        job_id: str,
        revision: int,
        attempt: int,
        earlier_run_id: str | None = None,
        *,
        is_rented: bool = False,
    ) -> str:
        """Submit to the earlier run's deployment or, if that is gone, to that of recuts; see `Submitter`."""
        name = self._recuts or (RENTED_RECUTS if is_rented else RECUTS)
        warm = warm_runs.command() if name == RECUTS else None
        new_run = {
            "name": job_id,
            "parameters": {"job_id": job_id, "revision": revision, "attempt": attempt},
            "idempotency_key": f"{job_id}:recut:{revision}:{attempt}",
            "tags": ["recut", job_id],
            "state": {"type": "SCHEDULED"},
            "job_variables": {"command": warm} if warm else {},
        }
        return self._submit(new_run, name, earlier_run_id)

    def _submit(self, new_run: dict[str, Any], name: str, earlier_run_id: str | None) -> str:
        """Submit a run to the deployment of the earlier run or, if there is none, to the one of that name."""
        deployment_id = self._deployment_of(earlier_run_id)
        with self._submitting:  # SQLite has one writer; concurrent calls only delay each other
            if deployment_id:
                try:
                    return self._create(deployment_id, new_run)
                except NotFound:
                    job_id = new_run["name"]
                    logger.warning("Deployment %s is gone; job %s continues in %s", deployment_id, job_id, name)
            try:
                return self._create(self._deployment(name), new_run)
            except NotFound:  # the deployment was deleted and registered again
                return self._create(self._deployment(name, fresh=True), new_run)

    def _deployment_of(self, run_id: str | None) -> str | None:
        run = self.run(run_id) if run_id else None
        return run.get("deployment_id") if run else None

    def _create(self, deployment_id: str, new_run: dict[str, Any]) -> str:
        return self._server.request("POST", f"deployments/{deployment_id}/create_flow_run", new_run)["id"]

    def cancel(self, run_id: str) -> None:
        run = self.run(run_id)
        if run is None or (run.get("state_type") or "") in TERMINAL:
            return
        # A run without a process ends at once; a running one is stopped by its worker.
        waits = run.get("state_type") in ("SCHEDULED", "PENDING", "PAUSED")
        state = {"type": "CANCELLED"} if waits else {"type": "CANCELLING"}
        self._server.request("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": False})

    def mark_crashed(self, run_id: str, message: str) -> None:
        """Mark a run as crashed. Its process must be known to be dead."""
        state = {"type": "CRASHED", "name": "Crashed", "message": message}
        self._server.request("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def mark_completed(self, run_id: str, message: str) -> None:
        """Mark a run as completed, whatever its state. Its work must be known to be done."""
        state = {"type": "COMPLETED", "name": "Completed", "message": message}
        self._server.request("POST", f"flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def crashed_since(self, since: float) -> list[dict[str, Any]]:
        """The runs that have crashed since then, in seconds since the epoch; at most 200."""
        crashed = {"state": {"type": {"any_": ["CRASHED"]}}, "end_time": {"after_": _iso(since)}}
        return self._server.request("POST", "flow_runs/filter", {"flow_runs": crashed, "limit": 200})

    def run(self, run_id: str) -> dict[str, Any] | None:
        return self.runs([run_id]).get(run_id)

    def runs(self, run_ids: list[str]) -> dict[str, dict[str, Any]]:
        """The server's records of the runs, by id. Ids that do not exist or are malformed are left out."""
        ids = [run_id for run_id in run_ids if is_run_id(run_id)]
        found: dict[str, dict[str, Any]] = {}
        for first in range(0, len(ids), 200):
            body = {"flow_runs": {"id": {"any_": ids[first : first + 200]}}, "limit": 200}
            found |= {run["id"]: run for run in self._server.request("POST", "flow_runs/filter", body)}
        return found

    def waiting(self, run_ids: list[str]) -> set[str]:
        """Those of the runs that wait for a worker to take them; without reading them, as there may be thousands.

        While a run changes its state, some that wait may be missing.
        """
        ids = [run_id for run_id in run_ids if is_run_id(run_id)]
        found: set[str] = set()
        for first in range(0, len(ids), _ASKED_AT_ONCE):
            asked = set(ids[first : first + _ASKED_AT_ONCE])
            chosen = {"id": {"any_": sorted(asked)}}
            waits = {"flow_runs": chosen | {"state": {"type": {"any_": ["SCHEDULED"]}}}}
            others: set[str] = set()
            count = int(self._server.request("POST", "flow_runs/count", waits))
            if count < len(asked):
                has_begun = {"flow_runs": chosen | {"state": {"type": {"not_any_": ["SCHEDULED"]}}}, "limit": 200}
                others = {run["id"] for run in self._server.request("POST", "flow_runs/filter", has_begun)}
            if count + len(others) == len(asked):  # else some have vanished, or there are many others
                found |= asked - others
        return found

    def ping(self) -> None:
        self._server.request("GET", "health")

    def queue_depth(self) -> int:
        """Runs that are due. A schedule creates its runs days ahead, and they wait for their time, not for a worker."""
        is_due = {"before_": datetime.now(UTC).isoformat()}
        waiting = {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}, "expected_start_time": is_due}
        return int(self._server.request("POST", "flow_runs/count", {"flow_runs": waiting}))

    def _deployment(self, full_name: str, *, fresh: bool = False) -> str:
        """A deployment's id, looked up once."""
        if fresh or full_name not in self._ids:
            flow, _, name = full_name.partition("/")
            try:
                self._ids[full_name] = str(self._server.request("GET", f"deployments/name/{flow}/{name}")["id"])
            except NotFound:
                message = f"The Prefect server has no deployment {full_name}; run: kangklip deploy"
                raise SubmitError(message) from None
        return self._ids[full_name]


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def is_run_id(text: str) -> bool:
    """Whether the text has the form of a flow run's id."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False
