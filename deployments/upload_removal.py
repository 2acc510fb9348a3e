"""Removes uploads: those that their client ends, and those that have expired."""

import asyncio
import logging
import time

from infra.bucket.store import ArtifactStore
from infra.errors import InfraError
from infra.uploads.records import UploadRecords
from infra.uploads.writer import remove_pieces
from tasks.core.object_keys import cache_entry
from tasks.shared_cache import delete_unused

logger = logging.getLogger(__name__)
INTERVAL_SECONDS = 60.0
MOST_AT_ONCE = 100


def remove(upload_id: str, records: UploadRecords, bucket: ArtifactStore) -> None:
    """Remove an upload and its objects, except a finished file that a job uses. It can be repeated.

    Raises:
        InfraError: Redis or the bucket does not answer; the upload is gone, and its objects follow when it expires.
    """
    upload = records.begin_removal(upload_id)
    if upload is not None:
        remove_pieces(upload, bucket)
        delete_unused(cache_entry(upload.key), bucket)
    records.end_removal(upload_id, upload.client if upload else "")


def remove_expired(records: UploadRecords, bucket: ArtifactStore) -> int:
    """Remove up to `MOST_AT_ONCE` expired uploads; returns how many.

    Raises:
        InfraError: Redis or the bucket does not answer.
    """
    expired = records.expired(time.time(), MOST_AT_ONCE)
    for upload_id in expired:
        remove(upload_id, records, bucket)
    return len(expired)


async def keep_removing(records: UploadRecords, bucket: ArtifactStore) -> None:
    """Remove expired uploads, forever."""
    while True:
        try:
            if count := await asyncio.to_thread(remove_expired, records, bucket):
                logger.info("Removed %d expired uploads", count)
        except InfraError as error:
            logger.warning("Expired uploads could not be removed: %s", error)
        except Exception:
            logger.exception("Expired uploads could not be removed; retrying")
        await asyncio.sleep(INTERVAL_SECONDS)
