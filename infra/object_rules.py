"""Which requests to the bucket a session may have signed. Pure.

Everything lies under the session's own root; what is not named here, such as rights, versions or another
server's headers, is refused.
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
_LIST = frozenset({"list-type", "prefix", "encoding-type", "continuation-token", "max-keys", "start-after"})
_HEADERS = {"content-type", "x-amz-copy-source", "x-amz-metadata-directive", "x-amz-meta-sha256"}
_LONGEST_KEY = 1024


class NotAllowed(Exception):
    """The request is none of the session's."""


@dataclass(frozen=True)
class ObjectRequest:
    """A request as it would be sent; `path` is `/bucket/key`, encoded, and `headers` are in lower case."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


def must_be_signed(header: str) -> bool:
    """Whether a header, in lower case, changes what a request does."""
    return header == "content-type" or header.startswith("x-amz-")


def allowed_key(request: ObjectRequest, bucket: str, root: str) -> str:
    """The key that the request is about, or what the listed ones begin with; always under `root`.

    Raises:
        NotAllowed: it is not for the session.
    """
    if set(request.headers) - _HEADERS:
        raise NotAllowed
    if request.path in (f"/{bucket}", f"/{bucket}/"):
        return _listed(request, root)
    if (request.method, frozenset(request.query)) not in _OBJECT:
        raise NotAllowed
    source = request.headers.get("x-amz-copy-source")
    if source is not None:
        if request.method != "PUT" or request.query:
            raise NotAllowed
        _key("/" + source.removeprefix("/"), bucket, root)
    return _key(request.path, bucket, root)


def is_cached(key: str, root: str) -> bool:
    """Whether the key stands for one of the cache that jobs share."""
    return key.startswith(f"{root}cache/")


def _listed(request: ObjectRequest, root: str) -> str:
    prefix = request.query.get("prefix", "")
    if request.method != "GET" or request.query.get("list-type") != "2" or set(request.query) - _LIST:
        raise NotAllowed
    if not prefix.startswith(root) or not request.query.get("start-after", root).startswith(root):
        raise NotAllowed
    return prefix


def _key(path: str, bucket: str, root: str) -> str:
    """The key of a path that is written in the one way in which servers read it alike."""
    key = unquote(path.removeprefix(f"/{bucket}/"))
    if path != f"/{bucket}/{quote(key, safe='/')}" or len(key.encode()) > _LONGEST_KEY:
        raise NotAllowed
    inner = key.removeprefix(root)
    if not key.startswith(root) or not inner or re.search(r"[\x00-\x1f\x7f\\]", key):
        raise NotAllowed
    if any(part in ("", ".", "..") for part in inner.split("/")):
        raise NotAllowed
    return key
