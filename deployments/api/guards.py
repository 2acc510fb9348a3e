"""Checks that run before the handlers: callers, origins and body sizes.

Secrets are compared as digests in constant time, so timing reveals neither their characters nor their length.
"""

import hashlib
import hmac
import json
import time
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

from deployments.api.dependencies import Services, ServicesDep
from deployments.api.models import FOREIGN, NO_JOB, NO_KEY, NO_OPERATOR, NO_UPLOAD, TOO_LARGE, TOO_SLOW, TWO_LENGTHS
from deployments.api.refusals import not_found, refusal
from deployments.api.tus import carries_file
from infra.granted.session import Session
from infra.jobs.record import Job
from infra.untrusted_text import has_controls
from infra.uploads.records import UPLOAD_ID, Upload

BAD_TOKEN = (401, "invalid callback token")
BODY_BYTES = 1024 * 1024
"""Largest request body."""
BODY_SECONDS = 20
"""How long a body may take to arrive."""
_DIGITS = 20
"""Longer integers are parsed as floats, which is cheap; they exceed every bound anyway."""


class PathNormalizer:
    """Strips a path's trailing slash without redirecting, as the earlier service did.

    A path with control characters is a 404: a route's pattern would ignore a line end.
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
    """Refuses bodies larger than `BODY_BYTES`, by their Content-Length or as they arrive, but no pieces of files.

    A request with both Content-Length and Transfer-Encoding is refused and its connection closed, since a proxy may
    have seen a different request in it.
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
        if carries_file(scope):
            await self._app(scope, receive, send)
            return
        declared = headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:_DIGITS]) > BODY_BYTES:
            await refusal(*TOO_LARGE)(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > BODY_BYTES:
                raise HTTPException(*TOO_LARGE)
            return message

        await self._app(scope, receive_limited, send)


class OriginCheck:
    """Refuses write requests from pages of other sites.

    CORS alone does not: a browser sends no preflight before a form's plain POST.
    """

    def __init__(self, app: ASGIApp, allowed: tuple[str, ...]) -> None:
        self._app, self._allowed = app, allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_write = scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS")
        if is_write and is_foreign(Headers(scope=scope), self._allowed):
            await refusal(*FOREIGN)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_foreign(headers: Headers, allowed: tuple[str, ...]) -> bool:
    """Whether the request comes from a page that is neither ours nor allowed.

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
    """Starlette's CORS, but a preflight always gets a 204: the browser decides by the headers."""

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
        return json.loads(body, parse_constant=_reject_constant, parse_int=_parse_integer)
    except (ValueError, RecursionError):
        return None


async def _json_body(request: Request) -> dict[str, Any]:
    """The body's JSON object, or {} for any other body."""
    found = await read_json(request)
    return found if isinstance(found, dict) else {}


JsonBody = Annotated[dict[str, Any], Depends(_json_body)]


def _reject_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def _parse_integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else float(digits)


def _reporter(request: Request, services: ServicesDep) -> Session | None:
    """The session that a callback's token belongs to, or None for a token in CALLBACK_TOKEN."""
    token = request.headers.get("x-callback-token")
    if _is_one_of(token, services.settings.callback_tokens):
        return None
    session = services.sessions.find(token) if token else None
    if session is None:
        raise HTTPException(*BAD_TOKEN)
    return session


Reporter = Annotated[Session | None, Depends(_reporter)]
"""The session of a reporting rented machine, or None for a worker with a token in CALLBACK_TOKEN."""


@dataclass(frozen=True)
class Caller:
    """The sender of a request. `key` is the name of its API key, or ""; `client` is what its streams count against."""

    client: str
    address: str
    key: str = ""
    is_operator: bool = False
    has_keys: bool = False

    @property
    def quota_owner(self) -> str:
        """What rates and queues count against: the API key, or the client."""
        return f"key {self.key}" if self.key else self.client

    @property
    def name(self) -> str:
        """The caller's name for the log."""
        return "operator" if self.is_operator else self.key

    @property
    def can_write(self) -> bool:
        return not self.has_keys or bool(self.key) or self.is_operator

    def can_see(self, job: Job) -> bool:
        """Whether the caller may see the job: a key sees its own jobs, a caller without a key every job."""
        return self.can_see_jobs_of(job.owner)

    def can_see_jobs_of(self, owner: str) -> bool:
        return self.is_operator or not self.key or owner == self.key


async def _caller(request: Request, services: ServicesDep) -> Caller:
    """The caller; an unknown key is refused."""
    keys, sent = services.settings.named_api_keys, request.headers.get("x-api-key")
    caller = Caller(
        client_of(request),
        request.client.host if request.client else "",
        is_operator=is_operator(request, services),
        has_keys=bool(keys),
    )
    if not keys or not sent:
        return caller
    names = [name for key, name in keys.items() if _is_one_of(sent, [key])]
    if not names:
        raise HTTPException(*NO_KEY)
    return replace(caller, key=names[0])


ReadCaller = Annotated[Caller, Depends(_caller)]
"""The caller of a read request."""


async def _write_caller(caller: ReadCaller) -> Caller:
    if not caller.can_write:
        raise HTTPException(*NO_KEY)
    return caller


WriteCaller = Annotated[Caller, Depends(_write_caller)]
"""The caller of a write request. If API keys are set, it has one of them or the operator's."""


def visible_job(caller: Caller, job_id: str, services: Services) -> Job:
    """The job if the caller may see it, otherwise a 404."""
    job = services.job(job_id)
    if not caller.can_see(job):
        raise HTTPException(*NO_JOB)
    return job


def own_upload(upload_id: str, caller: Caller, services: Services) -> Upload:
    """The upload, or a 404 if it is unknown, expired, or another key's."""
    upload = services.uploads.get(upload_id, time.time()) if UPLOAD_ID.fullmatch(upload_id) else None
    if upload is None or not caller.can_see_jobs_of(upload.owner):
        raise HTTPException(*NO_UPLOAD)
    return upload


def require_visible_job(job_id: str, caller: ReadCaller, services: ServicesDep) -> None:
    """For routes that read a job: a key that does not own it gets a 404."""
    if caller.key and not caller.is_operator:
        visible_job(caller, job_id, services)


def is_operator(request: Request, services: Services) -> bool:
    """Whether the request has the operator's key, in its own header or as a bearer token (Prometheus)."""
    key = services.settings.operator_key
    if key is None:
        return False
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    sent = request.headers.get("x-operator-key") or (token.strip() if scheme.lower() == "bearer" else "")
    return _is_one_of(sent, [key.get_secret_value()])


async def require_key(caller: ReadCaller) -> None:
    """For the list of jobs: callers with neither an API key nor the operator's get a 404."""
    if not caller.key and not caller.is_operator:
        raise HTTPException(HTTPStatus.NOT_FOUND, "not found")


async def require_operator_if_keys_exist(request: Request, services: ServicesDep) -> None:
    """For metrics of all jobs: require the operator's key if any key is set."""
    has_keys = services.settings.operator_key is not None or services.settings.named_api_keys
    if has_keys and not is_operator(request, services):
        raise HTTPException(*NO_OPERATOR)


def client_of(request: HTTPConnection) -> str:
    """What rate limits count against: the IPv4 address, or the IPv6 /64 network of a subscriber."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or int(address) >> 64)
    return host


def _is_one_of(sent: str | None, secrets: Iterable[str]) -> bool:
    """Whether a header holds one of the secrets. Headers are latin-1; every secret is compared, in constant time."""
    digest = hashlib.sha256((sent or "").encode("latin-1")).digest()
    matches = [hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest()) for secret in secrets]
    return any(matches)
