import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import ffmpeg
import pytest

from tasks.core.errors import ProgramStopped
from tasks.engines import ffmpeg as engine
from tasks.engines.ffmpeg import (
    DiskFull,
    FfmpegError,
    binary_dir,
    choose_encoder,
    ffmpeg_exe,
    hwaccel,
    nvenc_works,
    reading,
    run,
)
from tests.folders import ROOT


def endless() -> object:
    return ffmpeg.input("testsrc=s=64x64", f="lavfi", re=None).output("-", f="null")


def pids_with(marker: str) -> list[int]:
    """Ids of other processes whose command line holds `marker`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace")
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if marker in command and state != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def test_the_folder_holds_a_working_ffmpeg_even_when_made_concurrently(tmp_path: Path):
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(binary_dir(tmp_path))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(folders) == {tmp_path / "bin"}
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["ffmpeg"]
    output = subprocess.run(
        [tmp_path / "bin" / "ffmpeg", "-version"], capture_output=True, text=True, check=True
    ).stdout
    assert output.startswith("ffmpeg version")


def test_standard_output_is_read_as_it_arrives():
    sizes: list[int] = []
    frame = ffmpeg.input("color=s=16x16:d=0.2:r=10", f="lavfi").output("pipe:1", f="rawvideo", pix_fmt="gray")
    run(frame, 30, read=lambda pipe: sizes.append(len(pipe.read())))
    assert sizes == [2 * 256]


def test_an_error_holds_ffmpegs_last_lines_only(tmp_path: Path):
    with pytest.raises(FfmpegError, match="No such file") as raised:
        run(["-i", str(tmp_path / "missing.mp4"), "-f", "null", "-"], 30)
    assert len(str(raised.value).splitlines()) <= engine.TAIL_LINES + 1


def test_a_run_that_takes_too_long_is_killed():
    started = time.monotonic()
    with pytest.raises(FfmpegError, match="timed out after 1 s"):
        run(endless(), timeout=1)
    assert time.monotonic() - started < 10


def test_an_exception_kills_the_running_ffmpeg(tmp_path: Path):
    marker = str(tmp_path / "out.mkv")

    def give_up(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(ffmpeg.input("testsrc=s=64x64", f="lavfi", re=None).output(marker), 60, give_up)
    assert pids_with(marker) == []


RUN = """
from tasks.engines.ffmpeg import run
run(["-re", "-f", "lavfi", "-i", "testsrc=s=64x64", {marker!r}], 60)
"""
READING = """
import time
from tasks.engines.ffmpeg import ffmpeg_exe, reading
endless = ["-f", "lavfi", "-i", "testsrc=s=64x64", "-metadata", "title=" + {marker!r}, "-f", "rawvideo", "pipe:1"]
with reading(endless, ffmpeg_exe()) as pipe:
    pipe.read(9)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
@pytest.mark.parametrize("code", [RUN, READING], ids=["run", "reading"])
def test_ffmpeg_dies_with_a_killed_parent(tmp_path: Path, code: str):
    marker = str(tmp_path / "out.mkv")
    parent = subprocess.Popen([sys.executable, "-c", code.format(marker=marker)], cwd=ROOT)
    try:
        wait_until(lambda: [pid for pid in pids_with(f"{marker}\0") if pid != parent.pid])
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_until(lambda: pids_with(marker) == [])
    finally:
        parent.kill()


FRAME = ["-f", "lavfi", "-i", "color=s=16x16:d=0.2:r=10", "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"]


def script(path: Path, *lines: str) -> str:
    """Write a shell script with these lines."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o700)
    return str(path)


def test_a_reader_gets_the_requested_bytes_and_a_short_rest():
    with reading(FRAME, ffmpeg_exe()) as pipe:
        assert [len(pipe.read(300)) for _ in range(3)] == [300, 212, 0]
    assert pipe.status == 0


def test_a_reader_that_leaves_early_leaves_no_ffmpeg(tmp_path: Path):
    marker = str(tmp_path / "mark")
    endless = ["-f", "lavfi", "-i", "testsrc=s=64x64", "-metadata", f"title={marker}", "-f", "rawvideo", "pipe:1"]
    with reading(endless, ffmpeg_exe()) as pipe:
        pipe.read(9)
    assert pids_with(marker) == []


def test_a_reader_sees_the_exit_status_and_error_text(tmp_path: Path):
    with reading(["-v", "error", "-i", str(tmp_path / "none"), "-f", "rawvideo", "pipe:1"], ffmpeg_exe()) as pipe:
        assert pipe.read(1) == b""
    assert pipe.status > 0
    assert "No such file" in pipe.log_tail


@pytest.mark.parametrize("last", ["sleep 611", "exec >&-; sleep 611"], ids=["open", "closed"])
def test_a_stalled_decoder_is_killed_with_its_children(tmp_path: Path, last: str):
    exe = script(tmp_path / "stuck", "echo abc", last)
    with pytest.raises(ProgramStopped, match="was stuck"), reading([], exe, stall=1) as pipe:
        pipe.read(9)
    assert pids_with(exe) == []
    assert pids_with("sleep\x00611") == []


def test_a_slow_reader_is_not_a_stall(tmp_path: Path):
    with reading(FRAME, ffmpeg_exe(), stall=3) as pipe:
        pipe.read(256)
        time.sleep(3.5)
        assert len(pipe.read(256)) == 256


def test_a_decoder_killed_by_a_signal_is_reported_as_stopped(tmp_path: Path):
    exe = script(tmp_path / "killed", "kill -9 $$")
    with pytest.raises(ProgramStopped, match="signal 9"), reading([], exe) as pipe:
        pipe.read(1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_not_an_ffmpeg_error():
    with pytest.raises(DiskFull) as raised:
        run(ffmpeg.input("testsrc=s=64x64:d=1", f="lavfi").output("/dev/full", f="rawvideo"), 30)
    assert raised.value.errno == errno.ENOSPC
    assert not isinstance(raised.value, FfmpegError)


def test_a_failed_write_on_a_nearly_full_disk_is_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "SPARE_BYTES", 1 << 62)
    with pytest.raises(DiskFull):
        run(["-i", str(tmp_path / "missing.mp4"), str(tmp_path / "out.mp4")], 30)
    with pytest.raises(FfmpegError, match="No such file"):
        run(["-i", str(tmp_path / "missing.mp4"), "-f", "null", "-"], 30)


def test_a_title_cannot_fake_a_full_disk(tmp_path: Path):
    source = tmp_path / "a.mkv"
    title = ["-metadata", "title=No space left on device"]
    run(["-f", "lavfi", "-i", "testsrc=s=64x64:d=0.1", *title, str(source)], 30)
    with pytest.raises(FfmpegError, match="No space left on device"):
        run(["-i", str(source), "-c:v", "nonsense", str(tmp_path / "out.mkv")], 30)


def wait_until(true, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_choice_of_encoder_has_a_reason():
    assert choose_encoder("x264").name == "libx264"
    chosen = choose_encoder("nvenc")
    assert chosen.name == ("h264_nvenc" if nvenc_works() else "libx264")
    assert nvenc_works() or "requested" in chosen.reason


def test_hardware_decoding_is_off_unless_a_frame_decodes(tmp_path: Path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    assert hwaccel(broken) == {}
