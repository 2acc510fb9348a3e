"""The API in a process of its own, and how long requests to it take."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple

import httpx

from deployments.home import HOME

NO_LIMITS = {"CREATE_RATE_PER_MINUTE": "0", "MAX_QUEUED": "0", "MAX_QUEUED_PER_KEY": "0", "MAX_EVENT_STREAMS": "1000"}
BODY = {"video_url": "https://example.org/talk.mp4", "clip_duration_seconds": 45, "clip_count": 2, "language": "en"}
HEADING = f"{'':34}{'requests':>9}{'errors':>8}{'a second':>10}{'p50 ms':>8}{'p95 ms':>8}{'most':>8}"


class Timing(NamedTuple):
    """How long requests of one kind took: percentiles in milliseconds."""

    name: str
    count: int
    errors: int
    rate: float
    p50: float
    p95: float
    most: float

    def __str__(self) -> str:
        times = f"{self.rate:>10.0f}{self.p50:>8.1f}{self.p95:>8.1f}{self.most:>8.1f}"
        return f"{self.name:34}{self.count:>9}{self.errors:>8}{times}"


@contextlib.contextmanager
def running_api(settings: dict[str, str]) -> Iterator[tuple[str, int]]:
    """The API on a free port, with these settings in its environment; yields its URL and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    env = os.environ | {"PORT": str(port)} | settings
    command = [sys.executable, "-m", "deployments.cli.main", "api"]
    with subprocess.Popen(command, cwd=HOME, env=env, stdout=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if httpx.get(f"{url}/readyz", timeout=10).is_success:
                        break
                if process.poll() is not None:
                    raise SystemExit("The API did not start.")
                time.sleep(0.2)
            yield url, process.pid
        finally:
            process.terminate()


async def timed(name: str, ask: Callable[[], Awaitable[object]], count: int, clients: int) -> Timing:
    """The times of `count` requests, sent by `clients` that each wait for an answer before they ask again."""
    took: list[float] = []
    errors = 0
    left = iter(range(count))

    async def client() -> None:
        nonlocal errors
        for _ in left:
            began = time.perf_counter()
            try:
                await ask()
            except httpx.HTTPError:
                errors += 1
            took.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    rate = count / (time.perf_counter() - began)
    took.sort()
    return Timing(name, count, errors, rate, took[count // 2], took[int(count * 0.95)], took[-1])
