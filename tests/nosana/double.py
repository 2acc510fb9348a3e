"""A strict double of Nosana's deployments API on loopback: it refuses what the service refuses.

What becomes of a deployment is a script, taken in turn from `scripts`. The script `run` starts the container's
command as a process of this machine with nothing but its own environment.
"""

import asyncio
import contextlib
import itertools
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.nosana.format import CreateBody

ROOT = Path(__file__).parents[2]
KEY, OTHER_KEY = "nos_first_key", "nos_other_key"
MARKET = {
    "address": "7AtiXMSH6R1jjBxrcYjehCkkSF7zvYWte63gwEDBcGHq",
    "slug": "nvidia-3060",
    "name": "NVIDIA 3060",
    "type": "PREMIUM",
    "gpu_types": ["NVIDIA RTX 3060"],
    "usd_reward_per_hour": 0.048,
    "required_images": [],
}
PHASES = ("QUEUED", "RUNNING", "COMPLETED", "STOPPED")
LIMITS = {10, 20, 50, 100}
STEP = 0.05
"""Seconds that Nosana takes for anything."""

Script = Callable[["Deployment"], Awaitable[None]]


def address() -> str:
    """An id as Solana has them: 44 letters of base 58."""
    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    return "".join(secrets.choice(letters) for _ in range(44))


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class Job:
    deployment: "Deployment"
    id: str = field(default_factory=address)
    state: str = "QUEUED"
    result: dict[str, Any] | None = None
    started: float = 0
    ended: float = 0
    created_at: str = field(default_factory=now)

    def run(self) -> None:
        self.state, self.started = "RUNNING", time.time()

    def end(self, state: str = "COMPLETED", *, result: dict[str, Any] | None) -> None:
        self.state, self.ended, self.result = state, time.time(), result

    def line(self) -> dict[str, Any]:
        node = None if self.state == "QUEUED" else "N" * 44
        ids = {"tx": "tx", "deployment": self.deployment.id, "job": self.id, "market": MARKET["address"], "node": node}
        times = {"time_start": self.started, "created_at": self.created_at, "updated_at": now()}
        return ids | {"revision": 1, "state": self.state} | times

    def page(self) -> dict[str, Any]:
        return {
            "confidential": self.deployment.body["confidential"],
            "revision": 1,
            "market": MARKET["address"],
            "node": "N" * 44,
            "state": PHASES.index(self.state),
            "jobStatus": None,
            "jobDefinition": self.deployment.body["job_definition"],
            "jobResult": self.result,
            "timeStart": self.started,
            "timeEnd": self.ended,
            "listedAt": self.started,
        }


@dataclass
class Deployment:
    key: str
    body: dict[str, Any]
    script: Script
    minute: float
    id: str = field(default_factory=address)
    status: str = "DRAFT"
    jobs: list[Job] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    created_at: str = field(default_factory=now)
    life: asyncio.Task[None] | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    def view(self) -> dict[str, Any]:
        known = {
            name: self.body[name] for name in ("name", "market", "replicas", "timeout", "strategy", "confidential")
        }
        ids = {"id": self.id, "vault": "V" * 44, "owner": "O" * 44, "endpoints": [], "active_revision": 1}
        active = sum(job.state in ("QUEUED", "RUNNING") for job in self.jobs)
        times = {"created_at": self.created_at, "updated_at": now()}
        return known | ids | {"status": self.status, "active_jobs": active} | times

    def say(self, kind: str, message: str) -> None:
        event = {"category": "Event", "deploymentId": self.id, "type": kind, "message": message, "created_at": now()}
        self.events.insert(0, event)

    def list_job(self) -> Job:
        self.jobs.insert(0, Job(self))
        return self.jobs[0]

    async def wait(self, seconds: float = STEP) -> bool:
        """Whether the deployment was stopped while waiting."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()


def ended(code: int | None, *log: str, **more: Any) -> dict[str, Any]:
    """A job's result. It says success, whatever happened."""
    reason = {"hostShutDown": False, "jobStopped": False, "jobExpired": False} | more.pop("reason", {})
    state = {"OOMKilled": False, "ExitCode": code} | more.pop("state", {})
    operation = {
        "providerId": "container",
        "operationId": "kangklip",
        "group": None,
        "status": "success",
        "startTime": 1,
        "endTime": 2,
        "exitCode": code,
        "logs": [{"type": "stdout", "log": line, "timestamp": now()} for line in log],
        "diagnostics": {"reason": reason, "state": state},
        **more,
    }
    return {"status": "success", "startTime": 1, "endTime": 2, "opStates": [operation]}


