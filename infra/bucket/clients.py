"""S3 clients for the bucket: one signs with our keys; the other has our API sign its requests, for granted runs.

Both are boto3 clients, so multipart uploads, ranges, copies and retries are the same.
"""

# boto3 carries no types and asks for a package of stubs as large as itself.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

import functools
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import boto3
import httpx
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError, EndpointConnectionError

from infra.bucket.request_rules import must_be_signed
from infra.granted.access import Access

_CLIENT = Config(
    signature_version="s3v4",
    connect_timeout=5,
    read_timeout=60,
    s3={"addressing_style": "path"},
    # Some S3 servers refuse optional checksums, and the signature covers the payload anyway.
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_NOWHERE = "https://bucket.invalid"
"""Placeholder host of unsigned requests. The real URL comes with the signature."""
_SIGNERS_HEADERS = ("authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token")


@functools.lru_cache(maxsize=8)
def direct_client(endpoint: str, key_id: str, secret: str, attempts: int, session_token: str | None = None) -> Any:
    """A client that threads may share. Cached, because creating one takes up to 0.1 s."""
    return cast(
        "Any",
        boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="auto",
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=session_token,
            config=_CLIENT.merge(Config(retries={"mode": "standard", "total_max_attempts": attempts})),
        ),
    )


@functools.lru_cache(maxsize=8)
def remote_client(access: Access, attempts: int) -> Any:
    """A client whose requests our API signs one by one. With temporary keys, only reads of the shared cache are."""
    if keys := access.keys:
        client = direct_client.__wrapped__(keys.endpoint, keys.key_id, keys.secret, attempts, keys.session_token)
    else:
        retries = Config(signature_version=UNSIGNED, retries={"mode": "standard", "total_max_attempts": attempts})
        client = boto3.client("s3", endpoint_url=_NOWHERE, region_name="auto", config=_CLIENT.merge(retries))
    client.meta.events.register("before-send.s3", RemoteSigner(access))
    return client


class RemoteSigner:
    """Has our API sign each request, including each retry. A signature is valid for one request and some minutes.

    If the API does not answer, boto3 retries as after a lost connection. A refusal is reported as a bucket error.
    """

    def __init__(self, access: Access) -> None:
        self._shared = f"/{access.bucket}/{access.root}cache/" if access.keys else "/"
        self._url = f"{access.url}/api/worker/objects"
        self._client = httpx.Client(headers={"authorization": f"Bearer {access.token}"}, timeout=20)

    def __call__(self, request: Any, **_: Any) -> None:
        parts = urlsplit(request.url)
        if not parts.path.startswith(self._shared) or (self._shared != "/" and request.method not in ("GET", "HEAD")):
            return
        for name in _SIGNERS_HEADERS:
            request.headers.pop(name, None)
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        request.url = self._sign(
            {
                "method": request.method,
                "path": parts.path,
                "query": dict(parse_qsl(parts.query, keep_blank_values=True)),
                "headers": {name: value for name, value in headers.items() if must_be_signed(name)},
            }
        )

    def _sign(self, request: dict[str, Any]) -> str:
        """The presigned URL for the request."""
        try:
            answer = self._client.post(self._url, json=request)
        except httpx.HTTPError:
            raise EndpointConnectionError(endpoint_url=self._url) from None
        if answer.status_code in (429, 500, 502, 503, 504):
            raise EndpointConnectionError(endpoint_url=self._url)
        if not answer.is_success:
            code = "the session does not allow it" if answer.status_code == HTTPStatus.FORBIDDEN else "not signed"
            raise ClientError({"Error": {"Code": code}}, request["method"])
        return answer.json()["url"]


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
