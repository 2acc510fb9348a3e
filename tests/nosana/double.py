"""A strict double of Nosana's deployments API on loopback: it refuses what the service refuses.

A script (scripts.py) decides what happens to a deployment; `run` starts the container's command as a process on this
machine with a bare environment.
"""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Self

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.nosana.format import CreateBody
from tests.nosana.scripts import Script, play, script_named
from tests.nosana.states import STEP, Deployment

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
LARGE_MARKET = {
    "address": "CUWPr7NcdXVMQoWJxqRdGPXUfwKCvDxFAMVVJc7GyBDT",
    "slug": "nvidia-a100",
    "name": "NVIDIA A100",
    "type": "PREMIUM",
    "gpu_types": ["NVIDIA A100-SXM4-80GB"],
    "usd_reward_per_hour": 0.9,
    "required_images": [],
}
LIMITS = {"10", "20", "50", "100"}
STARTABLE = {"DRAFT", "STOPPED", "ERROR", "INSUFFICIENT_FUNDS"}
STOPPABLE = {"RUNNING", "ERROR", "INSUFFICIENT_FUNDS"}

Answer = Callable[[Request], Awaitable[Response]]
Fault = int | float | str | threading.Event
"""What goes wrong with a call. 429, 502 and other integers are returned instead; a float delays the response by
so many seconds. "lost": the call takes effect and the connection closes without a response. "torn": it closes in the
middle of the response. "hidden": a gateway answers 502 for a call that took effect. "cut": it closes without effect."""


class Refused(Exception):
    def __init__(self, status: int, error: str) -> None:
        self.answer = JSONResponse({"error": error}, status)


def bad_request() -> Refused:
    return Refused(400, "Bad Request")


def wrong_state(one: Deployment) -> Refused:
    archived = one.status == "ARCHIVED"
    message = "Cannot modify an archived deployment." if archived else "Deployment is in the incorrect state."
    return Refused(500, message)


