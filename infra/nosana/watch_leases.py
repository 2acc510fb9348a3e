"""Leases that give each run one watcher, within this process and among all workers of the pool."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator
from uuid import UUID

import anyio

from infra.errors import StateError
from infra.jobs.leases import LEASE_SECONDS, watch_lease
from infra.jobs.store import JobStore

logger = logging.getLogger(__name__)


class WatchLeases:
    """Leases in Redis, one per watched run. A dead worker's leases expire. `held` are the runs this worker watches."""

    def __init__(self, jobs: JobStore) -> None:
        self.held: set[UUID] = set()
        self._jobs = jobs

    @contextlib.asynccontextmanager
    async def hold(self, run_id: UUID, wait_seconds: float | None = None) -> AsyncGenerator[bool]:
        """Hold the run's lease while the body runs; yields False if another task or worker has it.

        If the lease is lost (this machine slept, and another worker took over the run), the body is cancelled
        without an error.

        Args:
            wait_seconds: pause between attempts to take the lease; None tries once.
        """
        lease, scope = watch_lease(str(run_id)), anyio.CancelScope()
        while not await self._take(run_id, lease):
            if wait_seconds is None:
                yield False
                return
            await asyncio.sleep(wait_seconds)
        renewing = asyncio.create_task(self._renew(lease, scope))
        try:
            with scope:
                yield True
        finally:
            renewing.cancel()
            self.held.discard(run_id)
            with contextlib.suppress(StateError):
                self._jobs.leases.release(lease)

    async def _take(self, run_id: UUID, lease: str) -> bool:
        """Take the lease, unless another task of this worker has it: Redis only keeps other workers out."""
        if run_id in self.held:
            return False
        self.held.add(run_id)
        is_taken = False
        try:
            is_taken = await asyncio.to_thread(self._jobs.leases.hold, lease)
        finally:
            if not is_taken:
                self.held.discard(run_id)
        return is_taken

    async def _renew(self, lease: str, scope: anyio.CancelScope) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 3)
            try:
                is_held = await asyncio.to_thread(self._jobs.leases.hold, lease)
            except StateError as error:
                logger.warning("The lease %s could not be renewed: %s", lease, error)
                continue
            if not is_held:
                logger.warning("Another worker has taken the lease %s and watches its run now", lease)
                scope.cancel()
                return
