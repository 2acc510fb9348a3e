"""The client of Redis that everything in this process shares."""

import atexit
import functools
from typing import Any, cast

import redis


@functools.lru_cache(maxsize=8)
def shared_client(url: str) -> Any:
    """The one client of the Redis at `url`, for all threads; it is closed when the process ends.

    It opens a connection for each command that runs at the same time, and keeps them.
    """
    client = cast("Any", redis.Redis).from_url(
        url, decode_responses=True, socket_timeout=10, socket_connect_timeout=3, health_check_interval=30
    )
    atexit.register(client.close)
    return client
