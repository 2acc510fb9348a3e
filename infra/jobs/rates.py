"""Rate limits per client and minute."""

import time

from infra.jobs.connection import Connection
from infra.jobs.keys import digest

# Counts one request and returns the count. KEYS: counter. ARGV: its lifetime in seconds.
_COUNT = """
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return n
"""


class RateLimit:
    """Counts requests per client and clock minute."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def wait_seconds(self, client: str, per_minute: int) -> int:
        """Count one request. Returns 0 if it is allowed, else the seconds until the next minute.

        Raises:
            StateError: Redis does not answer.
        """
        minute, second = divmod(int(time.time()), 60)
        key = f"kangklip:rate:{digest(client)}:{minute}"
        return 60 - second if self._connection.run_script(_COUNT, [key], [60]) > per_minute else 0
