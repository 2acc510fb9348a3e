"""Dump and load all records in Redis as plain values, for backups.

A record is `{"key", "type", "value", "expires"}`, `expires` in seconds since the epoch or None. Unlike
the output of Redis's DUMP, they can be loaded into another server version. Leases, rates and sessions are left out.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from infra.errors import StateError
from infra.jobs.connection import state_errors
from infra.jobs.schema import SCHEMA_KEY, VERSION, job_keys, version_of

_SHORT_LIVED = ("kangklip:rate:", "kangklip:session:")


def dump(client: Any) -> Iterator[dict[str, Any]]:
    """Every record: the schema version first, then jobs, then what refers to them.

    Raises:
        StateError: Redis does not answer.
    """
    with state_errors():
        yield {"key": SCHEMA_KEY, "type": "string", "value": str(version_of(client)), "expires": None}
        jobs = job_keys(client)
        others = sorted(set(client.scan_iter("kangklip:*", count=500)) - {*jobs, SCHEMA_KEY})
        for key in (*jobs, *others):
            if not key.startswith(_SHORT_LIVED) and not key.endswith(":lease") and (record := _read(client, key)):
                yield record


def load(client: Any, records: Iterable[dict[str, Any]]) -> int:
    """Write the records and return their number. Expired ones are skipped; the schema version is written last.

    Raises:
        StateError: Redis does not answer, or a record is malformed.
    """
    version, count = str(VERSION), 0
    with state_errors():
        for record in records:
            key, kind, value, expires = (record[name] for name in ("key", "type", "value", "expires"))
            if key == SCHEMA_KEY:
                version = value
                continue
            if not key.startswith("kangklip:") or kind not in _WRITERS:
                raise StateError(f"The backup has a record that is not KangKlip's: {key[:60]!r}.")
            if expires is not None and expires <= time.time():
                continue
            with client.pipeline(transaction=True) as pipe:
                pipe.delete(key)
                _WRITERS[kind](pipe, key, value)
                if expires is not None:
                    pipe.pexpireat(key, int(expires * 1000))
                pipe.execute()
            count += 1
        client.set(SCHEMA_KEY, version)
    return count


def clear(client: Any) -> int:
    """Delete every record and return their number."""
    with state_errors():
        keys = list(client.scan_iter("kangklip:*", count=500))
        for first in range(0, len(keys), 500):
            client.delete(*keys[first : first + 500])
    return len(keys)


def _read(client: Any, key: str) -> dict[str, Any] | None:
    kind = client.type(key)
    if kind not in _READERS:
        return None
    with client.pipeline(transaction=True) as pipe:
        _READERS[kind](pipe, key)
        pipe.pttl(key)
        value, left = pipe.execute()
    if not value or left == -2:
        return None
    plain = sorted(cast("set[str]", value)) if kind == "set" else value
    return {"key": key, "type": kind, "value": plain, "expires": None if left < 0 else time.time() + left / 1000}


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "string": lambda pipe, key: pipe.get(key),
    "hash": lambda pipe, key: pipe.hgetall(key),
    "list": lambda pipe, key: pipe.lrange(key, 0, -1),
    "set": lambda pipe, key: pipe.smembers(key),
    "zset": lambda pipe, key: pipe.zrange(key, 0, -1, withscores=True),
    "stream": lambda pipe, key: pipe.xrange(key),
}


def _write_stream(pipe: Any, key: str, entries: list[Any]) -> None:
    for entry_id, fields in entries:
        pipe.xadd(key, fields, id=entry_id)


_WRITERS: dict[str, Callable[[Any, str, Any], Any]] = {
    "string": lambda pipe, key, value: pipe.set(key, value),
    "hash": lambda pipe, key, value: pipe.hset(key, mapping=value),
    "list": lambda pipe, key, value: pipe.rpush(key, *value),
    "set": lambda pipe, key, value: pipe.sadd(key, *value),
    "zset": lambda pipe, key, value: pipe.zadd(key, dict(value)),
    "stream": _write_stream,
}
