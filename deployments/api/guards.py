"""Checks before the handlers: who may call, from which page, and how large a body may be.

Secrets are compared as digests in constant time, so timing reveals neither their characters nor their length.
"""

import hashlib
import hmac
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any

import anyio
from fastapi import Depends, HTTPException, Request, Response
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api.dependencies import Given, Parts
from deployments.api.models import FOREIGN, NO_JOB, NO_KEY, NO_OPERATOR, TOO_LARGE, TOO_SLOW, TWO_LENGTHS
from deployments.api.refusals import not_found, refusal
from infra.granted.session import Session
from infra.jobs.record import Job
from infra.untrusted_text import has_controls

BAD_TOKEN = (401, "invalid callback token")
BODY_BYTES = 1024 * 1024
"""Largest body of a request."""
BODY_SECONDS = 20
"""How long a body may take to arrive."""
_DIGITS = 20
"""Longer integers are read as floats: they exceed every bound, and floats are cheap to parse."""


class Paths:
    """Treats a path with a trailing slash as the one without, as the earlier service did, and never redirects.

    A path with control characters is not found; a route's pattern would ignore a line end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"]
            if has_controls(path):
                await refusal(HTTPStatus.NOT_FOUND, not_found(path))(scope, receive, send)
                return
            if len(path) > 1 and path.endswith("/"):
                scope["path"] = path[:-1]
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies above `BODY_BYTES`, by their Content-Length or while they arrive.

    A body with two lengths is refused too, and its connection closed: a proxy may have read another request from it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if "transfer-encoding" in headers and "content-length" in headers:
            await refusal(*TWO_LENGTHS, {"Connection": "close"})(scope, receive, send)
            return
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:_DIGITS]) > BODY_BYTES:
            await refusal(*TOO_LARGE)(scope, receive, send)
            return
        arrived = 0

        async def counted() -> Message:
            nonlocal arrived
            message = await receive()
            arrived += len(message.get("body", b""))
            if arrived > BODY_BYTES:
                raise HTTPException(*TOO_LARGE)
            return message

        await self._app(scope, counted, send)


class Origins:
    """Refuses changes requested by a page of another site, in any form.

    A browser sends a CORS preflight before most requests, but not before a form's plain POST.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        changes = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if changes and is_foreign(Headers(scope=scope), self._allowed):
            await refusal(*FOREIGN)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_foreign(headers: Headers, allowed: tuple[str, ...]) -> bool:
    """Whether a browser sent this for a page that is neither ours nor allowed.

    Our own page is recognised by Sec-Fetch-Site, or by an Origin with our host.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if "*" in allowed or origin in allowed:
        return False
    if origin is None:
        return site == "cross-site"
    _, _, host = origin.lower().partition("://")
    return site != "same-origin" and (not host or host != headers.get("host", "").lower())


class Cors(CORSMiddleware):
    """Starlette's CORS, but a preflight always gets a 2xx: the browser decides by the headers."""

    def preflight_response(self, request_headers: Headers) -> Response:
        headers = dict(super().preflight_response(request_headers).headers)
        del headers["content-length"], headers["content-type"]
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)


async def read_json(request: Request) -> Any:
    """The body's JSON, or None if it is malformed."""
    try:
        with anyio.fail_after(BODY_SECONDS):
            body = await request.body()
    except TimeoutError:
        raise HTTPException(*TOO_SLOW) from None
    try:
        return json.loads(body, parse_constant=_refuse, parse_int=_integer)
    except (ValueError, RecursionError):
        return None


async def _json_object(request: Request) -> dict[str, Any]:
    """The body's JSON object; empty for any other body."""
    found = await read_json(request)
    return found if isinstance(found, dict) else {}


Body = Annotated[dict[str, Any], Depends(_json_object)]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def _reporter(request: Request, parts: Given) -> Session | None:
    """The session of a callback's token, or None for one of the configured tokens."""
    token = request.headers.get("x-callback-token")
    if _is_one_of(token, parts.settings.callback_tokens):
        return None
    session = parts.sessions.find(token) if token else None
    if session is None:
        raise HTTPException(*BAD_TOKEN)
    return session


