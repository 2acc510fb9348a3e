"""Blocks on the Prefect server: what the flows, the notifications and, if asked for, the UI need.

A saved block holds its secrets, and whoever may read blocks reads them: with the server's API comes the bucket, or
the webhook. So the one block that every run needs, the stage results, holds none; a run with a grant may read no
block at all; the bucket's is saved only for an operator who asks for it, to look into the bucket with Prefect.
"""

from typing import cast
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.types import SecretDict
from prefect_aws import AwsCredentials
from prefect_aws.client_parameters import AwsClientParameters
from prefect_aws.s3 import S3Bucket

from infra.errors import ConfigError
from infra.prefect import results
from infra.settings import Settings

BUCKET = "kangklip-bucket"
NOTIFY = "kangklip-notify"


def save_records() -> str:
    """Save the block of the stage records; its name."""
    results.saved_block()
    return f"{results.StageRecords.get_block_type_slug()}/{results.BLOCK_NAME}"


def save_bucket(configured: Settings) -> str:
    """Save the bucket with its keys, for people and flows that may have them; its name.

    Raises:
        ConfigError: the settings do not name the bucket's server and keys.
    """
    if not (configured.r2_endpoint and configured.r2_access_key_id and configured.r2_secret_access_key):
        raise ConfigError("The bucket's block needs R2_ENDPOINT, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY.")
    keys = AwsCredentials(
        aws_access_key_id=configured.r2_access_key_id.get_secret_value(),
        aws_secret_access_key=configured.r2_secret_access_key,
        region_name="auto",
        aws_client_parameters=AwsClientParameters(endpoint_url=configured.r2_endpoint),
    )
    keys.save(BUCKET, overwrite=True)
    S3Bucket(bucket_name=configured.r2_bucket, credentials=keys).save(BUCKET, overwrite=True)
    return f"{S3Bucket.get_block_type_slug()}/{BUCKET}"


def save_webhook(configured: Settings) -> UUID | None:
    """Save the address of notifications; the block's id, None where there is no NOTIFY_URL."""
    if configured.notify_url is None:
        return None
    hook = Webhook(url=configured.notify_url, headers=SecretDict({"Content-Type": "application/json"}))
    return cast("UUID", hook.save(NOTIFY, overwrite=True))
