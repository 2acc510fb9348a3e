"""The process that yt-dlp lives in: started with a job, listened to, and ended."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tasks.core.errors import ProgramStopped
from tasks.core.source.addresses import without_addresses

Progress = Callable[[int, int | None], None]
"""Told the bytes that are done and, where known, those in all."""
CHILD = Path(__file__).with_name("ytdlp_child.py")
LINE_BYTES = 64 * 1024**2
LAST_SECONDS = 5.0
"""Between the end of a child's output and its own."""


def converse(job: dict[str, Any], seconds: float, progress: Progress | None) -> dict[str, Any] | None:
    """Give a child its job and listen until its last line; None when it was not there in `seconds`.

    The child sees nothing of our environment.

    Raises:
        ProgramStopped: a signal ended it, or a program that it had started.
        RuntimeError: it ended without an answer.
    """
    with tempfile.TemporaryFile() as said, tempfile.TemporaryDirectory(prefix="kangklip-") as home:
        with _started(said, home, job["ffmpeg_dir"]) as child:
            late = threading.Event()
            timer = threading.Timer(max(seconds, 0.0), lambda: (late.set(), _kill(child)))
            timer.start()
            try:
                answer = _listen(child, job, progress)
                signal_number = 0 if answer else _ended_by(child)
            finally:
                timer.cancel()
        if late.is_set():
            return None
        if signal_number:
            raise ProgramStopped(f"the downloader was ended by signal {signal_number}")
        if answer is None:
            said.seek(0)
            tail = without_addresses(said.read()[-400:].decode(errors="replace"))
            raise RuntimeError(f"the downloader ended without an answer (exit {child.returncode}): {tail}")
        return answer


@contextlib.contextmanager
def _started(said: IO[bytes], home: str, path: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The running child; afterwards it is gone, and so is what it started."""
    child = subprocess.Popen(
        [sys.executable, "-I", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env={"HOME": home, "TMPDIR": home, "PATH": path, "LANG": "C.UTF-8", "YTDLP_NO_PLUGINS": "1"},
        start_new_session=True,
    )
    try:
        yield child
    finally:
        _kill(child)
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _listen(child: "subprocess.Popen[bytes]", job: dict[str, Any], progress: Progress | None) -> dict[str, Any] | None:
    """The child's last line; None when it ended without one."""
    if child.stdin is None or child.stdout is None:
        return None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write(json.dumps(job).encode())
        child.stdin.close()
    while line := child.stdout.readline(LINE_BYTES):
        if not line.endswith(b"\n"):
            return None
        answer: dict[str, Any] = json.loads(line)
        if answer["event"] != "progress":
            return answer
        if progress is not None:
            progress(answer["done"], answer["total"])
    return None


def _ended_by(child: "subprocess.Popen[bytes]") -> int:
    """The signal that ended a child which has closed its output; 0 where none did."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return max(0, -child.wait(LAST_SECONDS))
    return 0


def _kill(child: "subprocess.Popen[bytes]") -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
