"""Which form the records in Redis have, and how older ones are brought to today's.

`kangklip:schema` holds the number. Records without it are of form 1, which the first releases wrote.
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
"""Raise it with each step that `_STEPS` gets."""


def bring_up_to_date(configured: Settings) -> None:
    """Bring the records of the Redis that the settings name to today's form; nothing where there is none.

    Raises:
        ConfigError: a newer KangKlip has written them.
        StateError: Redis does not answer.
    """
    if configured.redis_url is not None:
        with state_errors(), closing(client_of(configured.redis_url.get_secret_value())) as client:
            migrate(client)


def client_of(url: str) -> Any:
    """A client for all of the records at once."""
    return cast("Any", redis.Redis).from_url(url, decode_responses=True, socket_timeout=60, socket_connect_timeout=3)


def migrate(client: Any) -> int:
    """Bring the records to `VERSION`, a step at a time; the form that they had.

    A step may run twice, or in two processes at once, and comes to the same.

    Raises:
        ConfigError: a newer KangKlip has written them.
        StateError: Redis does not answer.
    """
    with state_errors():
        found = form_of(client)
        if found > VERSION:
            raise ConfigError(
                f"The records are of form {found}, and this KangKlip knows {VERSION}: install the newer one again."
            )
        for number in range(found, VERSION):
            _STEPS[number](client)
        if found < VERSION or not client.exists(SCHEMA_KEY):
            client.set(SCHEMA_KEY, VERSION)
    return found


def form_of(client: Any) -> int:
    """The form of the records that are there; of none at all, today's."""
    held = client.get(SCHEMA_KEY)
    if held is not None:
        return int(held)
    return VERSION if next(client.scan_iter("kangklip:*", count=500), None) is None else 1


def job_keys(client: Any) -> list[str]:
    """Keys of the jobs' own records, without what lies beside them."""
    return sorted(key for key in client.scan_iter("kangklip:job:kk_*", count=500) if key.count(":") == 2)


# KEYS: job. ARGV: the error of a cancel. In one step: a record that expires meanwhile must not come back.
_MARK_CANCELLED = """
local found = redis.call('HMGET', KEYS[1], 'status', 'error')
if found[1] == 'FAILED' and found[2] == ARGV[1] then redis.call('HSET', KEYS[1], 'cancelled', '1') end
"""


def _mark_cancelled(client: Any) -> None:
    """1 to 2: a job that was cancelled says so in a field of its own."""
    for key in job_keys(client):
        client.eval(_MARK_CANCELLED, 1, key, CANCELLED)


_STEPS: dict[int, Callable[[Any], None]] = {1: _mark_cancelled}
