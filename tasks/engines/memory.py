"""Gives memory that this process has freed back to the system."""

import ctypes
import sys


def give_back() -> None:
    """Return freed memory, which the C library otherwise keeps for later allocations.

    Recognition alone leaves some 230 MB of it (Whisper base), which would count for every later stage of a job,
    beside ffmpeg's own memory. It takes milliseconds. Only glibc needs it.
    """
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
