"""The record of a job in Redis, and the one class that reads and writes it.

Keys: `kangklip:job:{id}` (hash: one JSON document and the numbers the scripts compare),
`kangklip:job:{id}:events` (stream) and `kangklip:job:{id}:lease` (who runs it now).
Transitions are Lua scripts, so they are atomic under concurrent reports.
"""

import contextlib
import json
import os
import secrets
import socket
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import redis
from pydantic import BaseModel, ConfigDict, Field
from ulid import ULID

from infra.errors import JobConflict, StateError
from infra.settings import Settings
from infra.states import JobState, Stage

LEASE_SECONDS = 30
"""A run that has not renewed its lease for this long is dead."""


class JobRef(BaseModel):
    """What a stage needs to know of its job. Only `job_id` decides what is cached."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int = 1
    progress_artifact: str | None = None


class Report(BaseModel):
    """One word of progress: percent of the whole job, 0 to 100."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int = 1
    status: JobState = JobState.RUNNING
    stage: Stage | None = None
    progress: float | None = None
    message: str = ""
    error: str | None = None


class Job(BaseModel):
    """A job as it stands. Times are seconds since the epoch."""

    job_id: str
    status: JobState = JobState.QUEUED
    stage: Stage = Stage.DOWNLOAD
    progress: float = 0.0
    attempt: int = 1
    message: str = ""
    error: str | None = None
    start_error: str | None = None
    nosana_run_id: str | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    request: dict[str, Any] = Field(default_factory=dict[str, Any])


def new_job_id() -> str:
    return f"kk_{ULID()}"


def job_id_of_run(flow_run_id: str) -> str:
    """The job of a flow run that was started without one: the same 128 bits, so that a retry finds it again."""
    return f"kk_{ULID.from_uuid(UUID(flow_run_id))}"


# KEYS: job, events. ARGV: attempt, status, stage, progress, message, error, now, ttl.
# Refused (0): no job, another attempt, a final state. Progress and stage never go back.
_REPORT = """
local job = redis.call('HMGET', KEYS[1], 'attempt', 'status', 'progress')
if not job[1] or job[1] ~= ARGV[1] then return 0 end
if job[2] == 'SUCCEEDED' or job[2] == 'FAILED' then return 0 end
local now, progress = ARGV[7], tonumber(job[3])
local given = tonumber(ARGV[4])
local final = ARGV[2] == 'SUCCEEDED' or ARGV[2] == 'FAILED'
if not final and given and given < progress then return 0 end
if given and given > progress then progress = given end
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'progress', tostring(progress), 'updated_at', now)
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[1], 'stage', ARGV[3])
  redis.call('HSETNX', KEYS[1], 'began:' .. ARGV[1] .. ':' .. ARGV[3], now)
end
redis.call('HSET', KEYS[1], 'message', ARGV[5])
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[6]) end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 2000, '*', 'attempt', ARGV[1], 'status', ARGV[2],
  'stage', redis.call('HGET', KEYS[1], 'stage'), 'progress', tostring(progress), 'message', ARGV[5], 'error', ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[8]); redis.call('EXPIRE', KEYS[2], ARGV[8])
return 1
"""

# KEYS: job. ARGV: job_id, request JSON, now, ttl. 0 when it exists.
_CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'job_id', ARGV[1], 'status', 'QUEUED', 'stage', 'DOWNLOAD', 'progress', '0',
  'attempt', '1', 'request', ARGV[2], 'created_at', ARGV[3], 'updated_at', ARGV[3])
redis.call('EXPIRE', KEYS[1], ARGV[4])
return 1
"""

# KEYS: job, lease. ARGV: now, holder. The new attempt's number; 0 no job, -1 succeeded, -2 another process runs it.
_REOPEN = """
local job = redis.call('HMGET', KEYS[1], 'attempt', 'status')
if not job[1] then return 0 end
if job[2] == 'SUCCEEDED' then return -1 end
local lease = redis.call('GET', KEYS[2])
if lease and lease ~= ARGV[2] then return -2 end
local attempt = tonumber(job[1]) + 1
redis.call('HSET', KEYS[1], 'attempt', tostring(attempt), 'status', 'QUEUED', 'stage', 'DOWNLOAD',
  'progress', '0', 'message', '', 'updated_at', ARGV[1])
