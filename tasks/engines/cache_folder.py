"""A folder of this user's own for what can be made again, and files in it that appear in one step."""

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
    """A folder, shared by this user's processes, in which nobody else can read or write.

    Its name can be guessed, so another user may have been there first: then, or where it stands open
    to others, this process gets a fresh one, which ends with it.
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
    _log.warning("%s is not a folder of this user's alone (mode 0700): %s is used instead", instead_of, folder)
    return folder


def link(at: Path, target: Path) -> None:
    """Make `at` a link to `target`, unless it is; its folder is made too."""
    at.parent.mkdir(parents=True, exist_ok=True)
    if not at.is_symlink() or at.readlink() != target:
        with appearing(at) as fresh:
            fresh.symlink_to(target)


@contextlib.contextmanager
def appearing(at: Path) -> Iterator[Path]:
    """A name of nobody else's, beside `at`; what is put there takes the place of `at` in one step.

    Processes and threads that do so at the same moment do not collide.
    """
    fresh = at.with_name(f".{at.name}-{uuid.uuid4().hex}")
    try:
        yield fresh
        fresh.replace(at)
    finally:
        fresh.unlink(missing_ok=True)
