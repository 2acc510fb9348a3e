"""/api/worker/prefect/…: proxies the Prefect routes that a session's run needs; all others are 403.

Requests are rebuilt from the fields that prefect_rules allows. Server settings, blocks, variables, pools and other
runs are out of reach. These routes are not in the OpenAPI document, since only Prefect's client calls them.
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

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.guards import BODY_BYTES, client_of, read_json
from deployments.api.models import NO_STORE
from deployments.api.rented_machine import prefect_rules as rules
from deployments.api.rented_machine.prefect_rules import RunIds
from deployments.api.rented_machine.session import OpenSession, authenticate
from deployments.api.stream_limits import LimitReached
from infra.errors import Forbidden, StateError, SubmitError
from infra.granted.session import Session

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/api/worker/prefect", include_in_schema=False)

NO_PREFECT = (503, "the Prefect server did not answer")
AUTH_SECONDS = 20
POLICY_VIOLATION = 1008
TRY_AGAIN_LATER = 1013


async def _body(request: Request) -> Any:
    return await read_json(request)


Json = Annotated[Any, Depends(_body)]


class PrefectProxy:
    """Forwards a session's requests to the Prefect server. Errors are HTTPExceptions, which become the response."""

    def __init__(self, session: Session, services: Services, agent: str | None = None) -> None:
        self._agent = agent
        self.ids = RunIds(session.run_id, session.flow_id, session.deployment_id, session.job_id)
        self._forwarder = services.prefect

    async def forward(self, method: str, path: str, body: Any = None) -> Response:
        """The server's response, without what only operators may see."""
        try:
            answer = await self._forwarder.forward(method, path, body, self._agent)
        except SubmitError as error:
            logger.warning("A rented machine's request was not forwarded: %s", error)
            raise HTTPException(*NO_PREFECT) from None
        except ValueError:  # a lone surrogate or an infinite number cannot be forwarded
            raise Forbidden from None
        if not answer.content:
            return Response(status_code=answer.status_code)
        return JSONResponse(rules.visible_record(answer.json()), answer.status_code)

    async def check_owner(self, kind: str, identifiers: Iterable[str]) -> None:
        """Refuse ids of another run. Ids unknown to the server pass: this run may be creating them."""
        for identifier in identifiers:
            try:
                owner = await self._forwarder.owner(kind, identifier)
            except SubmitError:
                raise HTTPException(*NO_PREFECT) from None
            if owner not in (None, self.ids.run_id):
                raise Forbidden


async def _proxy(request: Request, session: OpenSession, services: ServicesDep) -> PrefectProxy:
    return PrefectProxy(session, services, request.headers.get("user-agent"))


Proxy = Annotated[PrefectProxy, Depends(_proxy)]


@router.get("/admin/version")
@router.get("/admin/storage")
async def read_admin(request: Request, proxy: Proxy) -> Response:
    return await proxy.forward("GET", f"admin/{request.url.path.rpartition('/')[2]}")


@router.get("/csrf-token")
async def read_csrf_token(_: Proxy) -> Response:
    """Report CSRF protection as disabled: no browser uses a session."""
    return JSONResponse({"detail": "CSRF protection is disabled."}, 422)


@router.get("/flow_runs/{run_id}")
async def read_run(run_id: UUID, proxy: Proxy) -> Response:
    _require_same(run_id, proxy.ids.run_id)
    return await proxy.forward("GET", f"flow_runs/{run_id}")


@router.patch("/flow_runs/{run_id}")
async def change_run(run_id: UUID, body: Json, proxy: Proxy) -> Response:
    _require_same(run_id, proxy.ids.run_id)
    return await proxy.forward("PATCH", f"flow_runs/{run_id}", rules.run_change(body))


@router.post("/flow_runs/{run_id}/set_state")
async def set_state(run_id: UUID, body: Json, session: OpenSession, proxy: Proxy, services: ServicesDep) -> Response:
    """Set the run's state. A final state also ends the session soon after."""
    _require_same(run_id, proxy.ids.run_id)
    change = rules.state_change(body)
    answer = await proxy.forward("POST", f"flow_runs/{run_id}/set_state", change)
    if change["state"]["type"] in rules.FINAL and json.loads(bytes(answer.body) or b"{}").get("status") == "ACCEPT":
        await to_thread.run_sync(services.sessions.close_soon, session)
    return answer


@router.get("/flows/{flow_id}")
async def read_flow(flow_id: UUID, proxy: Proxy) -> Response:
    _require_same(flow_id, proxy.ids.flow_id)
    return await proxy.forward("GET", f"flows/{flow_id}")


@router.get("/deployments/{deployment_id}")
async def read_deployment(deployment_id: UUID, proxy: Proxy) -> Response:
    _require_same(deployment_id, proxy.ids.deployment_id)
    return await proxy.forward("GET", f"deployments/{deployment_id}")


@router.get("/task_runs/{task_run_id}")
async def read_task_run(task_run_id: UUID, proxy: Proxy) -> Response:
    await proxy.check_owner("task_runs", {str(task_run_id)})
    return await proxy.forward("GET", f"task_runs/{task_run_id}")


