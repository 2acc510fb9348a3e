"""Runs the yt-dlp child process: starts it with a job, reads its output, and ends it."""

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
from tasks.core.source.addresses import redact_urls

Progress = Callable[[int, int | None], None]
"""Called with the bytes done and the total, if known."""
CHILD = Path(__file__).with_name("ytdlp_child.py")
LINE_BYTES = 64 * 1024**2
LAST_SECONDS = 5.0
"""Seconds a child may take to exit after closing its output."""


def converse(job: dict[str, Any], seconds: float, progress: Progress | None) -> dict[str, Any] | None:
    """Send a child its job and read until its final line; None if it does not arrive within `seconds`.

    The child does not inherit our environment.

    Raises:
        ProgramStopped: a signal ended it or a program it started.
        RuntimeError: it exited without an answer.
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
            tail = redact_urls(said.read()[-400:].decode(errors="replace"))
            raise RuntimeError(f"the downloader ended without an answer (exit {child.returncode}): {tail}")
        return answer


@contextlib.contextmanager
def _started(said: IO[bytes], home: str, path: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The running child; on exit from the block, it and everything it started are killed."""
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
    """The child's final line, or None if it exited without one."""
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
    """The signal that ended a child whose output is closed, or 0 if none did."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return max(0, -child.wait(LAST_SECONDS))
    return 0


def _kill(child: "subprocess.Popen[bytes]") -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
