"""/api/worker/prefect/…: the Prefect server's routes that a session's run needs, and 403 for all others.

Requests are rebuilt from the fields that prefect_rules lets through. The server itself, its blocks, variables, pools
and other runs are out of reach. Not in the OpenAPI document: only Prefect's own client calls these routes.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any
from uuid import UUID

import httpx
from anyio import to_thread
from fastapi import APIRouter, Depends, HTTPException, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from starlette.websockets import WebSocketDisconnect, WebSocketState

from deployments.api.concurrency import NoPlace
from deployments.api.dependencies import Given, Parts
from deployments.api.granted import prefect_rules as rules
from deployments.api.granted.prefect_rules import Own
from deployments.api.granted.session import Open, open_session
from deployments.api.guards import BODY_BYTES, client_of, read_json
from deployments.api.models import NO_STORE
from infra.errors import Forbidden, StateError, SubmitError
from infra.granted.session import Session

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/api/worker/prefect", include_in_schema=False)

AWAY = (503, "the Prefect server did not answer")
SECONDS_TO_SAY_WHO = 20
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013


async def _body(request: Request) -> Any:
    return await read_json(request)


Json = Annotated[Any, Depends(_body)]


class Upstream:
    """The Prefect server on behalf of one session. Methods raise HTTPException with the machine's answer."""

    def __init__(self, session: Session, parts: Parts, agent: str | None = None) -> None:
        self._agent = agent
        self.own = Own(session.run_id, session.flow_id, session.deployment_id, session.job_id)
        self._server = parts.prefect

    async def forward(self, method: str, path: str, body: Any = None) -> Response:
        """The server's answer, without what only operators may see."""
        try:
            answer = await self._server.forward(method, path, body, self._agent)
        except SubmitError as error:
            logger.warning("A rented machine asked in vain: %s", error)
            raise HTTPException(*AWAY) from None
        except ValueError:  # a lone surrogate or an infinite number cannot be sent on
            raise Forbidden from None
        if not answer.content:
            return Response(status_code=answer.status_code)
        return JSONResponse(rules.shown(answer.json()), answer.status_code)

    async def check(self, kind: str, identifiers: Iterable[str]) -> None:
        """Refuse ids of another run. Ids unknown to the server pass: this run may be creating them."""
        for identifier in identifiers:
            try:
                owner = await self._server.owner(kind, identifier)
            except SubmitError:
                raise HTTPException(*AWAY) from None
            if owner not in (None, self.own.run_id):
                raise Forbidden


async def _upstream(request: Request, session: Open, parts: Given) -> Upstream:
    return Upstream(session, parts, request.headers.get("user-agent"))


Server = Annotated[Upstream, Depends(_upstream)]


@router.get("/admin/version")
@router.get("/admin/storage")
async def read_admin(request: Request, server: Server) -> Response:
    return await server.forward("GET", f"admin/{request.url.path.rpartition('/')[2]}")


@router.get("/csrf-token")
async def read_csrf_token(_: Server) -> Response:
    """There is no CSRF token: no browser uses a session."""
    return JSONResponse({"detail": "CSRF protection is disabled."}, 422)


@router.get("/flow_runs/{run_id}")
async def read_run(run_id: UUID, server: Server) -> Response:
    _same(run_id, server.own.run_id)
    return await server.forward("GET", f"flow_runs/{run_id}")


@router.patch("/flow_runs/{run_id}")
async def change_run(run_id: UUID, body: Json, server: Server) -> Response:
    _same(run_id, server.own.run_id)
    return await server.forward("PATCH", f"flow_runs/{run_id}", rules.run_change(body))


@router.post("/flow_runs/{run_id}/set_state")
async def set_state(run_id: UUID, body: Json, session: Open, server: Server, parts: Given) -> Response:
    """When the run ends, its session ends soon after."""
    _same(run_id, server.own.run_id)
    change = rules.state_change(body)
    answer = await server.forward("POST", f"flow_runs/{run_id}/set_state", change)
    if change["state"]["type"] in rules.FINAL and json.loads(bytes(answer.body) or b"{}").get("status") == "ACCEPT":
        await to_thread.run_sync(parts.sessions.close_soon, session)
    return answer


@router.get("/flows/{flow_id}")
async def read_flow(flow_id: UUID, server: Server) -> Response:
    _same(flow_id, server.own.flow_id)
    return await server.forward("GET", f"flows/{flow_id}")


@router.get("/deployments/{deployment_id}")
async def read_deployment(deployment_id: UUID, server: Server) -> Response:
    _same(deployment_id, server.own.deployment_id)
    return await server.forward("GET", f"deployments/{deployment_id}")


@router.get("/task_runs/{task_run_id}")
async def read_task_run(task_run_id: UUID, server: Server) -> Response:
    await server.check("task_runs", {str(task_run_id)})
    return await server.forward("GET", f"task_runs/{task_run_id}")


