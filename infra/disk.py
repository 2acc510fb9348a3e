"""Detects a full disk, which shows up as all kinds of errors, where a failure is reported to the user."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

SPARE_BYTES = 16 * 1024**2
"""With less free space than this, any failure counts as caused by the full disk."""


def is_full_error(error: BaseException) -> bool:
    """Whether the error or one of its causes says that no space was left."""
    return any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in _chain(error))


def fault(error: BaseException, folder: Path) -> str | None:
    """The message for the user if a full disk caused `error`, else None.

    The embedded servers write below `folder` too, and answer a full disk with all kinds of errors.
    """
    if is_full_error(error) or _is_full(folder):
        return told(folder)
    return None


def told(folder: Path) -> str:
    """The message that no space is left."""
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
