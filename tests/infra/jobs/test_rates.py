"""Rate limits apply per client and minute."""

from infra.jobs.connection import Connection
from infra.jobs.ids import new_job_id
from infra.jobs.rates import RateLimit


def test_a_client_over_the_limit_waits_for_the_next_minute(stack):
    limit = RateLimit(Connection.from_settings(stack.settings))
    client = new_job_id()
    waits = [limit.wait_seconds(client, 3) for _ in range(5)]
    assert waits[:3] == [0, 0, 0]
    assert all(0 < wait <= 60 for wait in waits[3:])