redis.call('HDEL', KEYS[1], 'error', 'start_error')
return attempt
"""

# KEYS: lease. ARGV: holder. Deletes the lease only if it is the holder's own.
_RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


class JobStore:
    """Jobs in Redis. Every method raises `StateError` when Redis does not answer."""

    def __init__(self, url: str, ttl_seconds: int) -> None:
        self._redis = redis.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, decode_responses=True, socket_timeout=10, socket_connect_timeout=3, health_check_interval=30
        )
        self._ttl = ttl_seconds
        self._holder = f"{_neighbourhood()}:{os.getpid()}:{secrets.token_hex(8)}"

    @classmethod
    def from_settings(cls, settings: Settings) -> "JobStore | None":
        """The store that the settings name; None where there is no Redis."""
        if settings.redis_url is None:
            return None
        return cls(settings.redis_url.get_secret_value(), settings.job_ttl_seconds)

    def create(self, job_id: str, request_json: str) -> bool:
        """Record a QUEUED job; False when it exists already, and nothing is changed."""
        return self._eval(_CREATE, [_key(job_id)], [job_id, request_json, time.time(), self._ttl]) == 1

    def get(self, job_id: str) -> Job | None:
        with _answering():
            fields = cast("dict[str, str]", self._redis.hgetall(_key(job_id)))
        if not fields:
            return None
        known = {name: value for name, value in fields.items() if name in Job.model_fields and name != "request"}
        job = Job.model_validate(known)
        job.request = _loads(fields.get("request"))
        return job

    def report(self, report: Report) -> bool:
        """Apply a report; False when it came too late, from another attempt, or would go back."""
        arguments = [
            report.attempt,
            report.status,
            report.stage or "",
            "" if report.progress is None else report.progress,
            report.message,
            report.error or "",
            time.time(),
            self._ttl,
        ]
        return self._eval(_REPORT, [_key(report.job_id), _events_key(report.job_id)], arguments) == 1

    def reopen(self, job_id: str) -> int:
        """Open the next attempt of a job that failed or whose run has died, and give its number.

        Raises:
            JobConflict: there is no such job, it has succeeded, or another process runs it.
        """
        self._drop_dead_lease(job_id)
        answer = self._eval(_REOPEN, [_key(job_id), _lease_key(job_id)], [time.time(), self._holder])
        if answer > 0:
            return answer
        reason = {0: "is not known", -1: "has succeeded already", -2: "is being run by another process"}[answer]
        raise JobConflict(f"Job {job_id} {reason}.")

    def set_run(self, job_id: str, run_id: str) -> None:
        """Record what runs the job: the Nosana deployment there, the flow run elsewhere."""
        with _answering():
            self._redis.hset(_key(job_id), "nosana_run_id", run_id)

    def events(self, job_id: str, after: str = "0", block_seconds: float = 1.0) -> Iterator[tuple[str, dict[str, str]]]:
        """Events later than `after`, oldest first: (id, fields). Ends when none came for `block_seconds`."""
        while True:
            with _answering():
                answer = cast(
                    "list[tuple[str, list[tuple[str, dict[str, str]]]]]",
                    self._redis.xread({_events_key(job_id): after}, count=100, block=int(block_seconds * 1000)),
                )
            if not answer:
                return
            yield from answer[0][1]
            after = answer[0][1][-1][0]

    def hold(self, job_id: str) -> bool:
        """Take or renew this store's lease on running the job; False when another has it."""
        self._drop_dead_lease(job_id)
        with _answering():
            taken = self._redis.set(_lease_key(job_id), self._holder, nx=True, ex=LEASE_SECONDS)
            if not taken and self._redis.get(_lease_key(job_id)) == self._holder:
                taken = self._redis.expire(_lease_key(job_id), LEASE_SECONDS)
        return bool(taken)

    def release(self, job_id: str) -> None:
        self._eval(_RELEASE, [_lease_key(job_id)], [self._holder])

    def ping(self) -> None:
        with _answering():
            self._redis.ping()  # pyright: ignore[reportUnknownMemberType]

    def _drop_dead_lease(self, job_id: str) -> None:
        """A lease of a process of this machine that no longer lives need not run out."""
        with _answering():
            holder = cast("str | None", self._redis.get(_lease_key(job_id)))
        if holder and holder != self._holder and _is_dead_neighbour(holder):
            self._eval(_RELEASE, [_lease_key(job_id)], [holder])

    def _eval(self, script: str, keys: list[str], arguments: list[Any]) -> int:
        with _answering():
            return cast("int", self._redis.eval(script, len(keys), *keys, *map(str, arguments)))


def _key(job_id: str) -> str:
    return f"kangklip:job:{job_id}"


def _events_key(job_id: str) -> str:
    return f"kangklip:job:{job_id}:events"


def _lease_key(job_id: str) -> str:
    return f"kangklip:job:{job_id}:lease"


def _neighbourhood() -> str:
    """Host, boot and namespace of this process: within it, process ids mean the same."""
    marks = [socket.gethostname()]
    with contextlib.suppress(OSError):
        marks += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return "/".join(marks).replace(":", "-")


def _is_dead_neighbour(holder: str) -> bool:
    """Whether the holder is a process of our own neighbourhood that no longer lives."""
    place, _, rest = holder.partition(":")
    pid = rest.partition(":")[0]
    if place != _neighbourhood() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _loads(text: str | None) -> dict[str, Any]:
    return json.loads(text) if text else {}


@contextmanager
def _answering() -> Generator[None]:
    """Redis's own errors as `StateError`; the message names no address, it may hold a password."""
    try:
        yield
    except redis.RedisError as error:
        raise StateError(f"Redis did not answer ({type(error).__name__}); check REDIS_URL and that it runs.") from error
