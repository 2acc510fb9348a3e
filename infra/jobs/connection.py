"""The connection to Redis, shared by all stores of a process."""

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
    """A connection for all threads. Use redis-py's `client` inside `state_errors`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = shared_client(url)

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The connection to the Redis of the settings, or None if they name none."""
        return None if settings.redis_url is None else cls(settings.redis_url.get_secret_value())

    def run_script(self, script: str, keys: Sequence[str], arguments: Sequence[object]) -> int:
        """Run a Lua script that returns a number.

        Raises:
            StateError: Redis does not answer.
        """
        with state_errors():
            return cast("int", self.client.eval(script, len(keys), *keys, *map(str, arguments)))

    def ping(self) -> None:
        """Check that Redis answers.

        Raises:
            StateError: it does not.
        """
        with state_errors():
            self.client.ping()


@functools.lru_cache(maxsize=8)
def shared_client(url: str) -> Any:
    """The process's client for the Redis at `url`, closed when the process exits.

    It opens one connection per concurrent command, and keeps them open.
    """
    client = cast("Any", redis.Redis).from_url(
        url, decode_responses=True, socket_timeout=10, socket_connect_timeout=3, health_check_interval=30
    )
    atexit.register(client.close)
    return client


@contextmanager
def state_errors() -> Generator[None]:
    """Turn redis-py's errors into `StateError`, without the URL, which may contain a password."""
    try:
        yield
    except redis.ResponseError as error:
        if "No space left" in str(error):  # MISCONF, for which redis-py has no class
            raise StateFull("Redis refuses writes because its disk is full; free some space there.") from error
        raise StateError(f"Redis refused a command ({type(error).__name__}).") from error
    except redis.RedisError as error:
        message = f"Redis did not answer ({type(error).__name__}); check REDIS_URL, and that Redis is running."
        raise StateError(message) from error


def timestamp() -> str:
    """The current time for a script: seconds since the epoch, to the millisecond."""
    return f"{time.time():.3f}"
