"""The tus protocol, version 1.0.0, as headers: https://tus.io/protocols/resumable-upload.

Extensions: creation, termination, expiration and checksum.
"""

import base64
import binascii
import hashlib
import os
import re
from email.utils import formatdate
from typing import Any, NamedTuple

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.api.refusals import refusal
from infra.untrusted_text import one_line

VERSION = "1.0.0"
PATH = "/api/uploads"
EXTENSIONS = "creation,termination,expiration,checksum"
ALGORITHMS = ("sha1", "sha256", "sha512", "md5")
CONTENT_TYPE = "application/offset+octet-stream"
HEADERS = (
    *("Location", "Tus-Checksum-Algorithm", "Tus-Extension", "Tus-Max-Size", "Tus-Resumable", "Tus-Version"),
    *("Upload-Expires", "Upload-Length", "Upload-Metadata", "Upload-Offset"),
)
"""Response headers that pages of other origins must be able to read."""
MAX_METADATA = 4096
MAX_NAME = 255
OTHER_VERSION = (412, f"tus-resumable must be {VERSION}")
BAD_LENGTH = (400, "upload-length must be the size of the file in bytes, at least 1")
BAD_OFFSET = (400, "upload-offset must be a number of bytes")
BAD_METADATA = (400, "upload-metadata is malformed")
BAD_CHECKSUM = (400, f"upload-checksum must be one of {', '.join(ALGORITHMS)}, and a digest in base64")
BAD_TYPE = (415, f"content-type must be {CONTENT_TYPE}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_METADATA_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without a comma


class TusProtocol:
    """Checks the version of requests below `PATH`, and names it in every response; applies X-HTTP-Method-Override."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not is_upload_path(scope["path"]):
            await self._app(scope, receive, send)
            return

        async def send_with_version(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Tus-Resumable"] = VERSION
            await send(message)

        headers = Headers(scope=scope)
        override = headers.get("x-http-method-override", "").upper()
        if scope["method"] == "POST" and override in ("PATCH", "DELETE", "HEAD"):
            scope["method"] = override
        if scope["method"] != "OPTIONS" and headers.get("tus-resumable") != VERSION:
            await refusal(*OTHER_VERSION, {"Tus-Version": VERSION})(scope, receive, send_with_version)
            return
        await self._app(scope, receive, send_with_version)


class Checksum(NamedTuple):
    """The digest that a request's body must have; `body` computes it."""

    digest: bytes
    body: Any


def is_upload_path(path: str) -> bool:
    return path == PATH or path.startswith(f"{PATH}/")


def carries_file(scope: Scope) -> bool:
    """Whether the request's body is a piece of a file, which may be larger than other bodies."""
    return scope["method"] == "PATCH" and scope["path"].startswith(f"{PATH}/")


def options(max_size: int) -> dict[str, str]:
    """What the server can do, as headers."""
    return {
        "Tus-Version": VERSION,
        "Tus-Extension": EXTENSIONS,
        "Tus-Max-Size": str(max_size),
        "Tus-Checksum-Algorithm": ",".join(ALGORITHMS),
    }


def read_number(headers: Headers, name: str, refusal: tuple[int, str]) -> int:
    """A header with a number of bytes.

    Raises:
        HTTPException: `refusal`, for anything else.
    """
    text = headers.get(name, "")
    if not _NUMBER.fullmatch(text):
        raise HTTPException(*refusal)
    return int(text)


def read_metadata(headers: Headers) -> tuple[str, str]:
    """The metadata as sent, and the file's name in it as one clean line, which no code may use as a path.

    Raises:
        HTTPException: 400, it is malformed or too long.
    """
    sent = headers.get("upload-metadata", "").strip()
    if len(sent) > MAX_METADATA:
        raise HTTPException(*BAD_METADATA)
    found: dict[str, str] = {}
    for pair in sent.split(",") if sent else ():
        key, _, value = pair.strip().partition(" ")
        if not _METADATA_KEY.fullmatch(key) or key in found:
            raise HTTPException(*BAD_METADATA)
        found[key] = _decode(value, BAD_METADATA).decode("utf-8", "replace")
    name = os.path.basename(found.get("filename", found.get("name", "")).replace("\\", "/"))  # noqa: PTH119 - text
    return sent, one_line(name, MAX_NAME) or "unnamed"


def read_checksum(headers: Headers) -> Checksum | None:
    """The checksum of the body, or None if none was sent.

    Raises:
        HTTPException: 400, it is malformed or of an unknown kind.
    """
    sent = headers.get("upload-checksum")
    if sent is None:
        return None
    algorithm, _, digest = sent.partition(" ")
    if algorithm not in ALGORITHMS:
        raise HTTPException(*BAD_CHECKSUM)
    return Checksum(_decode(digest, BAD_CHECKSUM), hashlib.new(algorithm, usedforsecurity=False))


def require_content_type(headers: Headers) -> None:
    """Raise a 415 unless the body is a piece of a file."""
    if headers.get("content-type", "").strip().lower() != CONTENT_TYPE:
        raise HTTPException(*BAD_TYPE)


def expires(at: float) -> str:
    """The value of Upload-Expires (RFC 9110)."""
    return formatdate(at, usegmt=True)


def _decode(text: str, refusal: tuple[int, str]) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise HTTPException(*refusal) from None