@router.post("/logs")
async def write_logs(body: Json, proxy: Proxy) -> Response:
    lines, task_runs = rules.logs(body, proxy.ids)
    await proxy.check_owner("task_runs", task_runs)
    return await proxy.forward("POST", "logs/", lines)


@router.post("/artifacts")
async def make_artifact(body: Json, proxy: Proxy) -> Response:
    artifact, task_runs = rules.new_artifact(body, proxy.ids)
    await proxy.check_owner("task_runs", task_runs)
    return await proxy.forward("POST", "artifacts/", artifact)


@router.patch("/artifacts/{artifact_id}")
async def change_artifact(artifact_id: UUID, body: Json, proxy: Proxy) -> Response:
    await proxy.check_owner("artifacts", {str(artifact_id)})
    return await proxy.forward("PATCH", f"artifacts/{artifact_id}", rules.artifact_change(body))


@router.post("/v2/concurrency_limits/leases/{lease_id}/renew")
async def renew_lease(lease_id: UUID, body: Json, proxy: Proxy) -> Response:
    """Renew the run's slot in its deployment's concurrency limit."""
    run = await proxy.forward("GET", f"flow_runs/{proxy.ids.run_id}")
    state = json.loads(bytes(run.body)).get("state") or {}
    _require_same(lease_id, (state.get("state_details") or {}).get("deployment_concurrency_lease_id"))
    return await proxy.forward("POST", f"v2/concurrency_limits/leases/{lease_id}/renew", rules.lease_seconds(body))


@router.websocket("/events/in")
async def receive_events(socket: WebSocket) -> None:
    """Forward events of the run and its task runs; drop all others."""
    await _serve_authenticated(socket, _forward_events)


@router.websocket("/events/out")
async def send_no_events(socket: WebSocket) -> None:
    """Send nothing. Prefect's client waits here for a cancellation, but a rented machine is stopped from outside."""
    await _serve_authenticated(socket, _ignore_messages)


@router.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def refuse(path: str, _: OpenSession) -> Response:  # noqa: ARG001 any path
    raise Forbidden


async def _forward_event(text: str, proxy: PrefectProxy) -> None:
    if len(text) > BODY_BYTES:
        raise Forbidden
    event, task_run = rules.event(json.loads(text), proxy.ids)
    await proxy.check_owner("task_runs", {task_run} if task_run else set())
    answer = await proxy.forward("POST", "events", [event])
    if answer.status_code >= httpx.codes.BAD_REQUEST:
        raise Forbidden


async def _forward_events(socket: WebSocket, services: Services) -> None:
    dropped = 0
    try:
        while True:
            text = await socket.receive_text()
            # Authenticate each event: the session may have ended, and each counts against its rate limit.
            session = await to_thread.run_sync(authenticate, socket.state.token, services)
            try:
                await _forward_event(text, PrefectProxy(session, services))
            except (Forbidden, ValueError, RecursionError):
                dropped += 1
    finally:
        if dropped:
            logger.info("%d events of a rented machine were dropped", dropped)


async def _ignore_messages(socket: WebSocket, _: Services) -> None:
    while True:
        await socket.receive_text()


async def _serve_authenticated(socket: WebSocket, serve: Callable[[WebSocket, Services], Awaitable[None]]) -> None:
    """Serve a socket whose first message is a session token, as Prefect's client sends it; close any other.

    A socket counts against its client's limit even before it authenticates.
    """
    services: Services = socket.app.state.services
    try:
        with services.sockets.slot(client_of(socket)):
            await socket.accept("prefect" if "prefect" in socket.scope["subprotocols"] else None)
            if await _session_of(socket, services):
                await serve(socket, services)
    except LimitReached:
        await socket.close(TRY_AGAIN_LATER)
    except (WebSocketDisconnect, KeyError):  # it disconnected, or sent something other than text
        pass
    except HTTPException as refused:
        await _close(socket, str(refused.detail))
    except StateError:
        await _close(socket, NO_STORE[1])


async def _session_of(socket: WebSocket, services: Services) -> Session | None:
    try:
        return await _authenticate(socket, services)
    except (HTTPException, ValueError, KeyError, RecursionError, TimeoutError):
        await socket.send_json({"type": "auth_failure", "reason": "session is not valid"})
        await _close(socket, "session is not valid")
        return None


async def _authenticate(socket: WebSocket, services: Services) -> Session:
    async with asyncio.timeout(AUTH_SECONDS):
        message = await socket.receive_json()
    token = message.get("token") if isinstance(message, dict) and message.get("type") == "auth" else None
    session = await to_thread.run_sync(authenticate, str(token or ""), services)
    socket.state.token = str(token)
    await socket.send_json({"type": "auth_success"})
    return session


async def _close(socket: WebSocket, reason: str) -> None:
    if socket.application_state is WebSocketState.CONNECTED:
        await socket.close(POLICY_VIOLATION, reason)


def _require_same(requested: UUID, own: str | None) -> None:
    if str(requested) != own:
        raise Forbidden
