"""Checks whether Redis, the bucket and Prefect answer.

Anyone may call this, and each check writes an object, so concurrent callers share one check and its result is cached.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from infra import disk
from infra.errors import InfraError

CHECK_SECONDS = 3
CACHE_SECONDS = 2
_THREADS = 6

Check = Callable[[], object]
"""Raises InfraError if the service is unusable."""


class ReadinessChecks:
    """The checks by service name, and their latest results.

    Args:
        checks: one check per service.
        folder: the data folder; a failure while its disk is full is reported as a full disk.
    """

    def __init__(self, checks: Mapping[str, Check], folder: Path) -> None:
        self._checks = checks
        self._folder = folder
        self._threads = CapacityLimiter(_THREADS)
        self._lock = anyio.Lock()
        self._results: dict[str, str] = {}
        self._checked_at = float("-inf")

    async def results(self) -> dict[str, str]:
        """For each service "ok", or why it is unusable."""
        async with self._lock:
            if time.monotonic() - self._checked_at >= CACHE_SECONDS:
                self._results = await self._check_all()
                self._checked_at = time.monotonic()
            return self._results

    async def _check_all(self) -> dict[str, str]:
        results = dict.fromkeys(self._checks, f"no answer within {CHECK_SECONDS} seconds")

        async def check(name: str) -> None:
            with anyio.move_on_after(CHECK_SECONDS):
                results[name] = await to_thread.run_sync(
                    self._run, self._checks[name], limiter=self._threads, abandon_on_cancel=True
                )

        async with anyio.create_task_group() as group:
            for name in self._checks:
                group.start_soon(check, name)
        return results

    def _run(self, check: Check) -> str:
        try:
            check()
        except InfraError as error:
            return disk.explain_if_full(error, self._folder) or str(error)
        return "ok"
