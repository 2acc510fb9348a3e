"""Transfers large objects in the background while the stages run.

Each transfer has a daemon thread, so a stopped run waits for none of them. A failure is only logged: whoever needs the
file downloads it again, and whoever needs the object notices that it is missing.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from infra.errors import InfraError

logger = logging.getLogger(__name__)
_transfers: dict[Path, threading.Thread] = {}


def begin(path: Path, transfer: Callable[[], object]) -> None:
    """Start the `transfer` that reads or writes `path`, unless one is running."""
    known = _transfers.get(path)
    if known and known.is_alive():
        return

    def run() -> None:
        try:
            transfer()
        except (InfraError, OSError) as error:
            logger.warning("A background transfer failed: %s", error)

    thread = threading.Thread(target=run, daemon=True, name=f"transfer-{path.name[:12]}")
    _transfers[path] = thread
    thread.start()


def wait(path: Path) -> None:
    """Wait for the transfer of `path`, whether it succeeds or not."""
    if thread := _transfers.pop(path, None):
        thread.join()


def wait_all(folder: Path) -> None:
    """Wait for all transfers of files in `folder`."""
    for path in [path for path in _transfers if path.is_relative_to(folder)]:
        wait(path)
