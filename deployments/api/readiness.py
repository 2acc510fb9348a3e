"""Whether Redis, the bucket and Prefect answer.

Anyone may ask, and each check writes an object, so the answer is kept for a moment and shared by all who ask.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
from anyio import CapacityLimiter, to_thread

from infra import disk
from infra.errors import InfraError

PATIENCE_SECONDS = 3
KEPT_SECONDS = 2
_THREADS = 6

Check = Callable[[], object]
"""Raises InfraError if its service cannot be used."""


class ReadinessChecks:
    """The checks by service name, and their last outcome.

    Args:
        checks: one check per service.
        folder: the data folder; if its disk is full, that is the reason given for a failure.
    """

    def __init__(self, checks: Mapping[str, Check], folder: Path) -> None:
        self._checks = checks
        self._folder = folder
        self._threads = CapacityLimiter(_THREADS)
        self._one_at_a_time = anyio.Lock()
        self._outcome: dict[str, str] = {}
        self._checked_at = float("-inf")

    async def outcome(self) -> dict[str, str]:
        """For each service "ok", or why it cannot be used."""
        async with self._one_at_a_time:
            if time.monotonic() - self._checked_at >= KEPT_SECONDS:
                self._outcome = await self._check_all()
                self._checked_at = time.monotonic()
            return self._outcome

    async def _check_all(self) -> dict[str, str]:
        found = dict.fromkeys(self._checks, f"no answer within {PATIENCE_SECONDS} seconds")

        async def check(name: str) -> None:
            with anyio.move_on_after(PATIENCE_SECONDS):
                found[name] = await to_thread.run_sync(
                    self._result, self._checks[name], limiter=self._threads, abandon_on_cancel=True
                )

        async with anyio.create_task_group() as group:
            for name in self._checks:
                group.start_soon(check, name)
        return found

    def _result(self, check: Check) -> str:
        try:
            check()
        except InfraError as error:
            return disk.explain_if_full(error, self._folder) or str(error)
        return "ok"
