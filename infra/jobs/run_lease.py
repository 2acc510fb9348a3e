"""A run's lease on its job: taken when the attempt opens, renewed by a thread, and released at the end."""

import logging
import signal
import threading
from types import TracebackType
from typing import Self

from infra.errors import StateError
from infra.jobs.leases import LEASE_SECONDS
from infra.jobs.record import JobRef
from infra.jobs.store import JobStore

logger = logging.getLogger(__name__)
CHECK_SECONDS = 3.0
"""How soon a run notices that its job was cancelled."""


class RunLease:
    """While this is held, no other process runs the job. A run that loses it is interrupted; see `loss_reason`.

    `JobStore.open` or `Recuts.open` takes the lease and `guard` renews it. It is lost when another run takes over the
    job, after this machine slept or Redis was unreachable for too long, or when the guarded attempt is ended from
    outside or superseded. Without a store, nothing is held.
    """

    def __init__(self, store: JobStore | None, job_id: str) -> None:
        self._store, self._job_id = store, job_id
        self._done = threading.Event()
        self._guarded: JobRef | None = None
        self._keeper: threading.Thread | None = None
        self.loss_reason: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        if self._store is None:
            return
        try:
            self._store.leases.release(self._job_id)
        except StateError as failure:
            logger.warning("The lease of %s was not released and will expire: %s", self._job_id, failure)

    def guard(self, job: JobRef | None) -> None:
        """Interrupt this process when someone else ends the attempt. With None, stop watching the attempt."""
        self._guarded = job
        if self._store is not None and self._keeper is None:
            self._keeper = threading.Thread(target=self._renew_and_check, args=[self._store], daemon=True, name="lease")
            self._keeper.start()

    def _renew_and_check(self, store: JobStore) -> None:
        waited = 0.0
        while not self._done.wait(CHECK_SECONDS):
            waited += CHECK_SECONDS
            try:
                lost = self._check_loss(store, is_due=waited >= LEASE_SECONDS / 3)
            except StateError as error:
                logger.warning("The lease of %s could not be renewed: %s", self._job_id, error)
                continue
            if waited >= LEASE_SECONDS / 3:
                waited = 0.0
            if lost and not self._done.is_set():
                self.loss_reason = lost
                # Unlike interrupt_main, a signal to the thread also wakes it from a blocking call.
                signal.pthread_kill(_main_thread(), signal.SIGINT)
                return

    def _check_loss(self, store: JobStore, *, is_due: bool) -> str | None:
        if is_due and not store.leases.hold(self._job_id):
            return f"Another run has taken over job {self._job_id}; this one has stopped."
        known = store.get(self._job_id) if self._guarded else None
        guarded = self._guarded
        if guarded and not known and store.was_deleted(self._job_id):
            return f"Job {self._job_id} was deleted; its run has stopped."
        return guarded.why_lost(known) if known and guarded else None


def _main_thread() -> int:
    ident = threading.main_thread().ident
    if ident is None:
        raise RuntimeError("the main thread has not begun")
    return ident
