"""What a rented machine may send to the Prefect server, rebuilt from the fields that a recorded run used.

Pure functions. Each returns what to send on, or raises `Forbidden`. Nothing gets through that names another run,
rents the machine again, or is later loaded as code (a state's data).
"""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from infra.errors import Forbidden

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
STATES = {"RUNNING", *FINAL}
"""States that a machine may set; SCHEDULED and the like would rent it again."""
TEXT = 20_000
"""Most characters in a message or an artifact's text; the rest is cut."""
TASK_RUN_FIELDS = (
    *("name", "task_key", "dynamic_key", "empirical_policy", "tags", "labels", "task_inputs", "run_count"),
    *("flow_run_run_count", "expected_start_time", "start_time", "end_time", "total_run_time", "task_version"),
)
POOL = ("work_pool_id", "work_pool_name", "work_queue_id", "work_queue_name", "infrastructure_pid")


@dataclass(frozen=True)
class Own:
    """What belongs to a session: its ids on the Prefect server, and its job."""

    run_id: str
    flow_id: str
    deployment_id: str | None
    job_id: str

    @property
    def artifact_keys(self) -> set[str]:
        name = self.job_id.lower().replace("_", "-")
        return {f"progress-{name}", f"clips-{name}"}


def shown(record: Any) -> Any:
    """A run or a deployment as its machine may read it: without the work pool and the job variables."""
    if not isinstance(record, dict):
        return record
    hidden = {name: None for name in POOL if name in record}
    return record | hidden | ({"job_variables": {}} if "job_variables" in record else {})


def run_change(body: Any) -> dict[str, Any]:
    """A PATCH of the run: only its flow's version. Changing its retries could rent the machine again."""
    version = _object(body).get("flow_version")
    return {"flow_version": version} if isinstance(version, str) else {}


def state_change(body: Any) -> dict[str, Any]:
    """A state that the run may enter."""
    state = _object(_object(body).get("state"))
    if _text(state.get("type")) not in STATES or body.get("force"):
        raise Forbidden
    details = _object(state.get("state_details") or {})
    kept = {name: details[name] for name in ("transition_id", "untrackable_result") if name in details}
    return {"state": {**_state(state), "state_details": kept}, "force": False}


def logs(body: Any, own: Own) -> tuple[list[dict[str, Any]], set[str]]:
    """Lines of the run's log, and the task runs they name."""
    lines = [_line(line, own) for line in body] if isinstance(body, list) else []
    return lines, {line["task_run_id"] for line in lines if line["task_run_id"]}


def new_artifact(body: Any, own: Own) -> tuple[dict[str, Any], set[str]]:
    """The run's progress or its table of clips, and the task run it names."""
    given = _object(body)
    if _text(given.get("key")) not in own.artifact_keys or given.get("type") not in ("progress", "markdown"):
        raise Forbidden
    if given.get("flow_run_id") != own.run_id:
        raise Forbidden
    task_run = _uuid_or_none(given.get("task_run_id"))
    fixed = {"key": given["key"], "type": given["type"], "flow_run_id": own.run_id, "task_run_id": task_run}
    return fixed | artifact_change(given), {task_run} - {None}  # pyright: ignore[reportReturnType] None is removed


def artifact_change(body: Any) -> dict[str, Any]:
    """An artifact's content: a number or a text, and a description."""
    given = _object(body)
    data, changed = given.get("data"), dict[str, Any]()
    if isinstance(data, int | float | str):
        changed["data"] = data[:TEXT] if isinstance(data, str) else data
    if isinstance(given.get("description"), str):
        changed["description"] = given["description"][:TEXT]
    return changed


def event(body: Any, own: Own) -> tuple[dict[str, Any], str | None]:
    """A task run's state change, or the run's heartbeat or setup event; and the task run's id, if any."""
    given = _object(body)
    name, resource = given.get("event"), _resource(given.get("resource"))
    if not any(_resource(one).get("prefect.resource.id") == f"prefect.flow-run.{own.run_id}" for one in _all(given)):
        raise Forbidden
    kind, _, identifier = resource.get("prefect.resource.id", "").rpartition(".")
    sent = {
        "id": _uuid(given.get("id")),
        "follows": _uuid_or_none(given.get("follows")),
        "occurred": given.get("occurred"),
        "event": name,
        "resource": resource,
        "related": _related(own),
    }
    if name in ("prefect.flow-run.heartbeat", "prefect.flow-run.pull-step.executed"):
        if (kind, identifier) != ("prefect.flow-run", own.run_id):
            raise Forbidden
        return sent | {"payload": {}}, None
    if kind != "prefect.task-run" or not re.fullmatch(r"prefect\.task-run\.[A-Za-z]{1,40}", str(name)):
        raise Forbidden
    return sent | {"payload": _task_run(given.get("payload"))}, _uuid(identifier)


def lease_seconds(body: Any) -> dict[str, Any]:
    """How long to renew the run's slot in its deployment's limit."""
    seconds = _object(body).get("lease_duration")
    if not isinstance(seconds, int | float) or not 0 < seconds <= 600:
        raise Forbidden
    return {"lease_duration": seconds}


def _task_run(payload: Any) -> dict[str, Any]:
    given = _object(payload)
    task_run = _object(given.get("task_run"))
    return {
        "intended": given.get("intended"),
        "initial_state": _state(given["initial_state"]) if given.get("initial_state") else None,
        "validated_state": _state(given.get("validated_state")),
        "task_run": {name: task_run[name] for name in TASK_RUN_FIELDS if name in task_run},
    }


def _state(given: Any) -> dict[str, Any]:
    """Type, name and message only: a state's data names code to load, and its input."""
    state = _object(given)
    message = state.get("message")
    return {
        "type": state.get("type"),
        "name": str(state.get("name") or "")[:200] or None,
        "message": message[:TEXT] if isinstance(message, str) else None,
        "state_details": {},
    }


def _related(own: Own) -> list[dict[str, str]]:
    named = {"flow-run": own.run_id, "flow": own.flow_id, "deployment": own.deployment_id}
    return [
        {"prefect.resource.id": f"prefect.{role}.{identifier}", "prefect.resource.role": role}
        for role, identifier in named.items()
        if identifier
    ]


def _all(given: dict[str, Any]) -> list[Any]:
    related = given.get("related")
    return [given.get("resource"), *(related if isinstance(related, list) else [])]


def _resource(given: Any) -> dict[str, str]:
    found = _object(given)
    return {str(name)[:200]: str(value)[:TEXT] for name, value in list(found.items())[:30]}


def _line(given: Any, own: Own) -> dict[str, Any]:
    line = _object(given)
    if line.get("flow_run_id") != own.run_id:
        raise Forbidden
    return {
        "name": str(line.get("name"))[:200],
        "level": line.get("level"),
        "message": str(line.get("message"))[:TEXT],
        "timestamp": line.get("timestamp"),
        "flow_run_id": own.run_id,
        "task_run_id": _uuid_or_none(line.get("task_run_id")),
    }


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Forbidden
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise Forbidden
    return value


def _uuid(value: Any) -> str:
    try:
        return str(UUID(value))
    except (ValueError, TypeError, AttributeError):
        raise Forbidden from None


def _uuid_or_none(value: Any) -> str | None:
    return None if value is None else _uuid(value)
