"""A strict fake of the part of the Prefect API that `PrefectRuns` uses; any other request fails the test."""

import json
import re
import uuid
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

TERMINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
DEPLOYMENT, FLOW = str(uuid.UUID(int=2)), str(uuid.UUID(int=1))
_CREATED = {"name", "parameters", "idempotency_key", "tags", "state", "enforce_parameter_schema"}


class PrefectFake:
    """Holds runs by id. `while_created` is called with each new run before the response, and may raise to lose it."""

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, str] = {}
        self.refuses = False
        self.while_created: Callable[[dict[str, Any]], None] | None = None

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    def make(self, parameters: dict[str, Any], key: str | None = None) -> dict[str, Any]:
        """Create a scheduled run, as the API, the Prefect UI or a schedule does."""
        if key in self.keys:
            return self.runs[self.keys[key]]
        run_id = str(uuid.uuid4())
        known = {"id": run_id, "flow_id": FLOW, "deployment_id": DEPLOYMENT, "parameters": parameters, "run_count": 0}
        self.runs[run_id] = known | {"state_type": "SCHEDULED", "state": {"type": "SCHEDULED", "message": None}}
        if key:
            self.keys[key] = run_id
        return self.runs[run_id]

    def set_state(self, run_id: str, kind: str, message: str | None = None, *, force: bool = False) -> bool:
        """Set the state and return True, or False if the run has ended and it is not forced."""
        run = self.runs[run_id]
        if run["state_type"] in TERMINAL and not force:
            return False
        run["state_type"], run["state"] = kind, {"type": kind, "name": kind.title(), "message": message}
        return True

    def begin(self, run_id: str) -> bool:
        """Start the run as its engine does; returns False if the server does not allow it."""
        if self.runs[run_id]["state_type"] not in ("SCHEDULED", "PENDING"):
            return False
        self.runs[run_id]["run_count"] += 1
        return self.set_state(run_id, "RUNNING")

    def _answer(self, request: httpx.Request) -> httpx.Response:
        route = f"{request.method} {request.url.path.removeprefix('/api/')}"
        body = json.loads(request.content) if request.content else None
        if route == "GET deployments/name/clip/local":
            return httpx.Response(200, json={"id": DEPLOYMENT})
        if route == f"POST deployments/{DEPLOYMENT}/create_flow_run":
            return self._create(body)
        if route in ("POST flow_runs/filter", "POST flow_runs/count"):
            found = self._found(**body["flow_runs"])
            return httpx.Response(200, json=len(found) if route.endswith("count") else found)
        if found := re.fullmatch(r"POST flow_runs/([0-9a-f-]{36})/set_state", route):
            assert set(body) == {"state", "force"}, body
            taken = self.set_state(found[1], body["state"]["type"], body["state"].get("message"), force=body["force"])
            return httpx.Response(200, json={"status": "ACCEPT" if taken else "ABORT"})
        raise AssertionError(f"nobody should ask {route}")

    def _found(self, id: dict[str, Any], state: dict[str, Any] | None = None) -> list[dict[str, Any]]:  # noqa: A002
        """The runs that a filter chooses, by id and by type of state."""
        types = state["type"] if state else {}
        assert set(id) | set(types) <= {"any_", "not_any_"}, (id, types)
        runs = [self.runs[one] for one in id["any_"] if one in self.runs]
        runs = [run for run in runs if run["state_type"] not in types.get("not_any_", ())]
        return [run for run in runs if "any_" not in types or run["state_type"] in types["any_"]]

    def _create(self, body: dict[str, Any]) -> httpx.Response:
        assert set(body) == _CREATED, body
        parameters = body["parameters"]
        assert set(parameters) == {"request", "job_id", "attempt"}, parameters
        assert body["idempotency_key"] == f"{parameters['job_id']}:{parameters['attempt']}"
        assert set(body["state"]) == {"type", "state_details"}, body
        assert body["state"]["type"] == "SCHEDULED"
        if self.refuses:
            return httpx.Response(500)
        run = self.make(parameters, body["idempotency_key"])
        if self.while_created:
            self.while_created(run)
        return httpx.Response(201, json=run)
