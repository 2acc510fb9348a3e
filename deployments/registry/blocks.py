"""Blocks on the Prefect server, for the flows, the notifications and, on request, the UI.

Anyone who can read a block can read its secrets. So the one block that every run needs, the stage records, contains
none; a run with a grant can read no blocks; and the bucket's block is saved only on request, for operators who use
the bucket from Prefect.
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
    """Save the block for the stage records; return its name."""
    results.saved_block()
    return f"{results.StageRecords.get_block_type_slug()}/{results.BLOCK_NAME}"


def save_bucket(configured: Settings) -> str:
    """Save a block with the bucket and its keys; return the block's name.

    Raises:
        ConfigError: the bucket's endpoint or keys are not set.
    """
    if not (configured.r2_endpoint and configured.r2_access_key_id and configured.r2_secret_access_key):
        raise ConfigError("The bucket block needs R2_ENDPOINT, R2_ACCESS_KEY_ID and R2_SECRET_ACCESS_KEY.")
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
    """Save the webhook for notifications; return the block's id, or None without NOTIFY_URL."""
    if configured.notify_url is None:
        return None
    hook = Webhook(url=configured.notify_url, headers=SecretDict({"Content-Type": "application/json"}))
    return cast("UUID", hook.save(NOTIFY, overwrite=True))