Reporter = Annotated[Session | None, Depends(_reporter)]
"""The session of a rented machine's report, or None for a worker with one of our tokens."""


@dataclass(frozen=True)
class Caller:
    """The sender of a request. `key` names its API key, empty if none; `client` is the unit for counting streams."""

    client: str
    address: str
    key: str = ""
    is_operator: bool = False
    keys_are_set: bool = False

    @property
    def counted(self) -> str:
        """The unit for rates and queues: the API key, or the client."""
        return f"key {self.key}" if self.key else self.client

    @property
    def name(self) -> str:
        """The caller's name in the log."""
        return "operator" if self.is_operator else self.key

    @property
    def may_change(self) -> bool:
        return not self.keys_are_set or bool(self.key) or self.is_operator

    def sees(self, job: Job) -> bool:
        """A key sees the jobs that it created; a caller without a key sees any job whose id it knows."""
        return self.is_operator or not self.key or job.owner == self.key


async def _caller(request: Request, parts: Given) -> Caller:
    """The caller; an unknown key is refused."""
    keys, given = parts.settings.named_api_keys, request.headers.get("x-api-key")
    known = Caller(
        client_of(request),
        request.client.host if request.client else "",
        is_operator=is_operator(request, parts),
        keys_are_set=bool(keys),
    )
    if not keys or not given:
        return known
    names = [name for key, name in keys.items() if _is_one_of(given, [key])]
    if not names:
        raise HTTPException(*NO_KEY)
    return replace(known, key=names[0])


Asking = Annotated[Caller, Depends(_caller)]
"""The caller of a read."""


async def _changer(caller: Asking) -> Caller:
    if not caller.may_change:
        raise HTTPException(*NO_KEY)
    return caller


Changing = Annotated[Caller, Depends(_changer)]
"""The caller of a change; if API keys are set, it has one of them or the operator's."""


def job_of(caller: Caller, job_id: str, parts: Parts) -> Job:
    """The job if the caller may see it, otherwise a 404."""
    job = parts.job(job_id)
    if not caller.sees(job):
        raise HTTPException(*NO_JOB)
    return job


def sees_job(job_id: str, caller: Asking, parts: Given) -> None:
    """For routes that read a job: a key other than its owner's gets a 404."""
    if caller.key and not caller.is_operator:
        job_of(caller, job_id, parts)


def is_operator(request: Request, parts: Parts) -> bool:
    """Whether the request has the operator's key, in its own header or as a bearer token, as Prometheus sends it."""
    key = parts.settings.operator_key
    if key is None:
        return False
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = request.headers.get("x-operator-key") or (token.strip() if scheme.lower() == "bearer" else "")
    return _is_one_of(given, [key.get_secret_value()])


async def needs_a_key(caller: Asking) -> None:
    """For the list of jobs: require an API key or the operator's; others get a 404."""
    if not caller.key and not caller.is_operator:
        raise HTTPException(HTTPStatus.NOT_FOUND, "not found")


async def needs_operator_where_keys_are(request: Request, parts: Given) -> None:
    """For metrics of all jobs: if any keys are set, require the operator's."""
    has_keys = parts.settings.operator_key is not None or parts.settings.named_api_keys
    if has_keys and not is_operator(request, parts):
        raise HTTPException(*NO_OPERATOR)


def client_of(request: HTTPConnection) -> str:
    """The unit for rate limits: the IPv4 address, or an IPv6 subscriber's /64 network."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or int(address) >> 64)
    return host


def _is_one_of(given: str | None, secrets: Iterable[str]) -> bool:
    """Whether a header holds one of the secrets. Headers are latin-1; all secrets are compared, in constant time."""
    digest = hashlib.sha256((given or "").encode("latin-1")).digest()
    fits = [hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest()) for secret in secrets]
    return any(fits)
