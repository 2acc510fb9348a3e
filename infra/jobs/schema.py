"""The version of the records in Redis, and the migrations from older ones.

`kangklip:schema` holds the version. Records without it have version 1, which the first releases wrote.
"""

from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import redis

from infra.errors import ConfigError
from infra.jobs.connection import state_errors
from infra.jobs.record import CANCELLED
from infra.settings import Settings

SCHEMA_KEY = "kangklip:schema"
VERSION = 2
"""Raise it with each step added to `_STEPS`."""


def update(configured: Settings) -> None:
    """Migrate the records of the Redis that the settings name, if they name one.

    Raises:
        ConfigError: a newer KangKlip wrote them.
        StateError: Redis does not answer.
    """
    if configured.redis_url is not None:
        with state_errors(), closing(maintenance_client(configured.redis_url.get_secret_value())) as client:
            migrate(client)


def maintenance_client(url: str) -> Any:
    """A client with time for commands over all records."""
    return cast("Any", redis.Redis).from_url(url, decode_responses=True, socket_timeout=60, socket_connect_timeout=3)


def migrate(client: Any) -> int:
    """Migrate the records to `VERSION`, step by step; returns the version that they had.

    Steps are idempotent: they may run twice, or in two processes at once.

    Raises:
        ConfigError: a newer KangKlip wrote them.
        StateError: Redis does not answer.
    """
    with state_errors():
        found = version_of(client)
        if found > VERSION:
            raise ConfigError(
                f"The records have version {found}, and this KangKlip knows {VERSION}: install the newer one again."
            )
        for number in range(found, VERSION):
            _STEPS[number](client)
        if found < VERSION or not client.exists(SCHEMA_KEY):
            client.set(SCHEMA_KEY, VERSION)
    return found


def version_of(client: Any) -> int:
    """The version of the stored records; of an empty database, `VERSION`."""
    held = client.get(SCHEMA_KEY)
    if held is not None:
        return int(held)
    return VERSION if next(client.scan_iter("kangklip:*", count=500), None) is None else 1


def job_keys(client: Any) -> list[str]:
    """Keys of the jobs' records, without their streams and leases."""
    return sorted(key for key in client.scan_iter("kangklip:job:kk_*", count=500) if key.count(":") == 2)


# KEYS: job. ARGV: the error of a cancel. A script, so that a record that expires meanwhile does not come back.
_MARK_CANCELLED = """
local found = redis.call('HMGET', KEYS[1], 'status', 'error')
if found[1] == 'FAILED' and found[2] == ARGV[1] then redis.call('HSET', KEYS[1], 'cancelled', '1') end
"""


def _mark_cancelled(client: Any) -> None:
    """1 to 2: cancelled jobs are marked by a field of their own."""
    for key in job_keys(client):
        client.eval(_MARK_CANCELLED, 1, key, CANCELLED)


_STEPS: dict[int, Callable[[Any], None]] = {1: _mark_cancelled}
