"""Runs the yt-dlp child process: starts it with a job, reads its output, and kills it."""

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
EXIT_SECONDS = 5.0
"""Seconds that a child may take to exit after closing its output."""


def run_job(job: dict[str, Any], seconds: float, progress: Progress | None) -> dict[str, Any] | None:
    """Run a job in a child and return its final line, or None if it does not arrive within `seconds`.

    The child does not inherit our environment.

    Raises:
        ProgramStopped: a signal killed the child.
        RuntimeError: it exited without an answer.
    """
    with tempfile.TemporaryFile() as stderr, tempfile.TemporaryDirectory(prefix="kangklip-") as home:
        with _launched(stderr, home, job["ffmpeg_dir"]) as child:
            late = threading.Event()
            timer = threading.Timer(max(seconds, 0.0), lambda: (late.set(), _kill(child)))
            timer.start()
            try:
                answer = _read_answer(child, job, progress)
                signal_number = 0 if answer else _killing_signal(child)
            finally:
                timer.cancel()
        if late.is_set():
            return None
        if signal_number:
            raise ProgramStopped(f"the downloader was killed by signal {signal_number}")
        if answer is None:
            stderr.seek(0)
            tail = redact_urls(stderr.read()[-400:].decode(errors="replace"))
            raise RuntimeError(f"the downloader exited without an answer (status {child.returncode}): {tail}")
        return answer


@contextlib.contextmanager
def _launched(stderr: IO[bytes], home: str, path: str) -> Iterator["subprocess.Popen[bytes]"]:
    """The running child. On exit from the block, it and everything it started are killed."""
    child = subprocess.Popen(
        [sys.executable, "-I", str(CHILD)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=stderr,
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


def _read_answer(
    child: "subprocess.Popen[bytes]", job: dict[str, Any], progress: Progress | None
) -> dict[str, Any] | None:
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


def _killing_signal(child: "subprocess.Popen[bytes]") -> int:
    """The signal that killed a child whose output is closed, or 0 if none did."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return max(0, -child.wait(EXIT_SECONDS))
    return 0


def _kill(child: "subprocess.Popen[bytes]") -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
