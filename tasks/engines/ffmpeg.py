"""Runs FFmpeg from the imageio-ffmpeg wheel as a child process that never outlives its parent."""

import contextlib
import errno
import functools
import logging
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import ffmpeg
import imageio_ffmpeg

from infra.untrusted_text import log_line
from tasks.core.errors import ProgramStopped
from tasks.engines.cache_folder import link, private_folder

log = logging.getLogger(__name__)

TAIL_LINES = 40
"""Lines of standard error to keep for parsing and error messages."""
STALL_SECONDS = 120.0
"""A decoder that outputs nothing for this long while we wait is stuck."""
SPARE_BYTES = 16 * 1024**2
"""With less free space than this, a failed run counts as out of space, whatever ffmpeg reports."""
_NO_SPACE = re.compile(r"^\S.*(No space left on device|Disk quota exceeded)", re.MULTILINE)
"""Matches only ffmpeg's own messages: text from the file, such as a title, is indented."""
_LAUNCH = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])\n"
)
"""Asks Linux to kill this process when its parent dies (PR_SET_PDEATHSIG), then execs ffmpeg."""

Encoder = Literal["libx264", "h264_nvenc"]


class FfmpegError(RuntimeError):
    """FFmpeg failed or timed out; the message ends with the tail of its output."""


class DiskFull(OSError):
    """No space left for ffmpeg's output. It is not an FfmpegError, because neither media nor clip is to blame."""


@dataclass(frozen=True)
class Output:
    """The last lines of a finished run's standard error."""

    stderr: str


@dataclass(frozen=True)
class EncoderChoice:
    """The encoder to use, and why."""

    name: Encoder
    reason: str


@functools.cache
def ffmpeg_exe() -> str:
    """Path of ffmpeg in the wheel."""
    return imageio_ffmpeg.get_ffmpeg_exe()


def binary_dir(cache: Path | None = None) -> Path:
    """A folder with a link named `ffmpeg`, for programs that look it up by name."""
    folder = (cache or private_folder()) / "bin"
    link(folder / "ffmpeg", Path(ffmpeg_exe()))
    return folder


def run(
    what: Any,
    timeout: float,
    read: Callable[[IO[bytes]], object] | None = None,
) -> Output:
    """Run ffmpeg to completion.

    Args:
        what: a stream built with ffmpeg-python, or the list of arguments without the program.
        timeout: maximum run time in seconds.
        read: consumes standard output while ffmpeg runs.

    Raises:
        FfmpegError: the exit status was not 0, or `timeout` elapsed.
        ProgramStopped: a signal ended it.
        DiskFull: it ran out of space.
    """
    arguments = [str(a) for a in (what if isinstance(what, list) else what.get_args())]
    expired = threading.Event()
    with _launched([ffmpeg_exe(), "-y", *arguments]) as child:
        timer = threading.Timer(timeout, _expire, (child.process, expired))
        timer.start()
        try:
            if read:
                read(child.stdout)
            child.stdout.read()
            status = child.end()
        finally:
            timer.cancel()
    if expired.is_set():
        raise FfmpegError(f"ffmpeg timed out after {timeout:.0f} s\n{child.log_tail}")
    if status and _disk_is_full(child.log_tail, arguments[-1]):
        raise DiskFull(errno.ENOSPC, f"no space left for {arguments[-1]}")
    if status:
        raise _failure(status, child.log_tail)
    return Output(child.log_tail)


class Pipe:
    """Standard output of a running ffmpeg. `status` and `log_tail` (its last messages) are set once it has exited."""

    status = 0
    log_tail = ""

    def __init__(self, stdout: IO[bytes], stall: float) -> None:
        self._file = stdout.fileno()
        self._stall = stall
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLIN)

    def read(self, size: int) -> bytearray:
        """Read exactly `size` bytes, or fewer at the end of the stream."""
        data, got = bytearray(size), 0
        while got < size and (fresh := self._read_into(memoryview(data)[got:])):
            got += fresh
        return data if got == size else data[:got]

    def _read_into(self, room: memoryview) -> int:
        if not self._poll.poll(self._stall * 1000):
            raise _stuck(self._stall)
        return os.readv(self._file, [room])


