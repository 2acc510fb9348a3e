"""The connection to Redis that all stores of a process share."""

import atexit
import functools
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Self, cast

import redis

from infra.errors import StateError, StateFull
from infra.settings import Settings


class Connection:
    """One Redis, for all threads. `client` has its commands; use it inside `state_errors`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = shared_client(url)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The Redis that the settings name, or None."""
        return None if settings.redis_url is None else cls(settings.redis_url.get_secret_value())

    def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[object]) -> int:
        """Run a Lua script that returns a number.

        Raises:
            StateError: Redis does not answer.
        """
        with state_errors():
            return cast("int", self.client.eval(script, len(keys), *keys, *map(str, arguments)))

    def ping(self) -> None:
        """Raises: StateError: Redis does not answer."""
        with state_errors():
            self.client.ping()


@functools.lru_cache(maxsize=8)
def shared_client(url: str) -> Any:
    """The process's client for the Redis at `url`; it is closed when the process ends.

    It opens one connection per concurrent command and keeps them.
    """
    client = cast("Any", redis.Redis).from_url(
        url, decode_responses=True, socket_timeout=10, socket_connect_timeout=3, health_check_interval=30
    )
    atexit.register(client.close)
    return client


@contextmanager
def state_errors() -> Generator[None]:
    """Turn redis-py's errors into `StateError`, without the address, which may hold a password."""
    try:
        yield
    except redis.ResponseError as error:
        if "No space left" in str(error):  # MISCONF, for which redis-py has no class
            raise StateFull("Redis takes no writes: its disk is full; free some space there.") from error
        raise StateError(f"Redis refused a command ({type(error).__name__}).") from error
    except redis.RedisError as error:
        raise StateError(f"Redis did not answer ({type(error).__name__}); check REDIS_URL and that it runs.") from error


def timestamp() -> str:
    """The current time as scripts take it: seconds since the epoch, to the millisecond."""
    return f"{time.time():.3f}"
