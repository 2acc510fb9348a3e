"""FFmpeg from the imageio-ffmpeg wheel, run as a child that never outlives its parent."""

import contextlib
import functools
import logging
import os
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

from tasks.engines.cache_folder import link, private_folder

log = logging.getLogger(__name__)

TAIL_LINES = 40
"""Lines of standard error that are kept for parsing and for the error."""
_LAUNCH = (
    "import ctypes,os,sys\n"
    "ctypes.CDLL(None).prctl(1, 9)\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])\n"
)
"""Asks Linux to kill this process when its parent dies (PR_SET_PDEATHSIG), then becomes ffmpeg."""

Encoder = Literal["libx264", "h264_nvenc"]


class FfmpegError(RuntimeError):
    """FFmpeg gave up, or took too long; the message ends with the tail of what it said."""


@dataclass(frozen=True)
class Output:
    """What a finished run said: the last lines of `stderr`."""

    stderr: str


@dataclass(frozen=True)
class EncoderChoice:
    """The encoder that is used, and why."""

    name: Encoder
    reason: str


@functools.cache
def ffmpeg_exe() -> str:
    """Path of the wheel's ffmpeg."""
    return imageio_ffmpeg.get_ffmpeg_exe()


def binary_dir(cache: Path | None = None) -> Path:
    """A folder that holds a link named `ffmpeg`, for programs that look for it by name."""
    folder = (cache or private_folder()) / "bin"
    link(folder / "ffmpeg", Path(ffmpeg_exe()))
    return folder


def run(
    what: Any,
    timeout: float,
    progress: Callable[[float], None] | None = None,
    read: Callable[[IO[bytes]], object] | None = None,
) -> Output:
    """Run ffmpeg to its end.

    Args:
        what: a stream built with ffmpeg-python, or the list of arguments without the program.
        timeout: longest run in seconds.
        progress: told the seconds of output written, about twice a second.
        read: consumes standard output while ffmpeg runs; not together with `progress`, which comes that way.

    Raises:
        FfmpegError: the exit status was not 0, or `timeout` passed.
    """
    arguments = [str(a) for a in (what if isinstance(what, list) else what.get_args())]
    general = ["-hide_banner", "-nostdin", "-nostats", "-y", *(["-progress", "pipe:1"] if progress else [])]
    log.debug("ffmpeg %s", arguments)
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    expired = threading.Event()
    with _started([ffmpeg_exe(), *general, *arguments]) as (process, stdout, stderr):
        timer = threading.Timer(timeout, _expire, (process, expired))
        listener = threading.Thread(target=_keep_tail, args=(stderr, tail), daemon=True)
        timer.start()
        listener.start()
        try:
            if progress:
                _report(stdout, progress)
            elif read:
                read(stdout)
            stdout.read()
            status = process.wait()
            listener.join()
        finally:
            timer.cancel()
    said = "\n".join(tail)
    if expired.is_set():
        raise FfmpegError(f"ffmpeg was stopped after {timeout:.0f} s\n{said}")
    if status:
        raise FfmpegError(f"ffmpeg ended with status {status}\n{said}")
    return Output(said)


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes], IO[bytes]]]:
    """The running process and its two pipes; whatever happens inside, its process group is gone afterwards."""
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
        try:
            yield process, process.stdout, process.stderr
        finally:
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
        tail.append(line.decode(errors="replace").rstrip()[:500])


def _report(pipe: IO[bytes], progress: Callable[[float], None]) -> None:
    for line in pipe:
        key, _, value = line.decode(errors="replace").strip().partition("=")
        if key == "out_time_us" and value.lstrip("-").isdigit():
            progress(max(int(value) / 1e6, 0.0))


@functools.cache
def nvenc_works() -> bool:
    """Whether one real frame encodes on NVENC here: the list of encoders names it everywhere."""
    frame = ffmpeg.input("color=c=gray:s=256x256:d=0.1", f="lavfi")
    return _succeeds(frame.output("-", vcodec="h264_nvenc", vframes=1, f="null"))


def choose_encoder(wish: Literal["auto", "x264", "nvenc"]) -> EncoderChoice:
    """The encoder for a wish; a wish for NVENC that cannot be met says so in the reason."""
    if wish == "x264":
        return EncoderChoice("libx264", "asked for")
    if nvenc_works():
        return EncoderChoice("h264_nvenc", "one real frame encoded")
    asked = "nvenc was asked for, but " if wish == "nvenc" else ""
    return EncoderChoice("libx264", f"{asked}no frame encodes on NVENC here")


@functools.cache
def hwaccel(video: Path) -> dict[str, str]:
    """Input options that decode `video` on the GPU; empty where one real frame does not decode there."""
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