class NosanaDouble:
    """A context manager. Each new deployment plays the next of `scripts`, or `script` once they are used up.

    A script is a name or a function. `choose`, if set, picks it from the body of the create instead. `minute` is the
    length of a timeout's minute in seconds. `faults` happen to the next calls of a route, keyed by method and last
    part of the path: `("POST", "create")`, `("GET", "deployments")`, `("GET", "{id}")`. `requests` holds every call as
    (method, path, body), `misdirected` those to unknown routes; `most_live` is the peak of live deployments.
    """

    def __init__(self, script: str | Script = "ok", minute: float = 60.0) -> None:
        self.script, self.minute = script, minute
        self.scripts: list[str | Script] = []
        self.choose: Callable[[dict[str, Any]], str | Script] | None = None
        self.faults: dict[tuple[str, str], list[Fault]] = {}
        self.retry_after = "1"
        self.deployments: list[Deployment] = []
        self.requests: list[tuple[str, str, Any]] = []
        self.misdirected: list[tuple[str, str]] = []
        self.markets: list[dict[str, Any]] = [MARKET, LARGE_MARKET]
        self.credits = {KEY: 100.0, OTHER_KEY: 100.0}
        self.most_live = 0
        self._plays: dict[str, Script] = {}
        app = Starlette(routes=self._routes(), exception_handlers={404: self._no_route, 405: self._no_route})
        app.router.redirect_slashes = False
        config = uvicorn.Config(app, port=0, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        self._uvicorn = uvicorn.Server(config)

    def __enter__(self) -> Self:
        thread = threading.Thread(target=self._uvicorn.run, daemon=True)
        thread.start()
        while not self._uvicorn.started:
            assert thread.is_alive()
            time.sleep(0.005)
        self.url = f"http://127.0.0.1:{self._uvicorn.servers[0].sockets[0].getsockname()[1]}/api"
        return self

    def __exit__(self, *_: object) -> None:
        """End every container that still runs, and raise the error of a script that failed."""
        lives = [(one, one.life) for one in self.deployments if one.life]
        for one, life in lives:
            life.get_loop().call_soon_threadsafe(one.stopping.set)
        until = time.monotonic() + 15
        while not all(life.done() for _, life in lives) and time.monotonic() < until:
            time.sleep(STEP / 5)
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        for _, life in lives:
            if life.done() and not life.cancelled() and (error := life.exception()):
                raise error

    def top_up(self, usd: float, key: str = KEY) -> None:
        """Add credits; deployments that lacked them are tried again."""
        self.credits[key] += usd
        for one in self.deployments:
            if one.key == key and one.life:
                one.life.get_loop().call_soon_threadsafe(one.funded.set)

    def unarchived(self) -> list[str]:
        return [one.name for one in self.deployments if one.status not in ("ARCHIVED", "DELETED")]

    def definitions(self) -> str:
        """Everything that a host, or a reader of Nosana's records, can see."""
        return json.dumps([one.body for one in self.deployments])

    def _routes(self) -> list[Route]:
        one = "/api/deployments/{id}"
        routes: list[tuple[str, str, Answer]] = [
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
        return [Route(path, self._with_checks(path, answer), methods=[method]) for method, path, answer in routes]

    def _with_checks(self, path: str, answer: Answer) -> Answer:
        """Record the call, check its key and apply its fault."""

        async def guarded(request: Request) -> Response:
            self.requests.append((request.method, request.url.path, _said(await request.body())))
            if self._key(request) not in self.credits:
                return JSONResponse("Unauthorized", 401)
            waiting = self.faults.get((request.method, path.rstrip("/").rpartition("/")[2]), [])
            fault = waiting.pop(0) if waiting else None
            if type(fault) is int:
                return self._error_response(fault)
            if fault == "cut":
                return Lost()
            try:
                done = await answer(request)
            except Refused as refused:
                done = refused.answer
            return await _with_fault(done, fault)

        return guarded

    def _error_response(self, status: int) -> Response:
        if status == 429:
            return JSONResponse({"error": "Too Many Requests"}, 429, {"Retry-After": self.retry_after})
        return HTMLResponse(f"<html><title>{status}</title></html>", status)  # a gateway's page

    async def _no_route(self, request: Request, _: Exception) -> Response:
        self.misdirected.append((request.method, request.url.path))
        return JSONResponse({"error": "Not Found"}, 404)

    async def _create(self, request: Request) -> Response:
        try:
            body = CreateBody.model_validate_json(await request.body())
        except ValidationError:
            raise bad_request() from None
        if body.market not in [market["address"] for market in self.markets]:
            raise bad_request()
        kept = {"confidential": False, "autostart": False} | json.loads(await request.body())
        made = Deployment(self._key(request), kept, self.minute)
        self._plays[made.id] = self._script(kept)
        self.deployments.append(made)
        if body.autostart:
            self._begin(made)
        return JSONResponse(made.view())

    async def _list(self, request: Request) -> Response:
        """Filter by exact `name`, by `search` (part of a name) and by `status` (one or several, comma-separated)."""
        query = request.query_params
        statuses = query["status"].split(",") if "status" in query else None
        found = [
            one.view()
            for one in reversed(self.deployments)
            if one.key == self._key(request)
            and one.status != "DELETED"
            and query.get("name") in (None, one.name)
            and query.get("search", "") in one.name
            and (statuses is None or one.status in statuses)
        ]
        return _paged(request, "deployments", found)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._mine(request).view())

    async def _delete(self, request: Request) -> Response:
        self._in(request, {"STOPPED"}).move("DELETED")
        return Response(status_code=204)

    async def _start(self, request: Request) -> Response:
        one = self._in(request, STARTABLE)
        self._begin(one)
        return _moved(one)

    async def _stop(self, request: Request) -> Response:
        one = self._in(request, STOPPABLE)
        one.move("STOPPING")
        one.stopping.set()
        return _moved(one)

    async def _archive(self, request: Request) -> Response:
        one = self._in(request, {"STOPPED"})
        one.move("ARCHIVED")
        return _moved(one)

    async def _jobs(self, request: Request) -> Response:
        jobs = self._mine(request).jobs
        state = request.query_params.get("state")
        return _paged(request, "jobs", [job.line() for job in jobs if state in (None, job.state)])

    async def _job(self, request: Request) -> Response:
        for job in self._mine(request).jobs:
            if job.id == request.path_params["job"]:
                return JSONResponse(job.page())
        raise Refused(404, "Job not found.")

    async def _events(self, request: Request) -> Response:
        return _paged(request, "events", self._mine(request).events)

    async def _balance(self, request: Request) -> Response:
        key = self._key(request)
        reserved, settled = self._reserved(key), self._settled(key)
        return JSONResponse(
            {"assignedCredits": self.credits[key], "reservedCredits": reserved, "settledCredits": settled}
        )

    async def _markets(self, _: Request) -> Response:
        return JSONResponse(self.markets)

    async def _market(self, request: Request) -> Response:
        for market in self.markets:
            if request.path_params["market"] in (market["address"], market["slug"]):
                return JSONResponse(market)
        raise Refused(404, "Market not found.")

    def _script(self, body: dict[str, Any]) -> Script:
        if self.choose:
            return script_named(self.choose(body))
        return script_named(self.scripts.pop(0) if self.scripts else self.script)

    def _begin(self, one: Deployment) -> None:
        """Start the deployment's life, or restart it if it waited for credits or a listing."""
        if one.life:
            one.life.cancel()
        one.move("STARTING")
        one.stopping = asyncio.Event()
        one.life = asyncio.create_task(play(one, self._plays[one.id], self._affords))
        self.most_live = max(self.most_live, sum(other.is_live for other in self.deployments))

    def _affords(self, one: Deployment) -> bool:
        """Whether the credits suffice for the deployment's whole timeout."""
        spent = self._reserved(one.key) + self._settled(one.key)
        return self.credits[one.key] - spent >= self._price(one) * one.body["timeout"] / 60

    def _reserved(self, key: str) -> float:
        """Dollars reserved: the whole timeout of each waiting or running job."""
        mine = [one for one in self.deployments if one.key == key]
        live = [one for one in mine for job in one.jobs if not job.is_over]
        return sum(self._price(one) * one.body["timeout"] / 60 for one in live)

    def _settled(self, key: str) -> float:
        """Dollars spent: the time that jobs ran."""
        jobs = [(one, job) for one in self.deployments if one.key == key for job in one.jobs if job.is_over]
        return sum(self._price(one) * (job.ended - job.started) / 3600 for one, job in jobs if job.started)

    def _price(self, one: Deployment) -> float:
        """Dollars per hour."""
        return next(float(m["usd_reward_per_hour"]) for m in self.markets if m["address"] == one.body["market"])

    def _in(self, request: Request, states: set[str]) -> Deployment:
        one = self._mine(request)
        if one.status not in states:
            raise wrong_state(one)
        return one

    def _mine(self, request: Request) -> Deployment:
        wanted = request.path_params["id"], self._key(request)
        for one in self.deployments:
            if (one.id, one.key) == wanted and one.status != "DELETED":
                return one
        raise Refused(404, "Deployment not found.")

    @staticmethod
    def _key(request: Request) -> str:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        return key if scheme == "Bearer" else ""


def _said(body: bytes) -> Any:
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode(errors="replace")


def _moved(one: Deployment) -> Response:
    return JSONResponse({"status": one.status, "updated_at": one.updated_at})


async def _with_fault(done: Response, fault: Fault | None) -> Response:
    """The response to a call that took effect, changed by its fault."""
    if isinstance(fault, float):
        await asyncio.sleep(fault)
    if isinstance(fault, threading.Event):
        await asyncio.to_thread(fault.wait, 60)
    if fault == "hidden":
        return HTMLResponse("<html><title>502</title></html>", 502)
    return {"lost": Lost(), "torn": Torn()}.get(str(fault), done)


def _paged(request: Request, name: str, newest_first: list[dict[str, Any]]) -> Response:
    """A page of the list. Cursors count from the oldest, so that new items do not shift pages."""
    size = len(newest_first)
    limit, cursor = request.query_params.get("limit", "10"), request.query_params.get("cursor", str(size))
    if limit not in LIMITS or not cursor.isdecimal():
        raise bad_request()
    first = max(size - int(cursor), 0)
    after = first + int(limit)
    pagination = {
        "cursor_next": str(size - after) if after < size else None,
        "cursor_prev": str(min(size - first + int(limit), size)) if first else None,
        "total_items": size,
    }
    return JSONResponse({name: newest_first[first:after], "pagination": pagination})


class Lost(Response):
    """Hangs up without a response: the caller cannot know whether its call took effect."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        receive.__self__.transport.abort()  # uvicorn always sends a response otherwise


class Torn(Response):
    """Hangs up in the middle of the response."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{", "more_body": True})
        raise ConnectionAbortedError
