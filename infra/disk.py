"""Recognises a full disk behind an error, so that the user gets a message that says so."""

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

SPARE_BYTES = 16 * 1024**2
"""With less free space than this, any failure is blamed on the disk."""


def is_full_error(error: BaseException) -> bool:
    """Whether the error or one of its causes says that the disk is full."""
    return any(isinstance(one, OSError) and one.errno in (errno.ENOSPC, errno.EDQUOT) for one in _causes(error))


def explain_if_full(error: BaseException, folder: Path) -> str | None:
    """The message for the user if a full disk caused `error`, else None.

    The embedded servers also write below `folder`. On a full disk they fail in many ways, so free space is checked too.
    """
    if is_full_error(error) or _is_full(folder):
        return full_message(folder)
    return None


def full_message(folder: Path) -> str:
    """The message that the disk of `folder` is full."""
    return f"No space is left on the disk of {folder}; free some space there."


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < SPARE_BYTES
    except OSError:
        return False


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, its cause, the cause's cause, and so on."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__ or error
