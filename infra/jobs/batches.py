"""A batch's memory in Redis: which videos have a job, which are unfinished, and which jobs are running.

Keys: `kangklip:batch:{name}:jobs` (hash: video -> job, kept forever), `…:open` (hash: video -> entry of an unfinished
video) and `…:slots` (running jobs, by the time they took their slot). A video gets one job, which overlapping and
restarted runs of the batch share.
"""

import time
from collections.abc import Iterable
from typing import Self, cast

from pydantic import BaseModel, ConfigDict

from infra.jobs.connection import Connection, state_errors
from infra.jobs.ids import new_job_id
from infra.jobs.keys import JOB_PREFIX
from infra.settings import Settings

SETTLE_SECONDS = 60
"""A slot is kept this long even if its job has ended or has no record yet: a run may be about to begin."""

# Returns the video's job: an earlier one if there is one, else `job_id`. KEYS: jobs, open. ARGV: video, job_id, record.
_ADD = """
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) end
return redis.call('HGET', KEYS[1], ARGV[1])
"""

# Returns 1 if the job has a slot, else 0. KEYS: slots. ARGV: job_id, limit, now, settle seconds, prefix of job keys.
_TAKE_SLOT = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 1 end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[3] - ARGV[4])) do
  local status = redis.call('HGET', ARGV[5] .. id, 'status')
  if status ~= 'QUEUED' and status ~= 'RUNNING' then redis.call('ZREM', KEYS[1], id) end
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
return redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
"""


class BatchEntry(BaseModel):
    """A video of a batch, with its job and the record stored for it."""

    model_config = ConfigDict(frozen=True)

    key: str
    job_id: str
    record: str


class BatchMemory:
    """The memory of the batch `name`. Every method raises `StateError` if Redis does not answer."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._redis = connection.client
        self._jobs, self._open, self._slots = (f"kangklip:batch:{name}:{kind}" for kind in ("jobs", "open", "slots"))

    @classmethod
    def from_settings(cls, settings: Settings, name: str) -> Self | None:
        """The memory in the Redis of the settings, or None if they name none."""
        connection = Connection.from_settings(settings)
        return None if connection is None else cls(connection, name)

    def add(self, key: str, record: str) -> BatchEntry:
        """Give the video a job, unless it has one. The entry stays open until `close`."""
        with state_errors():
            job_id = self._redis.eval(_ADD, 2, self._jobs, self._open, key, new_job_id(), record)
        return BatchEntry(key=key, job_id=job_id, record=record)

    def videos_with_job(self, keys: Iterable[str]) -> set[str]:
        """The subset of these videos that have a job."""
        return set(self._jobs_of(list(keys)))

    def open_entries(self) -> list[BatchEntry]:
        """Entries of the unfinished videos, oldest job first."""
        with state_errors():
            records = cast("dict[str, str]", self._redis.hgetall(self._open))
        jobs = self._jobs_of(list(records))
        entries = [BatchEntry(key=key, job_id=job_id, record=records[key]) for key, job_id in jobs.items()]
        return sorted(entries, key=lambda entry: entry.job_id)

    def close(self, entry: BatchEntry) -> None:
        """Mark the video as finished, whatever its outcome. Later runs ignore it."""
        with state_errors():
            self._redis.hdel(self._open, entry.key)

    def take_slot(self, job_id: str, limit: int) -> bool:
        """Take one of `limit` slots, or keep the one held. Slots of jobs that have ended are freed first."""
        arguments = [job_id, limit, time.time(), SETTLE_SECONDS, JOB_PREFIX]
        return self._connection.run_script(_TAKE_SLOT, [self._slots], arguments) == 1

    def release_slot(self, job_id: str) -> None:
        with state_errors():
            self._redis.zrem(self._slots, job_id)

    def _jobs_of(self, keys: list[str]) -> dict[str, str]:
        with state_errors():
            found = cast("list[str | None]", self._redis.hmget(self._jobs, keys)) if keys else []
        return {key: job_id for key, job_id in zip(keys, found, strict=True) if job_id}
