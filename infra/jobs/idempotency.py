"""Idempotency keys: a client that repeats a request with the same key gets the same job."""

from typing import NamedTuple, cast

from infra.jobs.connection import Connection, state_errors
from infra.jobs.keys import idempotency_key

_KEPT_SECONDS = 86400


class Reservation(NamedTuple):
    """The job that has the key, whether the key was free, and whether its first request was the same as this one."""

    job_id: str
    is_new: bool
    is_same_request: bool


class IdempotencyKeys:
    """Keys and their jobs. A key is kept for a day, or until its job is deleted or discarded."""

    def __init__(self, connection: Connection) -> None:
        self._redis = connection.client

    def reserve(self, key: str, request_digest: str, job_id: str) -> Reservation:
        """Reserve the key for `job_id`, unless another job has it.

        Raises:
            StateError: Redis does not answer.
        """
        name, value = idempotency_key(key), f"{request_digest} {job_id}"
        with state_errors():
            is_new = bool(self._redis.set(name, value, nx=True, ex=_KEPT_SECONDS))
            kept = cast("str | None", self._redis.get(name)) or value
        first_digest, _, holder = kept.partition(" ")
        return Reservation(holder, is_new, first_digest == request_digest)
