"""What prefect.yaml offers, brought to a Prefect server: work pools with queues and deployments, as often as one likes.

What the file says is so afterwards. What an operator may turn stays as it was turned: a pool's limit and the
defaults of its form, a schedule's switch, and parameters that the file does not give.

Nothing here imports Prefect, whose settings are read at import; `prefect deploy` is a process of its own.
"""

import copy
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import httpx
import tenacity
import yaml

from deployments.home import HOME
from infra.errors import StackError

FILE = HOME / "prefect.yaml"
_NO_API = "PREFECT_API_URL leads to something else than a Prefect API; its address ends in /api."

Outcome = Literal["made", "changed", "saved", "there already"]


@dataclass(frozen=True)
class Registered:
    """One thing on the server: what it is, its name, what became of it, and what to know of it."""

    kind: str
    name: str
    outcome: Outcome
    detail: str = ""


def register(
    api_url: str, pools: Collection[str] | None = None, templates: Mapping[str, dict[str, Any]] | None = None
) -> list[Registered]:
    """Register the work pools of prefect.yaml and their deployments.

    Args:
        api_url: of the Prefect server.
        pools: those to register; all when None. Deployments of others are left out.
        templates: base job template by type of pool; without one its worker fills it in.

    Raises:
        StackError: the Prefect server does not take them.
    """
    offered = _offered()
    wanted = [pool for pool in offered["definitions"]["pools"] if pools is None or pool["name"] in pools]
    names = {pool["name"] for pool in wanted}
    deployments = [each for each in offered["deployments"] if each["work_pool"]["name"] in names]
    with _server(api_url) as server:
        done = _pools(server, wanted, templates or {})
        known = [_deployment(server, each) for each in deployments]
        turned = [_as_turned(each, there) for each, there in zip(deployments, known, strict=True)]
        _deploy(offered | {"deployments": turned, "build": None}, api_url)
    for each, there in zip(turned, known, strict=True):
        done.append(Registered("deployment", _name(each), "there already" if there else "made", _told(each)))
    return done


def register_pools(api_url: str, templates: Mapping[str, dict[str, Any]]) -> list[Registered]:
    """Register the work pools alone, with their queues.

    Raises:
        StackError: the Prefect server does not take them.
    """
    with _server(api_url) as server:
        return _pools(server, _offered()["definitions"]["pools"], templates)


def _offered() -> dict[str, Any]:
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


def _server(api_url: str) -> httpx.Client:
    return httpx.Client(base_url=api_url.rstrip("/") + "/", timeout=30)


def _pools(
    server: httpx.Client, wanted: list[dict[str, Any]], templates: Mapping[str, dict[str, Any]]
) -> list[Registered]:
    done = [_pool(server, pool, templates.get(pool["type"], {})) for pool in wanted]
    return done + [_queue(server, pool["name"], queue) for pool in wanted for queue in pool.get("queues", [])]


def _pool(server: httpx.Client, pool: dict[str, Any], template: dict[str, Any]) -> Registered:
    """Make the pool, or bring its template up to date; its limit is the operator's from then on."""
    path = f"work_pools/{pool['name']}"
    known = _ask(server, "GET", path)
    body = {name: value for name, value in pool.items() if name != "queues"} | {"base_job_template": template}
    if known is None and (made := _ask(server, "POST", "work_pools/", body)):
        return Registered("work pool", pool["name"], "made", _limit(made))
    known = known or _ask(server, "GET", path)  # its worker was faster
    if known is None:
        raise StackError(_NO_API)
    if known["type"] != pool["type"]:
        told = f"The work pool {pool['name']} is of type {known['type']}, not {pool['type']}; delete it and try again."
        raise StackError(told)
    fresh = _with_defaults(template, known["base_job_template"])
    if not template or fresh == known["base_job_template"]:
        return Registered("work pool", pool["name"], "there already", _limit(known))
    _ask(server, "PATCH", path, {"base_job_template": fresh})
    return Registered("work pool", pool["name"], "changed", _limit(known))