def ends_with(code: int, **more: Any) -> Script:
    async def script(deployment: Deployment) -> None:
        job = deployment.list_job()
        if not await deployment.wait():
            job.run()
            await deployment.wait()
        if deployment.stopping.is_set():
            job.end("STOPPED", result=ended(None, reason={"jobStopped": True}))
        else:
            job.end(result=ended(code, "the last line", **more))

    return script


def failed(event: str) -> Script:
    return ends_with(2, error={"event": event, "message": f"{event} of this host"})


async def never_claimed(deployment: Deployment) -> None:
    job = deployment.list_job()
    await deployment.stopping.wait()
    job.end("STOPPED", result=None)


async def hangs(deployment: Deployment) -> None:
    job = deployment.list_job()
    await deployment.wait()
    job.run()
    expired = not await deployment.wait(deployment.body["timeout"] * deployment.minute)
    job.end("STOPPED", result=ended(None, reason={"jobExpired": expired, "jobStopped": not expired}))


async def result_late(deployment: Deployment) -> None:
    job = deployment.list_job()
    job.run()
    job.end(result=None)
    await asyncio.sleep(10 * STEP)
    job.result = ended(0)


async def result_lost(deployment: Deployment) -> None:
    job = deployment.list_job()
    job.run()
    job.end(result={"status": "success", "startTime": 1, "endTime": 2, "opStates": []})


async def no_credits(deployment: Deployment) -> None:
    """Until somebody tops up, after a while; then it would run, and be paid for."""
    deployment.status = "INSUFFICIENT_FUNDS"
    deployment.say("JOB_LIST_ERROR", "Insufficient credits to list the job.")
    if not await deployment.wait(40 * STEP):
        deployment.status = "RUNNING"
        await ends_with(0)(deployment)


async def not_listed(deployment: Deployment) -> None:
    for _ in range(6):
        deployment.say("JOB_LIST_ERROR", "The market does not answer.")
        if await deployment.wait(2 * STEP):
            return
    deployment.status = "ERROR"
    await deployment.stopping.wait()


async def slow_start(deployment: Deployment) -> None:
    deployment.status = "STARTING"
    await asyncio.sleep(10 * STEP)  # it cannot be stopped meanwhile
    deployment.status = "RUNNING"
    await ends_with(0)(deployment)


