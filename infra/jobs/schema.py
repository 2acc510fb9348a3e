"""The schema version of the records in Redis, and the migrations from older versions.

`kangklip:schema` holds the version. Without it, the records have version 1, from the first releases.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import redis

from infra.errors import ConfigError
from infra.jobs.connection import state_errors
from infra.jobs.keys import JOB_PREFIX, jobs_of
from infra.jobs.record import CANCELLED
from infra.jobs.scripts import COUNT
from infra.settings import Settings

SCHEMA_KEY = "kangklip:schema"
VERSION = 3
"""Raise it with each step added to `_STEPS`."""


def update(configured: Settings) -> None:
    """Migrate the records in the Redis of the settings, if they name one.

    Raises:
        ConfigError: a newer KangKlip wrote the records.
        StateError: Redis does not answer.
    """
    if configured.redis_url is not None:
        with state_errors(), closing(maintenance_client(configured.redis_url.get_secret_value())) as client:
            migrate(client)


def maintenance_client(url: str) -> Any:
    """A client with long timeouts, for commands that visit all records."""
    return cast("Any", redis.Redis).from_url(url, decode_responses=True, socket_timeout=60, socket_connect_timeout=3)


def migrate(client: Any) -> int:
    """Migrate the records to `VERSION`, step by step, and return the version that they had.

    Steps are idempotent: they may run twice, or in two processes at once.

    Raises:
        ConfigError: a newer KangKlip wrote the records.
        StateError: Redis does not answer.
    """
    with state_errors():
        found = version_of(client)
        if found > VERSION:
            raise ConfigError(
                f"The records in Redis have version {found}, and this KangKlip supports {VERSION}; install a newer one."
            )
        for number in range(found, VERSION):
            _STEPS[number](client)
        if found < VERSION or not client.exists(SCHEMA_KEY):
            client.set(SCHEMA_KEY, VERSION)
    return found


def version_of(client: Any) -> int:
    """The version of the stored records, or `VERSION` if the database is empty."""
    held = client.get(SCHEMA_KEY)
    if held is not None:
        return int(held)
    return VERSION if next(client.scan_iter("kangklip:*", count=500), None) is None else 1


def job_keys(client: Any) -> list[str]:
    """The keys of the jobs' records, without their events and leases."""
    return sorted(key for key in client.scan_iter("kangklip:job:kk_*", count=500) if key.count(":") == 2)


# A script, so that a record that expires meanwhile is not recreated. KEYS: job. ARGV: the error of cancelled jobs.
_MARK_CANCELLED = """
local found = redis.call('HMGET', KEYS[1], 'status', 'error')
if found[1] == 'FAILED' and found[2] == ARGV[1] then redis.call('HSET', KEYS[1], 'cancelled', '1') end
"""


def _mark_cancelled(client: Any) -> None:
    """1 to 2: mark cancelled jobs with the field `cancelled`."""
    for key in job_keys(client):
        client.eval(_MARK_CANCELLED, 1, key, CANCELLED)


def _count_waiting(client: Any) -> None:
    """2 to 3: count the jobs that wait, and list each owner's jobs."""
    for key in job_keys(client):
        job_id = key.removeprefix(JOB_PREFIX)
        client.eval(COUNT, 1, key, job_id)
        owner, created_at = client.hmget(key, "owner", "created_at")
        if owner and created_at:
            client.zadd(jobs_of(owner), {job_id: created_at})


_STEPS: dict[int, Callable[[Any], None]] = {1: _mark_cancelled, 2: _count_waiting}
