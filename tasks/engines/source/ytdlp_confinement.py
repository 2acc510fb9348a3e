"""Confines the process that runs yt-dlp: an audit hook limits its sockets and programs, rlimits its memory."""

import ctypes
import os
import resource
import signal
import sys
from typing import Any
from urllib.parse import urlsplit

from yt_dlp.utils import DownloadCancelled, Popen

MEMORY_BYTES = 4 * 1024**3


class ProgramStoppedError(DownloadCancelled):
    """A signal ended a program that yt-dlp started; yt-dlp would blame the media."""


class ForbiddenError(PermissionError):
    """The process tried something that it may not do."""


def confine(proxy: str) -> None:
    """Deny this process all connections except to the proxy, and all programs except ffmpeg, on files, and deno."""
    address = (urlsplit(proxy).hostname, urlsplit(proxy).port)

    def check(event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg") and tuple(args[1][:2]) != address:
            raise ForbiddenError("connections go through the proxy")
        if event == "socket.getaddrinfo" and args[0] != address[0]:
            raise ForbiddenError("names are resolved by the proxy")
        if event in ("subprocess.Popen", "os.posix_spawn"):  # since Python 3.13, one spawn raises both
            _check_program(os.fsdecode(args[0]), [os.fsdecode(arg) for arg in args[1]])
        if event in ("os.system", "os.exec"):
            raise ForbiddenError("no other programs")

    sys.addaudithook(check)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _check_program(program: str, args: list[str]) -> None:
    name = os.path.basename(program)  # noqa: PTH119 - a name, not one of our paths
    if name == "deno":
        return
    if name != "ffmpeg" or any("://" in arg for arg in args):
        raise ForbiddenError(f"{name} may not be started")


def raise_on_stopped_programs() -> None:
    """Patch yt-dlp's program runner to raise if a signal ended the program."""
    original = Popen.run.__func__  # pyright: ignore[reportFunctionMemberAccess]

    def run(cls: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, int]:
        out, err, status = original(cls, *args, **kwargs)
        if status < 0:
            raise ProgramStoppedError(f"a program was ended by signal {-status}")
        return out, err, status

    Popen.run = classmethod(run)  # pyright: ignore[reportAttributeAccessIssue]


def end_with_parent() -> None:
    """Ask Linux to end this process when its parent dies (PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
