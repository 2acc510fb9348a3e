"""Dumps all records in Redis as plain values, and loads them, for backups.

A record is `{"key", "type", "value", "expires"}`, where `expires` is in seconds since the epoch, or None. Unlike the
output of Redis's DUMP, records can be loaded by another server version. Leases, rates and sessions are left out.
"""

import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Annotated, Any, Literal, cast

from annotated_types import MinLen
from pydantic import BaseModel, Field, FiniteFloat, TypeAdapter, ValidationError

from infra.errors import StateError
from infra.jobs.connection import state_errors
from infra.jobs.ids import JOB_ID
from infra.jobs.keys import JOB_PREFIX
from infra.jobs.schema import SCHEMA_KEY, VERSION, job_keys, version_of

_SHORT_LIVED = ("kangklip:rate:", "kangklip:session:")


def dump(client: Any) -> Iterator[dict[str, Any]]:
    """Yield every record: first the schema version, then the jobs, then the records that refer to jobs.

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
    """Write the records and return how many. The schema version is written last.

    Expired records are skipped, and so are those of jobs that have been deleted since the dump.

    Raises:
        StateError: Redis does not answer, or a record is malformed.
    """
    version, count = str(VERSION), 0
    with state_errors():
        for record in records:
            checked = check(record)
            key, kind, value, expires = (checked[name] for name in ("key", "type", "value", "expires"))
            if key == SCHEMA_KEY:
                version = value
                continue
            if (expires is not None and expires <= time.time()) or _is_of_deleted_job(client, key):
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


def check(record: object) -> dict[str, Any]:
    """Return the record if `load` can write it.

    Raises:
        StateError: it has another form, or its key is not KangKlip's.
    """
    try:
        found = _Record.model_validate(record)
        return found.model_dump() | {"value": _VALUES[found.type].validate_python(found.value)}
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise StateError(
            f"The backup has a damaged record ({where}): {str(record)[:80]!r}; restore another backup."
        ) from None


def clear(client: Any) -> int:
    """Delete every record, but keep which jobs were deleted. Returns how many records there were."""
    with state_errors():
        keys = [key for key in client.scan_iter("kangklip:*", count=500) if not _is_of_deleted_job(client, key)]
        for first in range(0, len(keys), 500):
            client.delete(*keys[first : first + 500])
    return len(keys)


def _is_of_deleted_job(client: Any, key: str) -> bool:
    """Whether the key is of a job that was deleted: the mark that remains of its record, or its events."""
    kept = re.match(JOB_PREFIX + JOB_ID.pattern, key)
    return kept is not None and bool(client.hexists(kept[0], "deleted"))


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


class _Record(BaseModel):
    key: Annotated[str, Field(pattern="^kangklip:")]
    type: Literal["string", "hash", "list", "set", "zset", "stream"]
    value: Any
    expires: FiniteFloat | None


_Fields = Annotated[dict[str, str], MinLen(1)]
_VALUES: dict[str, TypeAdapter[Any]] = {
    "string": TypeAdapter(str),
    "hash": TypeAdapter(_Fields),
    "list": TypeAdapter(Annotated[list[str], MinLen(1)]),
    "set": TypeAdapter(Annotated[list[str], MinLen(1)]),
    "zset": TypeAdapter(Annotated[list[tuple[str, FiniteFloat]], MinLen(1)]),
    "stream": TypeAdapter(Annotated[list[tuple[str, _Fields]], MinLen(1)]),
}

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
