"""Creates temporary keys for one prefix of a Cloudflare R2 bucket, through Cloudflare's API."""

import httpx

from infra.errors import StoreError
from infra.granted.access import BucketKeys
from infra.settings import Settings

API = "https://api.cloudflare.com/client/v4"
LONGEST_SECONDS = 604_800
"""Cloudflare's own limit."""


def temporary_keys(root: str, seconds: int, settings: Settings) -> BucketKeys | None:
    """Create keys that read and write below `root`. Returns None if the settings name no Cloudflare account.

    Raises:
        StoreError: Cloudflare did not create them.
    """
    endpoint, parent, token = settings.r2_endpoint, settings.r2_access_key_id, settings.r2_api_token
    if settings.r2_account_id is None or token is None or endpoint is None or parent is None:
        return None
    body = {
        "bucket": settings.r2_bucket,
        "parentAccessKeyId": parent.get_secret_value(),
        "permission": "object-read-write",
        "ttlSeconds": min(seconds, LONGEST_SECONDS),
        "prefixes": [root],
    }
    url = f"{API}/accounts/{settings.r2_account_id}/r2/temp-access-credentials"
    try:
        answer = httpx.post(url, json=body, headers={"authorization": f"Bearer {token.get_secret_value()}"}, timeout=20)
        answer.raise_for_status()
        keys = answer.json()["result"]
        return BucketKeys(
            endpoint=endpoint,
            key_id=keys["accessKeyId"],
            secret=keys["secretAccessKey"],
            session_token=keys["sessionToken"],
        )
    except httpx.HTTPStatusError as error:
        raise StoreError(f"Cloudflare answered {error.response.status_code}; check R2_API_TOKEN.") from None
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"Cloudflare did not create temporary keys ({type(error).__name__}).") from None
