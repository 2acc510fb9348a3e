"""Idempotency keys: a client that repeats a request with the same key gets the same job again."""

from typing import NamedTuple, cast

from infra.jobs.connection import Connection, state_errors
from infra.jobs.keys import idempotency_key, job_key

_KEPT_SECONDS = 86400
# KEYS: idempotency key, job. ARGV: job_id.
_RELEASE = """
local value = redis.call('GET', KEYS[1])
if value and value:sub(-#ARGV[1]) == ARGV[1] and redis.call('EXISTS', KEYS[2]) == 0 then redis.call('DEL', KEYS[1]) end
return 1
"""


class Reservation(NamedTuple):
    """The job that holds the key, whether the key was free, and whether the key's first request was the same."""

    job_id: str
    is_new: bool
    is_same_request: bool


class IdempotencyKeys:
    """Maps keys to jobs. A key is kept for a day, or until its job is deleted or discarded."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def reserve(self, key: str, request_digest: str, job_id: str) -> Reservation:
        """Reserve the key for `job_id`, unless another job holds it.

        Raises:
            StateError: Redis does not answer.
        """
        name, value = idempotency_key(key), f"{request_digest} {job_id}"
        with state_errors():
            is_new = bool(self._connection.client.set(name, value, nx=True, ex=_KEPT_SECONDS))
            kept = cast("str | None", self._connection.client.get(name)) or value
        first_digest, _, holder = kept.partition(" ")
        return Reservation(holder, is_new, first_digest == request_digest)

    def release(self, key: str, job_id: str) -> None:
        """Free the key reserved for `job_id`, unless that job has been created.

        Raises:
            StateError: Redis does not answer.
        """
        self._connection.run_script(_RELEASE, [idempotency_key(key), job_key(job_id)], [job_id])
