"""This user's private folder for files that can be rebuilt, and a way to create files atomically."""

import atexit
import contextlib
import functools
import logging
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

_log = logging.getLogger(__name__)


def private_folder() -> Path:
    """A folder shared by this user's processes that nobody else can read or write.

    Its name is predictable, so another user may have created it first. In that case, or if others have access,
    this process uses a new folder and deletes it on exit.
    """
    folder = Path(tempfile.gettempdir()) / f"kangklip-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    return folder if _is_private(folder) else _fresh_folder(folder)


def _is_private(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and found.st_mode & 0o777 == 0o700


@functools.cache
def _fresh_folder(instead_of: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="kangklip-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    _log.warning("%s is not private to this user (mode 0700); using %s instead", instead_of, folder)
    return folder


def link(at: Path, target: Path) -> None:
    """Make `at` a symlink to `target` unless it is one already; create its folder too."""
    at.parent.mkdir(parents=True, exist_ok=True)
    if not at.is_symlink() or at.readlink() != target:
        with atomic_replacement(at) as fresh:
            fresh.symlink_to(target)


@contextlib.contextmanager
def atomic_replacement(at: Path) -> Iterator[Path]:
    """Yield a unique path next to `at`; whatever is created there atomically replaces `at`.

    Concurrent processes and threads do not collide.
    """
    fresh = at.with_name(f".{at.name}-{uuid.uuid4().hex}")
    try:
        yield fresh
        fresh.replace(at)
    finally:
        fresh.unlink(missing_ok=True)