@router.post("/logs")
async def write_logs(body: Json, server: Server) -> Response:
    lines, task_runs = rules.logs(body, server.own)
    await server.check("task_runs", task_runs)
    return await server.forward("POST", "logs/", lines)


@router.post("/artifacts")
async def make_artifact(body: Json, server: Server) -> Response:
    artifact, task_runs = rules.new_artifact(body, server.own)
    await server.check("task_runs", task_runs)
    return await server.forward("POST", "artifacts/", artifact)


@router.patch("/artifacts/{artifact_id}")
async def change_artifact(artifact_id: UUID, body: Json, server: Server) -> Response:
    await server.check("artifacts", {str(artifact_id)})
    return await server.forward("PATCH", f"artifacts/{artifact_id}", rules.artifact_change(body))


@router.post("/v2/concurrency_limits/leases/{lease_id}/renew")
async def renew_lease(lease_id: UUID, body: Json, server: Server) -> Response:
    """Renew the run's own slot in its deployment's concurrency limit, while it has one."""
    run = await server.forward("GET", f"flow_runs/{server.own.run_id}")
    state = json.loads(bytes(run.body)).get("state") or {}
    _same(lease_id, (state.get("state_details") or {}).get("deployment_concurrency_lease_id"))
    return await server.forward("POST", f"v2/concurrency_limits/leases/{lease_id}/renew", rules.lease_seconds(body))


@router.websocket("/events/in")
async def take_events(socket: WebSocket) -> None:
    """Take events of the run and of its task runs, and drop all others."""
    await _introduced(socket, _take_all)


@router.websocket("/events/out")
async def tell_nothing(socket: WebSocket) -> None:
    """Prefect's client waits here for its run to be cancelled; a rented machine is stopped from outside instead."""
    await _introduced(socket, _take_none)


@router.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def refuse(path: str, _: Open) -> Response:  # noqa: ARG001 whatever it is
    raise Forbidden


async def _pass_on(text: str, server: Upstream) -> None:
    if len(text) > BODY_BYTES:
        raise Forbidden
    event, task_run = rules.event(json.loads(text), server.own)
    await server.check("task_runs", {task_run} if task_run else set())
    answer = await server.forward("POST", "events", [event])
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise Forbidden


async def _take_all(socket: WebSocket, parts: Parts) -> None:
    dropped = 0
    try:
        while True:
            text = await socket.receive_text()
            # Look again: the session may have ended, and every event counts towards its rate limit.
            session = await to_thread.run_sync(open_session, socket.state.token, parts)
            try:
                await _pass_on(text, Upstream(session, parts))
            except (Forbidden, ValueError, RecursionError):
                dropped += 1
    finally:
        if dropped:
            logger.info("%d events of a rented machine were dropped", dropped)


async def _take_none(socket: WebSocket, _: Parts) -> None:
    while True:
        await socket.receive_text()


async def _introduced(socket: WebSocket, serve: Callable[[WebSocket, Parts], Awaitable[None]]) -> None:
    """Serve a socket that starts with a session's token, as Prefect's client does; close any other.

    A socket takes one of its client's places even before it authenticates.
    """
    parts: Parts = socket.app.state.parts
    try:
        with parts.sockets.taken(client_of(socket)):
            await socket.accept("prefect" if "prefect" in socket.scope["subprotocols"] else None)
            if await _session_of(socket, parts):
                await serve(socket, parts)
    except NoPlace:
        await socket.close(TRY_AGAIN_LATER)
    except (WebSocketDisconnect, KeyError):  # it hung up, or sent something other than text
        pass
    except HTTPException as refused:
        await _close(socket, str(refused.detail))
    except StateError:
        await _close(socket, NO_STORE[1])


async def _session_of(socket: WebSocket, parts: Parts) -> Session | None:
    try:
        return await _who_it_is(socket, parts)
    except (HTTPException, ValueError, KeyError, RecursionError, TimeoutError):
        await socket.send_json({"type": "auth_failure", "reason": "session is not valid"})
        await _close(socket, "session is not valid")
        return None


async def _who_it_is(socket: WebSocket, parts: Parts) -> Session:
    async with asyncio.timeout(SECONDS_TO_SAY_WHO):
        said = await socket.receive_json()
    token = said.get("token") if isinstance(said, dict) and said.get("type") == "auth" else None
    session = await to_thread.run_sync(open_session, str(token or ""), parts)
    socket.state.token = str(token)
    await socket.send_json({"type": "auth_success"})
    return session


async def _close(socket: WebSocket, why: str) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        await socket.close(POLICY_VIOLATION, why)


def _same(given: UUID, own: str | None) -> None:
    if str(given) != own:
        raise Forbidden
