"""Presigned URLs for requests that granted runs send to the bucket. Each is signed with our keys for one request."""

# botocore carries no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

import functools
import uuid
from http import HTTPStatus
from urllib.parse import quote, urlencode

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from infra.bucket.request_rules import ObjectRequest
from infra.errors import ConfigError, StoreError
from infra.granted.access import granted_root
from infra.settings import Settings

_PROBE = granted_root("signatures") + "probe"
_PROBE_SECONDS = 60


def presign_request(request: ObjectRequest, key: str, seconds: int, settings: Settings) -> str:
    """The URL for a request for `key`, or for a listing. Valid for `seconds`, and only with the request's headers.

    Raises:
        ConfigError: the bucket's endpoint or keys are not set.
    """
    endpoint, key_id, secret = settings.r2_endpoint, settings.r2_access_key_id, settings.r2_secret_access_key
    if not endpoint or not key_id or not secret:
        raise ConfigError("The bucket needs R2_ENDPOINT, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY; set all three.")
    path = f"/{settings.r2_bucket}" + (f"/{quote(key, safe='/')}" if "list-type" not in request.query else "")
    query = f"?{urlencode(request.query, quote_via=quote)}" if request.query else ""
    signed = AWSRequest(method=request.method, url=endpoint.rstrip("/") + path + query, headers=dict(request.headers))
    credentials = Credentials(key_id.get_secret_value(), secret.get_secret_value())
    S3SigV4QueryAuth(credentials, "s3", "auto", expires=seconds).add_auth(signed)
    return str(signed.url)


@functools.lru_cache(maxsize=8)
def enforces_signed_headers(settings: Settings) -> bool:
    """Whether the bucket's server refuses or ignores S3 headers that the signature does not cover.

    S3 refuses them. Some compatible servers obey them; a run that may write one object could then add
    `x-amz-copy-source` and read any other. The test copies an object that does not exist. Cached.

    Raises:
        StoreError: the bucket does not answer.
    """
    address = presign_request(ObjectRequest("PUT", "", {}, {}), _PROBE, _PROBE_SECONDS, settings)
    if not _is_success(_put(address, {})):
        raise StoreError("The bucket refused an upload to a presigned URL; check its keys and its clock.")
    status = _put(address, {"x-amz-copy-source": f"/{settings.r2_bucket}/{_PROBE}-{uuid.uuid4().hex}"})
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise StoreError(f"The bucket answered {status}.")
    return status == HTTPStatus.FORBIDDEN or _is_success(status)


def _put(address: str, headers: dict[str, str]) -> int:
    """Put an empty object and return the status. Not with httpx, which logs URLs."""
    try:
        request = AWSRequest("PUT", address, headers, b"").prepare()
        return URLLib3Session(timeout=20).send(request).status_code
    except BotoCoreError as error:
        raise StoreError(f"The bucket did not answer: {type(error).__name__}.") from None


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
