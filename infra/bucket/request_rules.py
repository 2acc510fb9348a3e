"""The rules for signing a session's requests to the bucket. Pure.

All keys must be below the session's root. Anything not listed here (access rights, versions, other headers) is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

_OBJECT = {
    ("GET", frozenset[str]()),
    ("HEAD", frozenset[str]()),
    ("PUT", frozenset[str]()),
    ("DELETE", frozenset[str]()),
    ("POST", frozenset({"uploads"})),
    ("PUT", frozenset({"partNumber", "uploadId"})),
    ("POST", frozenset({"uploadId"})),
    ("DELETE", frozenset({"uploadId"})),
}
_LIST = {"list-type", "prefix", "encoding-type", "continuation-token", "max-keys"}
_HEADERS = {"content-type", "x-amz-copy-source", "x-amz-metadata-directive", "x-amz-meta-sha256"}
_VALUES = {
    "uploads": re.compile(""),
    "partNumber": re.compile(r"[1-9][0-9]{0,4}"),
    "uploadId": re.compile(r"(?!\.+$)[A-Za-z0-9._~=+-]{1,2048}"),
}
"""An upload id must not be a path, because some servers use it as a folder's name."""
_LONGEST_PATH = 1024
_AMBIGUOUS = re.compile(r"[\x00-\x1f\x7f\\%?#+]")
"""Some servers decode a path twice, so keys must not contain characters that a second decoding would change."""


class NotAllowed(Exception):
    """The session may not make this request."""


@dataclass(frozen=True)
class ObjectRequest:
    """A request to sign. `path` is `/bucket/key`, percent-encoded; header names are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


def must_be_signed(header: str) -> bool:
    """Whether the header, in lower case, must be part of the signature: it changes what the request does."""
    return header == "content-type" or header.startswith("x-amz-")


def allowed_key(request: ObjectRequest, bucket: str, root: str) -> str:
    """The key of the request or, for a listing, its prefix; always below `root`.

    Raises:
        NotAllowed: the session may not make this request.
    """
    if set(request.headers) - _HEADERS or not all(value.isascii() for value in request.headers.values()):
        raise NotAllowed
    if request.path in (f"/{bucket}", f"/{bucket}/"):
        return _listing_prefix(request, root)
    if (request.method, frozenset(request.query)) not in _OBJECT:
        raise NotAllowed
    if not all(_VALUES[name].fullmatch(value) for name, value in request.query.items()):
        raise NotAllowed
    source = request.headers.get("x-amz-copy-source")
    if source is not None:
        if request.method != "PUT" or request.query:
            raise NotAllowed
        _parse_key("/" + source.removeprefix("/"), bucket, root)
    return _parse_key(request.path, bucket, root)


def is_cache_key(key: str, root: str) -> bool:
    """Whether the key is in the cache that jobs share."""
    return key.startswith(f"{root}cache/")


def _listing_prefix(request: ObjectRequest, root: str) -> str:
    prefix = request.query.get("prefix", "")
    if request.method != "GET" or request.query.get("list-type") != "2" or set(request.query) - _LIST:
        raise NotAllowed
    inner = prefix.removeprefix(root).removesuffix("/")
    if not prefix.startswith(root) or (inner and not _is_plain(inner)):
        raise NotAllowed
    return prefix


def _parse_key(path: str, bucket: str, root: str) -> str:
    """The key in a path. Only the one encoding that all servers decode alike is allowed."""
    key = unquote(path.removeprefix(f"/{bucket}/"))
    if not path.isascii() or path != f"/{bucket}/{quote(key, safe='/')}" or len(path) > _LONGEST_PATH:
        raise NotAllowed
    if not key.startswith(root) or not _is_plain(key.removeprefix(root)):
        raise NotAllowed
    return key


def _is_plain(inner: str) -> bool:
    return not _AMBIGUOUS.search(inner) and not any(part in ("", ".", "..") for part in inner.split("/"))