def _queue(server: httpx.Client, pool: str, queue: dict[str, Any]) -> Registered:
    """Make the queue, or give it its limit where it has none; a limit that somebody set stays."""
    name, path = f"{pool}/{queue['name']}", f"work_pools/{pool}/queues"
    if made := _ask(server, "POST", path, queue):
        return Registered("work queue", name, "made", _at_once(made))
    known = _ask(server, "GET", f"{path}/{queue['name']}")
    if known["concurrency_limit"] is not None:
        return Registered("work queue", name, "there already", _at_once(known))
    _ask(server, "PATCH", f"{path}/{queue['name']}", {"concurrency_limit": queue["concurrency_limit"]})
    return Registered("work queue", name, "changed", _at_once(queue))


def _with_defaults(template: dict[str, Any], turned: dict[str, Any]) -> dict[str, Any]:
    """The template with the defaults that the pool's form has now."""
    fresh = copy.deepcopy(template)
    theirs = turned.get("variables", {}).get("properties", {})
    for name, field in fresh.get("variables", {}).get("properties", {}).items():
        if "default" in theirs.get(name, {}):
            field["default"] = theirs[name]["default"]
    return fresh


def _deployment(server: httpx.Client, deployment: dict[str, Any]) -> dict[str, Any] | None:
    return _ask(server, "GET", f"deployments/name/{_name(deployment)}")


def _as_turned(deployment: dict[str, Any], known: dict[str, Any] | None) -> dict[str, Any]:
    """The deployment with the switches and parameters that it has on the server."""
    if known is None:
        return deployment
    turned = deployment | {"parameters": known["parameters"] | deployment.get("parameters", {})}
    if any(schedule["slug"] is None for schedule in known["schedules"]):
        turned.pop("schedules", None)  # somebody added one by hand; sending ours would delete it
        return turned
    active = {schedule["slug"]: schedule["active"] for schedule in known["schedules"]}
    schedules = deployment.get("schedules", [])
    return turned | {"schedules": [each | {"active": active.get(each["slug"], each["active"])} for each in schedules]}


def _deploy(offered: dict[str, Any], api_url: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml", encoding="utf-8") as file:
        yaml.safe_dump(offered, file)
        file.flush()
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", file.name]
        env = os.environ | {"PREFECT_API_URL": api_url}
        done = subprocess.run(command, cwd=HOME, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no word"]
        raise StackError(f"The deployments could not be registered: {said[0]}")


def _name(deployment: dict[str, Any]) -> str:
    """flow/deployment: a flow is called like its function."""
    return f"{deployment['entrypoint'].rpartition('.')[2]}/{deployment['name']}"


def _told(deployment: dict[str, Any]) -> str:
    switches = [f"schedule {'on' if each['active'] else 'off'}" for each in deployment.get("schedules", [])]
    return ", ".join([f"pool {deployment['work_pool']['name']}", *switches])


def _limit(pool: dict[str, Any]) -> str:
    return f"{pool['type']}, {_at_once(pool)}"


def _at_once(limited: dict[str, Any]) -> str:
    limit = limited["concurrency_limit"]
    return "no limit" if limit is None else f"at most {limit} at once"


def _is_busy(answer: httpx.Response) -> bool:
    """A server on SQLite answers 503 while its database is locked, and has done nothing then."""
    return answer.status_code == httpx.codes.SERVICE_UNAVAILABLE


_patiently = tenacity.Retrying(
    retry=tenacity.retry_if_result(_is_busy),
    wait=tenacity.wait_random_exponential(multiplier=0.2, max=2),
    stop=tenacity.stop_after_attempt(8),
    retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
)


def _ask(server: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """The server's answer; None where nothing of that name is there, or is already when it was to be made."""
    try:
        answer = _patiently(server.request, method, path, json=body)
    except httpx.HTTPError as error:
        told = f"The Prefect server did not answer ({type(error).__name__}); check PREFECT_API_URL."
        raise StackError(told) from error
    if answer.status_code in (httpx.codes.NOT_FOUND, httpx.codes.CONFLICT):
        return None
    if answer.is_error:
        raise StackError(f"The Prefect server answered {answer.status_code} to {path}.")
    try:
        return answer.json() if answer.content else None
    except ValueError:
        raise StackError(_NO_API) from None
