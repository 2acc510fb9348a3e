"""Registers the work pools, queues and deployments of prefect.yaml with a Prefect server. Safe to repeat.

Operators' changes survive: a pool's limit and form defaults, whether a schedule is on, and parameters that the file
does not set. Only whether housekeeping is scheduled depends on RETENTION_DAYS instead.

This module does not import Prefect, which reads its settings on import; `prefect deploy` runs in its own process.
"""

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from deployments.home import HOME
from infra import settings
from infra.errors import StackError
from infra.prefect.server import AlreadyExists, NotFound, PrefectServer, wrong_url_error

FILE = HOME / "prefect.yaml"
HOUSEKEEPING = "flows.housekeeping.housekeeping"

Outcome = Literal["created", "updated", "unchanged", "existed", "saved"]


@dataclass(frozen=True)
class Registered:
    """A row in the table that `kangklip deploy` prints."""

    kind: str
    name: str
    outcome: Outcome
    detail: str = ""


def register(
    api_url: str, pools: Collection[str] | None = None, templates: Mapping[str, dict[str, Any]] | None = None
) -> list[Registered]:
    """Register the work pools of prefect.yaml and their deployments.

    Args:
        api_url: address of the Prefect server's API.
        pools: names of the pools to register, with their deployments; all if None.
        templates: base job templates by pool type; if missing, the pool's worker fills it in.

    Raises:
        SubmitError: the Prefect server does not answer, or refuses.
        StackError: a pool exists with another type, or `prefect deploy` failed.
    """
    config = _load_config()
    wanted = [pool for pool in config["definitions"]["pools"] if pools is None or pool["name"] in pools]
    names = {pool["name"] for pool in wanted}
    deployments = [each for each in config["deployments"] if each["work_pool"]["name"] in names]
    with PrefectServer(api_url) as server:
        done = _register_pools(server, wanted, templates or {})
        existing = [_find(server, f"deployments/name/{_name(each)}") for each in deployments]
        merged = [
            _with_retention(_with_operators_changes(each, known))
            for each, known in zip(deployments, existing, strict=True)
        ]
        _deploy(config | {"deployments": merged, "build": None}, api_url)
    for each, known in zip(merged, existing, strict=True):
        done.append(Registered("deployment", _name(each), "existed" if known else "created", _summary(each)))
    return done


def register_pools(api_url: str, templates: Mapping[str, dict[str, Any]]) -> list[Registered]:
    """Register only the work pools and their queues.

    Raises:
        SubmitError: the Prefect server does not answer, or refuses.
        StackError: a pool exists with another type.
    """
    with PrefectServer(api_url) as server:
        return _register_pools(server, _load_config()["definitions"]["pools"], templates)


def _load_config() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def _register_pools(
    server: PrefectServer, wanted: list[dict[str, Any]], templates: Mapping[str, dict[str, Any]]
) -> list[Registered]:
    done = [_register_pool(server, pool, templates.get(pool["type"], {})) for pool in wanted]
    return done + [_register_queue(server, pool["name"], queue) for pool in wanted for queue in pool.get("queues", [])]


def _register_pool(server: PrefectServer, pool: dict[str, Any], template: dict[str, Any]) -> Registered:
    """Create the pool, or update its template. An existing pool keeps its limit."""
    path = f"work_pools/{pool['name']}"
    known = _find(server, path)
    body = {name: value for name, value in pool.items() if name != "queues"} | {"base_job_template": template}
    if known is None and (created := _create(server, "work_pools/", body)):
        return Registered("work pool", pool["name"], "created", _limit(created))
    known = known or server.request("GET", path)  # its worker has just created it
    if known["type"] != pool["type"]:
        raise StackError(
            f"The work pool {pool['name']} is of type {known['type']}, not {pool['type']}; delete it and try again."
        )
    fresh = _with_defaults(template, known["base_job_template"])
    if not template or fresh == known["base_job_template"]:
        return Registered("work pool", pool["name"], "unchanged", _limit(known))
    server.request("PATCH", path, {"base_job_template": fresh})
    return Registered("work pool", pool["name"], "updated", _limit(known))


