"""Makes sure that a stop signal ends a run.

Prefect raises `TerminationSignal` wherever the main thread happens to be. A library that catches every exception there,
as some do around an optional import, swallows it, and the run would continue. So arriving signals are recorded, and
raised again between steps.
"""

import signal
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager

from prefect.exceptions import TerminationSignal

_arrived: socket.socket | None = None


@contextmanager
def recorded() -> Generator[None]:
    """Record the signals that arrive during the block. Does nothing outside the main thread, which gets all signals."""
    global _arrived  # noqa: PLW0603 signals belong to the process
    if _arrived is not None or not _is_main():
        yield
        return
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    _arrived = reader
    try:
        yield
    finally:
        _arrived = None
        signal.set_wakeup_fd(before)
        reader.close()
        writer.close()


def raise_pending() -> None:
    """If a stop signal has arrived and its exception was swallowed, raise it again.

    Raises:
        TerminationSignal: SIGTERM arrived.
        KeyboardInterrupt: SIGINT arrived.
    """
    if _arrived is None or not _is_main():
        return
    try:
        numbers = _arrived.recv(4096)
    except BlockingIOError:
        return
    if signal.SIGTERM in numbers:
        raise TerminationSignal(signal.SIGTERM)
    if signal.SIGINT in numbers:
        raise KeyboardInterrupt


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()
