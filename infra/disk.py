"""A full disk: it looks like anything else, so it is looked for where a failure is told to somebody."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

SPARE_BYTES = 16 * 1024**2
"""Where less is free, what failed has failed for want of space, whatever it says."""


def is_full_error(error: BaseException) -> bool:
    """Whether the error itself, or one behind it, says that no space was left."""
    return any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in _chain(error))


def fault(error: BaseException, folder: Path) -> str | None:
    """What to say of `error` where a full disk is behind it; None where none is.

    The embedded servers write below `folder` too, and answer to a full disk with all kinds of errors.
    """
    if is_full_error(error) or _is_full(folder):
        return told(folder)
    return None


def told(folder: Path) -> str:
    """That no space is left, for people."""
    return f"No space is left on the disk of {folder}; make room there."


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < SPARE_BYTES
    except OSError:
        return False


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__ or error
