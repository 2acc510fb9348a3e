"""Transfers large objects in the background while the stages run.

Each transfer has a daemon thread, so a stopped run does not wait for it. A failure is only logged: a stage that needs
the file downloads it again, and a stage that needs the object finds it missing.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from infra.errors import InfraError

logger = logging.getLogger(__name__)
_transfers: dict[Path, threading.Thread] = {}


def begin(path: Path, transfer: Callable[[], object]) -> None:
    """Start `transfer`, which reads or writes `path`, unless a transfer of `path` is running."""
    current = _transfers.get(path)
    if current and current.is_alive():
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
    """Wait until the transfer of `path`, if any, has succeeded or failed."""
    if thread := _transfers.pop(path, None):
        thread.join()


def wait_all(folder: Path) -> None:
    """Wait for all transfers of files in `folder`."""
    for path in [path for path in _transfers if path.is_relative_to(folder)]:
        wait(path)
