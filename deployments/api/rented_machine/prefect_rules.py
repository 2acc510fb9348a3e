"""What a rented machine may send to the Prefect server, rebuilt from the fields that a recorded run used.

Pure functions: each returns the body to forward, or raises `Forbidden`. They let nothing through that names another
run, rents the machine again, or is later loaded as code (a state's data).
"""

import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from infra.errors import Forbidden

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
STATES = {"RUNNING", *FINAL}
"""States that a machine may set. SCHEDULED and similar states would rent it again."""
MAX_TEXT_CHARS = 20_000
"""Maximum characters in a message or an artifact's text; the rest is cut off."""
TASK_RUN_FIELDS = (
    *("name", "task_key", "dynamic_key", "empirical_policy", "tags", "labels", "task_inputs", "run_count"),
    *("flow_run_run_count", "expected_start_time", "start_time", "end_time", "total_run_time", "task_version"),
)
POOL_FIELDS = ("work_pool_id", "work_pool_name", "work_queue_id", "work_queue_name", "infrastructure_pid")


@dataclass(frozen=True)
class RunIds:
    """The ids of a session's run on the Prefect server, and of its job."""

    run_id: str
    flow_id: str
    deployment_id: str | None
    job_id: str

    @property
    def artifact_keys(self) -> set[str]:
        name = self.job_id.lower().replace("_", "-")
        return {f"progress-{name}", f"clips-{name}"}


def visible_record(record: Any) -> Any:
    """A run or deployment without its work pool and job variables, for the machine to read."""
    if not isinstance(record, dict):
        return record
    hidden = {name: None for name in POOL_FIELDS if name in record}
    return record | hidden | ({"job_variables": {}} if "job_variables" in record else {})


def run_change(body: Any) -> dict[str, Any]:
    """A PATCH of the run: only the flow version. Changing its retries could rent the machine again."""
    version = _object(body).get("flow_version")
    return {"flow_version": version} if isinstance(version, str) else {}


def state_change(body: Any) -> dict[str, Any]:
    """A request to set a state that the run may enter."""
    state = _object(_object(body).get("state"))
    if _text(state.get("type")) not in STATES or body.get("force"):
        raise Forbidden
    details = _object(state.get("state_details") or {})
    kept = {name: details[name] for name in ("transition_id", "untrackable_result") if name in details}
    return {"state": {**_state(state), "state_details": kept}, "force": False}


def logs(body: Any, ids: RunIds) -> tuple[list[dict[str, Any]], set[str]]:
    """Lines of the run's log, and the ids of the task runs they name."""
    lines = [_line(line, ids) for line in body] if isinstance(body, list) else []
    return lines, {line["task_run_id"] for line in lines if line["task_run_id"]}


def new_artifact(body: Any, ids: RunIds) -> tuple[dict[str, Any], set[str]]:
    """A progress artifact or a table of clips, and the id of the task run it names."""
    fields = _object(body)
    if _text(fields.get("key")) not in ids.artifact_keys or fields.get("type") not in ("progress", "markdown"):
        raise Forbidden
    if fields.get("flow_run_id") != ids.run_id:
        raise Forbidden
    task_run = _uuid_or_none(fields.get("task_run_id"))
    fixed = {"key": fields["key"], "type": fields["type"], "flow_run_id": ids.run_id, "task_run_id": task_run}
    return fixed | artifact_change(fields), {task_run} - {None}  # pyright: ignore[reportReturnType] None is removed


def artifact_change(body: Any) -> dict[str, Any]:
    """An artifact's data (a number or text) and description."""
    fields = _object(body)
    data, changed = fields.get("data"), dict[str, Any]()
    if isinstance(data, int | float | str):
        changed["data"] = data[:MAX_TEXT_CHARS] if isinstance(data, str) else data
    if isinstance(fields.get("description"), str):
        changed["description"] = fields["description"][:MAX_TEXT_CHARS]
    return changed


def event(body: Any, ids: RunIds) -> tuple[dict[str, Any], str | None]:
    """A task run's state change and its id, or the run's heartbeat or setup event and None."""
    fields = _object(body)
    name, resource = fields.get("event"), _resource(fields.get("resource"))
    if not any(_resource(one).get("prefect.resource.id") == f"prefect.flow-run.{ids.run_id}" for one in _all(fields)):
        raise Forbidden
    kind, _, identifier = resource.get("prefect.resource.id", "").rpartition(".")
    sent = {
        "id": _uuid(fields.get("id")),
        "follows": _uuid_or_none(fields.get("follows")),
        "occurred": fields.get("occurred"),
        "event": name,
        "resource": resource,
        "related": _related(ids),
    }
    if name in ("prefect.flow-run.heartbeat", "prefect.flow-run.pull-step.executed"):
        if (kind, identifier) != ("prefect.flow-run", ids.run_id):
            raise Forbidden
        return sent | {"payload": {}}, None
    if kind != "prefect.task-run" or not re.fullmatch(r"prefect\.task-run\.[A-Za-z]{1,40}", str(name)):
        raise Forbidden
    return sent | {"payload": _task_run(fields.get("payload"))}, _uuid(identifier)


def lease_seconds(body: Any) -> dict[str, Any]:
    """How long to renew the run's slot in its deployment's concurrency limit."""
    seconds = _object(body).get("lease_duration")
    if not isinstance(seconds, int | float) or not 0 < seconds <= 600:
        raise Forbidden
    return {"lease_duration": seconds}


def _task_run(payload: Any) -> dict[str, Any]:
    fields = _object(payload)
    task_run = _object(fields.get("task_run"))
    return {
        "intended": fields.get("intended"),
        "initial_state": _state(fields["initial_state"]) if fields.get("initial_state") else None,
        "validated_state": _state(fields.get("validated_state")),
        "task_run": {name: task_run[name] for name in TASK_RUN_FIELDS if name in task_run},
    }


def _state(fields: Any) -> dict[str, Any]:
    """Only type, name and message: a state's data names code to load."""
    state = _object(fields)
    message = state.get("message")
    return {
        "type": state.get("type"),
        "name": str(state.get("name") or "")[:200] or None,
        "message": message[:MAX_TEXT_CHARS] if isinstance(message, str) else None,
        "state_details": {},
    }


def _related(ids: RunIds) -> list[dict[str, str]]:
    named = {"flow-run": ids.run_id, "flow": ids.flow_id, "deployment": ids.deployment_id}
    return [
        {"prefect.resource.id": f"prefect.{role}.{identifier}", "prefect.resource.role": role}
        for role, identifier in named.items()
        if identifier
    ]


def _all(fields: dict[str, Any]) -> list[Any]:
    related = fields.get("related")
    return [fields.get("resource"), *(related if isinstance(related, list) else [])]


def _resource(fields: Any) -> dict[str, str]:
    found = _object(fields)
    return {str(name)[:200]: str(value)[:MAX_TEXT_CHARS] for name, value in list(found.items())[:30]}


def _line(fields: Any, ids: RunIds) -> dict[str, Any]:
    line = _object(fields)
    if line.get("flow_run_id") != ids.run_id:
        raise Forbidden
    return {
        "name": str(line.get("name"))[:200],
        "level": line.get("level"),
        "message": str(line.get("message"))[:MAX_TEXT_CHARS],
        "timestamp": line.get("timestamp"),
        "flow_run_id": ids.run_id,
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