@contextlib.contextmanager
def reading(arguments: list[str], exe: str, stall: float = STALL_SECONDS) -> Iterator[Pipe]:
    """Run the ffmpeg at `exe` and stream its standard output at the reader's pace.

    ffmpeg has exited when the block is left, however that happens. The caller interprets a positive exit status.

    Raises:
        ProgramStopped: a signal ended it, or it output nothing for `stall` seconds while being read.
    """
    with _launched([exe, *arguments]) as child:
        pipe = Pipe(child.stdout, stall)
        yield pipe
        child.stdout.close()
        try:
            pipe.status = child.end(stall)
        except subprocess.TimeoutExpired:
            raise _stuck(stall) from None
    pipe.log_tail = child.log_tail
    if pipe.status < 0:
        raise _failure(pipe.status, child.log_tail)


def _failure(status: int, log_tail: str) -> FfmpegError | ProgramStopped:
    if status < 0:
        return ProgramStopped(f"ffmpeg was killed by signal {-status}")
    return FfmpegError(f"ffmpeg exited with status {status}\n{log_tail}")


def _stuck(seconds: float) -> ProgramStopped:
    return ProgramStopped(f"ffmpeg was stuck for {seconds:.0f} s")


def _disk_is_full(log_tail: str, out: str) -> bool:
    writes = not out.startswith(("-", "pipe:"))
    return bool(_NO_SPACE.search(log_tail)) or (writes and is_full(Path(out).parent))


def is_full(folder: Path) -> bool:
    """Whether so little space is free that a failure here must be due to it."""
    return folder.is_dir() and shutil.disk_usage(folder).free < SPARE_BYTES


_running: set[subprocess.Popen[bytes]] = set()


class _Child:
    """A running process whose standard error is collected."""

    def __init__(self, process: subprocess.Popen[bytes], stdout: IO[bytes], stderr: IO[bytes]) -> None:
        self.process, self.stdout = process, stdout
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._listener = threading.Thread(target=_keep_tail, args=(stderr, self._tail), daemon=True)
        self._listener.start()

    def end(self, timeout: float | None = None) -> int:
        """Wait for it to exit and return its exit status."""
        status = self.process.wait(timeout)
        self._listener.join()
        return status

    @property
    def log_tail(self) -> str:
        return "\n".join(self._tail)


@contextlib.contextmanager
def _launched(command: list[str]) -> Iterator[_Child]:
    """The running ffmpeg. Its process group is killed on exit from the block.

    On Linux, it is also killed when the thread that started it ends.
    """
    command = [command[0], "-hide_banner", "-nostdin", "-nostats", *command[1:]]
    log.debug("%s", command)
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid()), *command]
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 - both are pipes, see above
        assert process.stderr is not None  # noqa: S101
        _running.add(process)
        try:
            yield _Child(process, process.stdout, process.stderr)
        finally:
            _running.discard(process)
            _kill(process)


def stop_all() -> None:
    """Kill every ffmpeg of this process; a thread waiting for one gets ProgramStopped."""
    for process in list(_running):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _expire(process: subprocess.Popen[bytes], expired: threading.Event) -> None:
    expired.set()
    _kill(process)


def _keep_tail(pipe: IO[bytes], tail: deque[str]) -> None:
    for line in pipe:
        tail.append(log_line(line.decode(errors="replace"), 500))


@functools.cache
def nvenc_works() -> bool:
    """Whether NVENC encodes a real frame here. ffmpeg lists the encoder even on machines without it."""
    frame = ffmpeg.input("color=c=gray:s=256x256:d=0.1", f="lavfi")
    return _succeeds(frame.output("-", vcodec="h264_nvenc", vframes=1, f="null"))


def choose_encoder(requested: Literal["auto", "x264", "nvenc"]) -> EncoderChoice:
    """The encoder for a setting. If NVENC is requested but unavailable, the reason says so."""
    if requested == "x264":
        return EncoderChoice("libx264", "requested")
    if nvenc_works():
        return EncoderChoice("h264_nvenc", "a test frame was encoded")
    prefix = "nvenc was requested, but " if requested == "nvenc" else ""
    return EncoderChoice("libx264", f"{prefix}NVENC does not work here")


@functools.cache
def hwaccel(video: Path) -> dict[str, str]:
    """Input options to decode `video` on the GPU; empty if decoding a real frame there fails."""
    options = {"hwaccel": "cuda", "hwaccel_output_format": "cuda"}
    frame = ffmpeg.input(str(video), **options).video.filter("hwdownload").filter("format", "nv12|p010le")
    return {"hwaccel": "cuda"} if _has_cuda() and _succeeds(frame.output("-", vframes=1, f="null")) else {}


@functools.cache
def _has_cuda() -> bool:
    return Path("/dev/nvidiactl").exists() or sys.platform == "win32"


def _succeeds(stream: Any) -> bool:
    try:
        run(stream, timeout=30)
    except FfmpegError:
        return False
    return True
