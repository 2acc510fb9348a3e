"""Addresses for requests that others send to the bucket, each signed with our keys for that request alone."""

# botocore carries no types.
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from urllib.parse import quote, urlencode

from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from infra.errors import ConfigError
from infra.object_rules import ObjectRequest
from infra.settings import Settings


def address_of(request: ObjectRequest, key: str, seconds: int, settings: Settings) -> str:
    """Where to send the request, its headers unchanged, within `seconds`; it is about `key`, or lists.

    Raises:
        ConfigError: the bucket's endpoint or keys are not set.
    """
    endpoint, key_id, secret = settings.r2_endpoint, settings.r2_access_key_id, settings.r2_secret_access_key
    if not endpoint or not key_id or not secret:
        raise ConfigError("The bucket needs R2_ENDPOINT, R2_ACCESS_KEY_ID, R2_SECRET_ACCESS_KEY.")
    path = f"/{settings.r2_bucket}" + (f"/{quote(key, safe='/')}" if "list-type" not in request.query else "")
    query = f"?{urlencode(request.query, quote_via=quote)}" if request.query else ""
    asked = AWSRequest(method=request.method, url=endpoint.rstrip("/") + path + query, headers=dict(request.headers))
    credentials = Credentials(key_id.get_secret_value(), secret.get_secret_value())
    S3SigV4QueryAuth(credentials, "s3", "auto", expires=seconds).add_auth(asked)
    return str(asked.url)
