"""Transfers of large objects beside the work: they go on while the stages do.

Each runs in a daemon thread, so a run that is stopped waits for none of them. What fails is
logged and nothing more: a file that did not come is fetched again by whoever needs it, and an
object that did not arrive is found missing by whoever trusts only what is there.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from infra.errors import InfraError

logger = logging.getLogger(__name__)
_under_way: dict[Path, threading.Thread] = {}


def begin(path: Path, transfer: Callable[[], object]) -> None:
    """Run the `transfer` that reads or makes `path`, unless one is under way."""
    known = _under_way.get(path)
    if known and known.is_alive():
        return

    def run() -> None:
        try:
            transfer()
        except (InfraError, OSError) as error:
            logger.warning("A transfer beside the work failed: %s", error)

    thread = threading.Thread(target=run, daemon=True, name=f"transfer-{path.name[:12]}")
    _under_way[path] = thread
    thread.start()


def wait(path: Path) -> None:
    """Until no transfer of `path` is under way, however it ended."""
    if thread := _under_way.pop(path, None):
        thread.join()


def wait_all(folder: Path) -> None:
    """The same for everything in `folder`."""
    for path in [path for path in _under_way if path.is_relative_to(folder)]:
        wait(path)
