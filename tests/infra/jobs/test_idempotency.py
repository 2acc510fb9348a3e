"""An idempotency key belongs to the first job that reserves it."""

from infra.jobs.connection import Connection
from infra.jobs.idempotency import IdempotencyKeys
from infra.jobs.ids import new_job_id


def test_a_key_belongs_to_the_job_that_reserved_it_first(stack):
    keys = IdempotencyKeys(Connection.from_settings(stack.settings))
    key, first, second = new_job_id(), new_job_id(), new_job_id()
    assert keys.reserve(key, "body", first).is_new
    again = keys.reserve(key, "body", second)
    assert (again.job_id, again.is_new, again.is_same_request) == (first, False, True)
    assert not keys.reserve(key, "other body", second).is_same_request