def _register_queue(server: PrefectServer, pool: str, queue: dict[str, Any]) -> Registered:
    """Create the queue, or set its limit if it has none."""
    name, path = f"{pool}/{queue['name']}", f"work_pools/{pool}/queues"
    if created := _create(server, path, queue):
        return Registered("work queue", name, "created", _at_once(created))
    known = server.request("GET", f"{path}/{queue['name']}")
    if known["concurrency_limit"] is not None:
        return Registered("work queue", name, "unchanged", _at_once(known))
    server.request("PATCH", f"{path}/{queue['name']}", {"concurrency_limit": queue["concurrency_limit"]})
    return Registered("work queue", name, "updated", _at_once(queue))


def _with_defaults(template: dict[str, Any], existing: dict[str, Any]) -> dict[str, Any]:
    """The template, with the defaults that the existing pool's form has."""
    fresh = copy.deepcopy(template)
    theirs = existing.get("variables", {}).get("properties", {})
    for name, field in fresh.get("variables", {}).get("properties", {}).items():
        if "default" in theirs.get(name, {}):
            field["default"] = theirs[name]["default"]
    return fresh


def _with_operators_changes(deployment: dict[str, Any], existing: dict[str, Any] | None) -> dict[str, Any]:
    """The deployment with the parameters and schedule switches that it has on the server."""
    if existing is None:
        return deployment
    merged = deployment | {"parameters": existing["parameters"] | deployment.get("parameters", {})}
    if any(schedule["slug"] is None for schedule in existing["schedules"]):
        merged.pop("schedules", None)  # an operator added a schedule; sending ours would delete it
        return merged
    active = {schedule["slug"]: schedule["active"] for schedule in existing["schedules"]}
    schedules = deployment.get("schedules", [])
    return merged | {"schedules": [each | {"active": active.get(each["slug"], each["active"])} for each in schedules]}


def _with_retention(deployment: dict[str, Any]) -> dict[str, Any]:
    """The deployment, with its schedule switched by RETENTION_DAYS if it is that of housekeeping."""
    if deployment["entrypoint"] != HOUSEKEEPING or "schedules" not in deployment:
        return deployment
    is_on = settings.load().retention_days > 0
    return deployment | {"schedules": [each | {"active": is_on} for each in deployment["schedules"]]}


def _deploy(config: dict[str, Any], api_url: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(config, file)
        file.flush()
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file.name]
        env = os.environ | {"PREFECT_API_URL": api_url}
        done = subprocess.run(command, cwd=HOME, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        last_line = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
        raise StackError(f"Could not register the deployments: {last_line[0]}")


def _name(deployment: dict[str, Any]) -> str:
    """FLOW/DEPLOYMENT; a flow is named after its function."""
    return f"{deployment['entrypoint'].rpartition('.')[2]}/{deployment['name']}"


def _summary(deployment: dict[str, Any]) -> str:
    switches = [f"schedule {'on' if each['active'] else 'off'}" for each in deployment.get("schedules", [])]
    return ", ".join([f"pool {deployment['work_pool']['name']}", *switches])


def _limit(pool: dict[str, Any]) -> str:
    return f"{pool['type']}, {_at_once(pool)}"


def _at_once(limited: dict[str, Any]) -> str:
    limit = limited["concurrency_limit"]
    return "no limit" if limit is None else f"at most {limit} at once"


def _find(server: PrefectServer, path: str) -> dict[str, Any] | None:
    """The object at the path, or None if absent."""
    try:
        return server.request("GET", path)
    except NotFound:
        return None


def _create(server: PrefectServer, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
    """The created object, or None if its name is taken."""
    try:
        return server.request("POST", path, body)
    except AlreadyExists:
        return None
    except NotFound:  # a Prefect API always has this collection
        raise wrong_url_error() from None