async def run(deployment: Deployment) -> None:
    """The container's command with the environment of the definition alone, as on a host."""
    args = deployment.body["job_definition"]["ops"][0]["args"]
    job = deployment.list_job()
    await deployment.wait()
    job.run()
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable if word == "python" else word for word in args["cmd"]]
        env = {"PATH": os.environ["PATH"], "HOME": home, "KANGKLIP_DATA_DIR": f"{home}/data"} | args["env"]
        process = await asyncio.create_subprocess_exec(
            *command, cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        reading = asyncio.create_task(process.communicate())
        stopped = asyncio.create_task(deployment.stopping.wait())
        minutes = deployment.body["timeout"] * deployment.minute
        try:
            await asyncio.wait({reading, stopped}, timeout=minutes, return_when=asyncio.FIRST_COMPLETED)
            expired = not reading.done() and not stopped.done()
            if not reading.done():
                process.terminate()
                await asyncio.wait({reading}, timeout=10)
        finally:
            stopped.cancel()
            if process.returncode is None:
                process.kill()
        output = (await reading)[0].decode(errors="replace").splitlines()
    reason = {"jobExpired": expired, "jobStopped": deployment.stopping.is_set()}
    job.end(result=ended(process.returncode, *output[-200:], reason=reason))


SCRIPTS: dict[str, Script] = {
    "ok": ends_with(0),
    "exit 3": ends_with(3),
    "never claimed": never_claimed,
    "hangs": hangs,
    "expired": ends_with(0, reason={"jobExpired": True}),
    "image": failed("image-pull-error"),
    "resource": failed("resource-error"),
    "runtime": failed("container-runtime-error"),
    "host shut down": ends_with(1, reason={"hostShutDown": True}),
    "out of memory": ends_with(137, state={"OOMKilled": True}),
    "result late": result_late,
    "result lost": result_lost,
    "no credits": no_credits,
    "not listed": not_listed,
    "slow start": slow_start,
    "run": run,
}

WRONG_STATE = JSONResponse({"error": "Deployment is in the incorrect state."}, 500)
ARCHIVED = JSONResponse({"error": "Cannot modify an archived deployment."}, 500)
NOT_FOUND = JSONResponse({"error": "Deployment not found."}, 404)
BAD = JSONResponse({"error": "Bad Request"}, 400)
STARTABLE = {"DRAFT", "STOPPED", "ERROR", "INSUFFICIENT_FUNDS"}
STOPPABLE = {"RUNNING", "ERROR", "INSUFFICIENT_FUNDS"}


class NosanaDouble:
    """A context manager. `scripts` are used up in turn, then `script`; `faults` befall the next calls of a route.

    A fault is a status (429, 502) or "lost": the call has its effect, and its answer never comes.
    """

    def __init__(self, script: str = "ok", minute: float = 60.0) -> None:
        self.script, self.scripts, self.minute = script, [], minute
        self.faults: dict[tuple[str, str], list[int | str]] = {}
        self.deployments: list[Deployment] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.credits = {KEY: 100.0, OTHER_KEY: 100.0}
        self.most_live = 0
        app = Starlette(routes=self._routes())
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        )
        self._thread = threading.Thread(target=self._uvicorn.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._uvicorn.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        self.url = f"http://127.0.0.1:{self._uvicorn.servers[0].sockets[0].getsockname()[1]}/api"
        return self

    def __exit__(self, *_: object) -> None:
        for deployment in self.deployments:
            if deployment.life is not None:
                deployment.life.get_loop().call_soon_threadsafe(deployment.stopping.set)
        until = time.monotonic() + 15
        while any(one.life and not one.life.done() for one in self.deployments) and time.monotonic() < until:
            time.sleep(STEP)
        self._uvicorn.should_exit = True
        self._thread.join(10)

    def unarchived(self) -> list[str]:
        return [one.body["name"] for one in self.deployments if one.status != "ARCHIVED"]

    def definitions(self) -> str:
        """Everything that a host, or whoever reads what Nosana keeps, has seen."""
        return json.dumps([one.body for one in self.deployments])

    def _routes(self) -> list[Route]:
        one = "/api/deployments/{id}"
        routes: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
            ("POST", "/api/deployments/create", self._create),
            ("GET", "/api/deployments", self._list),
            ("GET", one, self._get),
            ("DELETE", one, self._delete),
            ("POST", f"{one}/start", self._start),
            ("POST", f"{one}/stop", self._stop),
            ("POST", f"{one}/archive", self._archive),
            ("GET", f"{one}/jobs", self._jobs),
            ("GET", f"{one}/jobs/{{job}}", self._job),
            ("GET", f"{one}/events", self._events),
            ("GET", "/api/credits/balance", self._balance),
            ("GET", "/api/markets/", self._markets),
            ("GET", "/api/markets/{market}/", self._market),
        ]
        return [Route(path, self._guarded(path, handler), methods=[method]) for method, path, handler in routes]

    def _guarded(self, path: str, handler: Callable[[Request], Awaitable[Response]]) -> Any:
        async def answer(request: Request) -> Response:
            body = await request.body()
            self.requests.append((request.method, request.url.path, json.loads(body) if body else None))
            if request.headers.get("authorization", "").removeprefix("Bearer ") not in self.credits:
                return JSONResponse({"error": "Unauthorized"}, 401)
            waiting = self.faults.get((request.method, path.rpartition("/")[2]), [])
            fault = waiting.pop(0) if waiting else None
            if isinstance(fault, int):
                headers = {"Retry-After": "1"} if fault == 429 else {}
                return JSONResponse({"error": "Later"}, fault, headers)
            done = await handler(request)
            return Lost() if fault == "lost" else done

        return answer

    async def _create(self, request: Request) -> Response:
        try:
            body = CreateBody.model_validate_json(await request.body())
        except ValidationError:
            return BAD
        if body.market != MARKET["address"]:
            return BAD
        script = SCRIPTS[self.scripts.pop(0) if self.scripts else self.script]
        said = json.loads(await request.body())
        kept = {"confidential": False, "autostart": False} | said
        made = Deployment(self._key(request), kept, script, self.minute)
        self.deployments.append(made)
        if body.autostart:
            self._begin(made)
        return JSONResponse(made.view())

    async def _list(self, request: Request) -> Response:
        asked = request.query_params
        mine = [one for one in self.deployments if one.key == self._key(request)]
        found = [
            one.view()
            for one in mine
            if asked.get("name") in (None, one.body["name"])
            and asked.get("search", "") in one.body["name"]
            and asked.get("status") in (None, one.status)
        ]
        return self._paged(request, "deployments", found)

    async def _get(self, request: Request) -> Response:
        one = self._mine(request)
        return JSONResponse(one.view()) if one else NOT_FOUND

    async def _delete(self, request: Request) -> Response:
        one = self._mine(request)
        if one is None:
            return NOT_FOUND
        if one.status != "STOPPED":
            return WRONG_STATE
        self.deployments.remove(one)
        return Response(status_code=204)

    async def _start(self, request: Request) -> Response:
        if (one := self._mine(request)) is None:
            return NOT_FOUND
        if one.status == "ARCHIVED":
            return ARCHIVED
        if one.status not in STARTABLE:
            return WRONG_STATE
        self._begin(one)
        return JSONResponse({"status": "STARTING", "updated_at": now()})

    async def _stop(self, request: Request) -> Response:
        if (one := self._mine(request)) is None:
            return NOT_FOUND
        if one.status == "ARCHIVED":
            return ARCHIVED
        if one.status not in STOPPABLE:
            return WRONG_STATE
        one.status = "STOPPING"
        one.stopping.set()
        return JSONResponse({"status": "STOPPING", "updated_at": now()})

    async def _archive(self, request: Request) -> Response:
        if (one := self._mine(request)) is None:
            return NOT_FOUND
        if one.status == "ARCHIVED":
            return ARCHIVED
        if one.status != "STOPPED":
            return WRONG_STATE
        one.status = "ARCHIVED"
        return JSONResponse({"status": "ARCHIVED", "updated_at": now()})

    async def _jobs(self, request: Request) -> Response:
        one = self._mine(request)
        return self._paged(request, "jobs", [job.line() for job in one.jobs]) if one else NOT_FOUND

    async def _job(self, request: Request) -> Response:
        one = self._mine(request)
        found = [job for job in one.jobs if job.id == request.path_params["job"]] if one else []
        return JSONResponse(found[0].page()) if found else NOT_FOUND

    async def _events(self, request: Request) -> Response:
        one = self._mine(request)
        return self._paged(request, "events", one.events) if one else NOT_FOUND

    async def _balance(self, request: Request) -> Response:
        held = {"assignedCredits": self.credits[self._key(request)], "reservedCredits": 0, "settledCredits": 0}
        return JSONResponse(held)

    async def _markets(self, _: Request) -> Response:
        return JSONResponse([MARKET])

    async def _market(self, request: Request) -> Response:
        known = request.path_params["market"] in (MARKET["address"], MARKET["slug"])
        return JSONResponse(MARKET) if known else JSONResponse({"error": "Market not found."}, 404)

    def _begin(self, one: Deployment) -> None:
        """STARTING is over within moments, and the script decides what RUNNING means."""
        one.status = "RUNNING"
        one.stopping = asyncio.Event()
        one.life = asyncio.create_task(self._live(one))
        live = [other for other in self.deployments if other.status not in ("DRAFT", "STOPPED", "ARCHIVED")]
        self.most_live = max(self.most_live, len(live))

    async def _live(self, one: Deployment) -> None:
        await one.script(one)
        await asyncio.sleep(STEP)
        one.status = "STOPPED"

    def _mine(self, request: Request) -> Deployment | None:
        wanted = request.path_params["id"], self._key(request)
        return next((one for one in self.deployments if (one.id, one.key) == wanted), None)

    @staticmethod
    def _key(request: Request) -> str:
        return request.headers["authorization"].removeprefix("Bearer ")

    @staticmethod
    def _paged(request: Request, name: str, items: list[dict[str, Any]]) -> Response:
        limit, cursor = request.query_params.get("limit", "10"), request.query_params.get("cursor", "0")
        if not limit.isdecimal() or int(limit) not in LIMITS or not cursor.isdecimal():
            return BAD
        first, after = int(cursor), int(cursor) + int(limit)
        pagination = {
            "cursor_next": str(after) if after < len(items) else None,
            "cursor_prev": str(max(first - int(limit), 0)) if first else None,
            "total_items": len(items),
        }
        return JSONResponse({name: list(itertools.islice(items, first, after)), "pagination": pagination})


class Lost(Response):
    """Begins an answer and hangs up: the client cannot know what came of its call."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise ConnectionAbortedError
