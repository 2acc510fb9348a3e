"""What stands before the handlers: who may ask, how much, how often, and from which page.

Secrets are compared as digests in constant time, so neither their letters nor their length can be timed.
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

from deployments.api.models import FOREIGN, NO_JOB, NO_KEY, NO_OPERATOR, TOO_LARGE, TOO_SLOW, TWO_LENGTHS
from deployments.api.parts import Given, Parts
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
"""An integer of more digits is read as a float: it is out of every bound, and costs nothing."""


class Paths:
    """Takes an address with and without a last slash for the same, as the earlier service did, and redirects nobody.

    One with control characters names nothing; the pattern of a route would overlook a line end.
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
    """Refuses bodies above `BODY_BYTES`: by their announced length, else while they arrive.

    A body with two ways to tell its length is refused too, and its connection closed: a proxy in front may have
    read another request out of it.
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
    """Refuses changes that a page of another site asks for, whatever the form of its request.

    A browser asks CORS before most requests, but not before a plain POST of a form.
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
    """Whether a browser sent this for a page that is neither ours nor one of the allowed.

    Our own page is known by the browser's word, or by the host that it was asked from.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if "*" in allowed or origin in allowed:
        return False
    if origin is None:
        return site == "cross-site"
    _, _, host = origin.lower().partition("://")
    return site != "same-origin" and (not host or host != headers.get("host", "").lower())


class Cors(CORSMiddleware):
    """Starlette's, but a preflight always answers 2xx: whether the page may go on, its browser reads in the headers."""

    def preflight_response(self, request_headers: Headers) -> Response:
        headers = dict(super().preflight_response(request_headers).headers)
        del headers["content-length"], headers["content-type"]
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)


async def read_json(request: Request) -> Any:
    """The body's JSON; None where it is none."""
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
    """The body's JSON object. Anything else, malformed or none at all, is as empty as no body."""
    found = await read_json(request)
    return found if isinstance(found, dict) else {}


Body = Annotated[dict[str, Any], Depends(_json_object)]


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def _reporter(request: Request, parts: Given) -> Session | None:
    """A callback brings one of the tokens, or that of a session; where no token is configured, there are no others."""
    token = request.headers.get("x-callback-token")
    if _is_one_of(token, parts.settings.callback_tokens):
        return None
    session = parts.sessions.find(token) if token else None
    if session is None:
        raise HTTPException(*BAD_TOKEN)
    return session


Reporter = Annotated[Session | None, Depends(_reporter)]
"""Whose report it is: a rented machine's, or None for those who have a token of ours."""


@dataclass(frozen=True)
class Caller:
    """Who asks. `key` is the name of an API key, empty where none came; `client` is whose streams are counted."""

    client: str
    address: str
    key: str = ""
    is_operator: bool = False
    keys_are_set: bool = False

    @property
    def counted(self) -> str:
        """Whose rate and queue a job counts towards."""
        return f"key {self.key}" if self.key else self.client

    @property
    def name(self) -> str:
        """Who it is in the log."""
        return "operator" if self.is_operator else self.key

    @property
    def may_change(self) -> bool:
        return not self.keys_are_set or bool(self.key) or self.is_operator

    def sees(self, job: Job) -> bool:
        """A key sees the jobs that it asked for; whoever has an id and no key sees that job."""
        return self.is_operator or not self.key or job.owner == self.key


async def _caller(request: Request, parts: Given) -> Caller:
    """Who asks; a key that is none of ours is refused."""
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
"""Who asks to see something."""


async def _changer(caller: Asking) -> Caller:
    if not caller.may_change:
        raise HTTPException(*NO_KEY)
    return caller


Changing = Annotated[Caller, Depends(_changer)]
"""Who asks for a change: where there are keys it has one, or the operator's."""


def job_of(caller: Caller, job_id: str, parts: Parts) -> Job:
    """The job, if the caller may see it; else there is none."""
    job = parts.job(job_id)
    if not caller.sees(job):
        raise HTTPException(*NO_JOB)
    return job


def sees_job(job_id: str, caller: Asking, parts: Given) -> None:
    """For routes that read a job: a key that is not its owner's gets a 404."""
    if caller.key and not caller.is_operator:
        job_of(caller, job_id, parts)


def is_operator(request: Request, parts: Parts) -> bool:
    """Whether the operator's key came, in a header of its own or as a bearer token, which Prometheus can send."""
    key = parts.settings.operator_key
    if key is None:
        return False
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    given = request.headers.get("x-operator-key") or (token.strip() if scheme.lower() == "bearer" else "")
    return _is_one_of(given, [key.get_secret_value()])


async def needs_a_key(caller: Asking) -> None:
    """For the list of jobs: an API key or the operator's; to others the address does not exist."""
    if not caller.key and not caller.is_operator:
        raise HTTPException(HTTPStatus.NOT_FOUND, "not found")


async def needs_operator_where_keys_are(request: Request, parts: Given) -> None:
    """For what tells of all jobs at once: where there are keys of any kind, the operator's."""
    has_keys = parts.settings.operator_key is not None or parts.settings.named_api_keys
    if has_keys and not is_operator(request, parts):
        raise HTTPException(*NO_OPERATOR)


def client_of(request: HTTPConnection) -> str:
    """Whose rate is counted: the address, of IPv6 the network of 64 bits that one subscriber has."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or int(address) >> 64)
    return host


def _is_one_of(given: str | None, secrets: Iterable[str]) -> bool:
    """Headers come as latin-1; every secret is compared, whichever fits."""
    digest = hashlib.sha256((given or "").encode("latin-1")).digest()
    fits = [hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest()) for secret in secrets]
    return any(fits)
