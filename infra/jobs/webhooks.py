"""The ends of jobs that must still be sent to a webhook.

The script that ends an attempt also adds the job to a sorted set, so no end is lost between the two. There is one
entry per job: the end of a newer attempt replaces one that has not been delivered yet.
"""

from typing import NamedTuple, cast

from infra.jobs.connection import Connection, state_errors, timestamp
from infra.jobs.keys import WEBHOOKS, job_key
from infra.states import JobState

HIDDEN_SECONDS = 60.0
"""How long a taken entry is hidden from other processes. If the taker dies, another one sends it after that."""

# Takes the entry that is due longest. KEYS: webhooks. ARGV: now, hidden until. Returns the job's id, or false.
_TAKE = """
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, 1)[1]
if due then redis.call('ZADD', KEYS[1], ARGV[2], due) end
return due or false
"""
# Records a try. KEYS: job, webhooks. ARGV: job_id, attempt, time of delivery or '', error, time of the next try or ''.
# Returns 1, or 0 if the job is gone or a newer attempt has ended.
_RECORD = """
local current = redis.call('HGET', KEYS[1], 'webhook_attempt')
if not current then redis.call('ZREM', KEYS[2], ARGV[1]) return 0 end
if current ~= ARGV[2] then return 0 end
redis.call('HINCRBY', KEYS[1], 'webhook_tries', 1)
redis.call('HDEL', KEYS[1], 'webhook_error')
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], 'webhook_delivered_at', ARGV[3]) end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[1], 'webhook_error', ARGV[4]) end
if ARGV[5] ~= '' then redis.call('ZADD', KEYS[2], ARGV[5], ARGV[1]) else redis.call('ZREM', KEYS[2], ARGV[1]) end
return 1
"""
_FIELDS = ("webhook_url", "webhook_attempt", "webhook_status", "webhook_tries")


class JobEnd(NamedTuple):
    """The end of an attempt that is due at a webhook: `tries` have failed so far. `ended_at` is in epoch seconds."""

    job_id: str
    attempt: int
    status: JobState
    error: str | None
    ended_at: float
    url: str
    tries: int


class PendingWebhooks:
    """Takes the ends that are due, and settles each by `delivered` or `failed`.

    Every method raises `StateError` if Redis does not answer.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._redis = connection.client

    def take(self) -> JobEnd | None:
        """The end that is due longest, or None. Others get it again after `HIDDEN_SECONDS` unless it is settled."""
        while True:
            now = float(timestamp())
            with state_errors():
                job_id = cast("str | None", self._redis.eval(_TAKE, 1, WEBHOOKS, now, now + HIDDEN_SECONDS))
                if job_id is None:
                    return None
                fields = cast("list[str | None]", self._redis.hmget(job_key(job_id), _FIELDS))
                url, attempt, status, tries = fields
                if url and attempt and status:
                    names = [f"until:{attempt}", f"reason:{attempt}"]
                    ended, reason = cast("list[str | None]", self._redis.hmget(job_key(job_id), names))
                    number = int(attempt)
                    return JobEnd(job_id, number, JobState(status), reason, float(ended or now), url, int(tries or 0))
                self._redis.zrem(WEBHOOKS, job_id)  # its record has expired

    def delivered(self, end: JobEnd) -> None:
        """Record that the end has arrived."""
        self._record(end, delivered_at=timestamp())

    def failed(self, end: JobEnd, error: str, next_try: float | None) -> None:
        """Record that a try failed; `next_try` is in epoch seconds, or None to give up."""
        self._record(end, error=error, next_try="" if next_try is None else f"{next_try:.3f}")

    def _record(self, end: JobEnd, *, delivered_at: str = "", error: str = "", next_try: str = "") -> None:
        arguments = [end.job_id, end.attempt, delivered_at, error, next_try]
        self._connection.run_script(_RECORD, [job_key(end.job_id), WEBHOOKS], arguments)
