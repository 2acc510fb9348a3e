"""What stands before the handlers: who may ask, how much, how often, and from which page.

Secrets are compared as digests in constant time, so neither their letters nor their length can be timed.
"""

import hashlib
import hmac
import json
import unicodedata
from collections.abc import Iterable
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from typing import Annotated, Any

import anyio
from fastapi import Depends, HTTPException, Request, Response
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api.models import FOREIGN, NO_KEY, TOO_LARGE, TOO_SLOW
from deployments.api.parts import Given
from deployments.api.refusals import not_found, refusal
from infra.sessions import Session

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
            if any(unicodedata.category(letter) == "Cc" for letter in path):
                await refusal(HTTPStatus.NOT_FOUND, not_found(path))(scope, receive, send)
                return
            if len(path) > 1 and path.endswith("/"):
                scope["path"] = path[:-1]
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies above `BODY_BYTES`: by their announced length, else while they arrive."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "")
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


async def needs_key(request: Request, parts: Given) -> None:
    """One of the API keys where there are any, and no page that CORS would turn away.

    A browser asks CORS before most requests, but not before a plain POST; such a one says that it is cross-site.
    """
    keys = parts.settings.api_key_list
    if keys and not _is_one_of(request.headers.get("x-api-key"), keys):
        raise HTTPException(*NO_KEY)
    allowed = parts.settings.cors_origins
    foreign = request.headers.get("sec-fetch-site") == "cross-site"
    if foreign and "*" not in allowed and request.headers.get("origin") not in allowed:
        raise HTTPException(*FOREIGN)


async def needs_operator(request: Request, parts: Given) -> None:
    """The operator's key; without it the address does not exist."""
    key = parts.settings.operator_key
    if key is None or not _is_one_of(request.headers.get("x-operator-key"), [key.get_secret_value()]):
        raise HTTPException(HTTPStatus.NOT_FOUND, "not found")


def client_of(request: Request) -> str:
    """Whose rate is counted: the address, of IPv6 the network of 64 bits that one subscriber has."""
    host = request.client.host if request.client else ""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return str(int(address) >> 64) if isinstance(address, IPv6Address) else host


def _is_one_of(given: str | None, secrets: Iterable[str]) -> bool:
    """Headers come as latin-1; every secret is compared, whichever fits."""
    digest = hashlib.sha256((given or "").encode("latin-1")).digest()
    fits = [hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest()) for secret in secrets]
    return any(fits)
