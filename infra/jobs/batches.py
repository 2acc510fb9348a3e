"""What a batch has done, in Redis: which videos have a job, which of them are not through, how many run now.

Keys: `kangklip:batch:{name}:jobs` (hash: video -> job, for ever), `…:open` (hash: video -> what is to be known
of one that is not through) and `…:slots` (jobs that run now, by when they were let in). A video's job is
decided here and never again, so that overlapping runs and runs that died give it one job between them.
"""

import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import cast

import redis
from pydantic import BaseModel, ConfigDict

from infra.errors import StateError
from infra.jobs.connection import shared_client
from infra.jobs.ids import new_job_id
from infra.settings import Settings

SETTLE_SECONDS = 60
"""For so long a slot is kept for a job that has no record yet, or an ended one: its run is about to begin."""

# KEYS: jobs, open. ARGV: video, job_id, record. The video's job; the one given unless it has one.
_CLAIM = """
if redis.call('HSETNX', KEYS[1], ARGV[1], ARGV[2]) == 1 then redis.call('HSET', KEYS[2], ARGV[1], ARGV[3]) end
return redis.call('HGET', KEYS[1], ARGV[1])
"""

# KEYS: slots. ARGV: job_id, limit, now, settle seconds, what a job's key begins with. 1 when it has a slot.
_TAKE = """
if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 1 end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[3] - ARGV[4])) do
  local status = redis.call('HGET', ARGV[5] .. id, 'status')
  if status ~= 'QUEUED' and status ~= 'RUNNING' then redis.call('ZREM', KEYS[1], id) end
end
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
return redis.call('ZADD', KEYS[1], ARGV[3], ARGV[1])
"""


class Claim(BaseModel):
    """A video's place in a batch: its key, its job, and the record that was given when it was claimed."""

    model_config = ConfigDict(frozen=True)

    key: str
    job_id: str
    record: str


class BatchMemory:
    """What the batch `name` remembers. Every method raises `StateError` when Redis does not answer."""

    def __init__(self, url: str, name: str) -> None:
        self._redis = shared_client(url)
        self._jobs, self._open, self._slots = (f"kangklip:batch:{name}:{part}" for part in ("jobs", "open", "slots"))

    @classmethod
    def from_settings(cls, settings: Settings, name: str) -> "BatchMemory | None":
        """The memory in the settings' Redis; None where there is none."""
        if settings.redis_url is None:
            return None
        return cls(settings.redis_url.get_secret_value(), name)

    def claim(self, key: str, record: str) -> Claim:
        """Give a video a job, unless it has one; it stays open until `close`."""
        with _answering():
            job_id = self._redis.eval(_CLAIM, 2, self._jobs, self._open, key, new_job_id(), record)
        return Claim(key=key, job_id=job_id, record=record)

    def known(self, keys: Iterable[str]) -> set[str]:
        """Those of the videos that have a job."""
        return set(self._jobs_of(list(keys)))

    def open(self) -> list[Claim]:
        """Videos that have a job and are not through, the oldest job first."""
        with _answering():
            records = cast("dict[str, str]", self._redis.hgetall(self._open))
        jobs = self._jobs_of(list(records))
        claims = [Claim(key=key, job_id=job_id, record=records[key]) for key, job_id in jobs.items()]
        return sorted(claims, key=lambda claim: claim.job_id)

    def close(self, claim: Claim) -> None:
        """The video is through, well or not: no run looks at it again."""
        with _answering():
            self._redis.hdel(self._open, claim.key)

    def take(self, job_id: str, limit: int) -> bool:
        """Have one of `limit` slots, or keep it. Those of jobs that have ended are given to others."""
        arguments = (job_id, limit, time.time(), SETTLE_SECONDS, "kangklip:job:")
        with _answering():
            return self._redis.eval(_TAKE, 1, self._slots, *arguments) == 1

    def leave(self, job_id: str) -> None:
        """Give the slot back."""
        with _answering():
            self._redis.zrem(self._slots, job_id)

    def _jobs_of(self, keys: list[str]) -> dict[str, str]:
        with _answering():
            found = cast("list[str | None]", self._redis.hmget(self._jobs, keys)) if keys else []
        return {key: job_id for key, job_id in zip(keys, found, strict=True) if job_id}


@contextmanager
def _answering() -> Generator[None]:
    """Redis's own errors as `StateError`, without its address."""
    try:
        yield
    except redis.RedisError as error:
        raise StateError(f"Redis did not answer ({type(error).__name__}); check REDIS_URL and that it runs.") from error
