import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import ffmpeg
import pytest

from tasks.engines import ffmpeg as engine
from tasks.engines.ffmpeg import FfmpegError, binary_dir, choose_encoder, hwaccel, nvenc_works, run


def endless() -> object:
    return ffmpeg.input("testsrc=s=64x64", f="lavfi", re=None).output("-", f="null")


def running(marker: str) -> list[int]:
    """Ids of processes whose command line holds `marker`, this one excepted."""
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


def test_the_folder_holds_a_working_ffmpeg_however_many_ask_at_once(tmp_path: Path):
    folders: list[Path] = []
    threads = [threading.Thread(target=lambda: folders.append(binary_dir(tmp_path))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(folders) == {tmp_path / "bin"}
    assert [path.name for path in (tmp_path / "bin").iterdir()] == ["ffmpeg"]
    said = subprocess.run([tmp_path / "bin" / "ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith("ffmpeg version")


def test_progress_is_told_in_seconds_of_output():
    told: list[float] = []
    run(ffmpeg.input("testsrc=s=64x64:d=2", f="lavfi").output("-", f="null"), 30, told.append)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(2, abs=0.1)


def test_standard_output_is_read_while_it_comes():
    sizes: list[int] = []
    frame = ffmpeg.input("color=s=16x16:d=0.2:r=10", f="lavfi").output("pipe:1", f="rawvideo", pix_fmt="gray")
    run(frame, 30, read=lambda pipe: sizes.append(len(pipe.read())))
    assert sizes == [2 * 256]


def test_the_error_ends_with_what_ffmpeg_said_and_no_more(tmp_path: Path):
    with pytest.raises(FfmpegError, match="No such file") as raised:
        run(["-i", str(tmp_path / "missing.mp4"), "-f", "null", "-"], 30)
    assert len(str(raised.value).splitlines()) <= engine.TAIL_LINES + 1


def test_a_run_that_takes_too_long_is_killed():
    started = time.monotonic()
    with pytest.raises(FfmpegError, match="stopped after 1 s"):
        run(endless(), timeout=1)
    assert time.monotonic() - started < 10


def test_an_exception_while_it_runs_kills_it(tmp_path: Path):
    marker = str(tmp_path / "out.mkv")

    def give_up(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(ffmpeg.input("testsrc=s=64x64", f="lavfi", re=None).output(marker), 60, give_up)
    assert running(marker) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal")
def test_it_dies_with_a_killed_parent(tmp_path: Path):
    marker = str(tmp_path / "out.mkv")
    code = (
        "import ffmpeg; from tasks.engines.ffmpeg import run;"
        f"run(ffmpeg.input('testsrc=s=64x64', f='lavfi', re=None).output({marker!r}), 60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    try:
        wait_until(lambda: Path(marker).exists())
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_until(lambda: running(marker) == [])
    finally:
        parent.kill()


def wait_until(true, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_choice_of_encoder_says_why():
    assert choose_encoder("x264").name == "libx264"
    chosen = choose_encoder("nvenc")
    assert chosen.name == ("h264_nvenc" if nvenc_works() else "libx264")
    assert nvenc_works() or "asked for" in chosen.reason


def test_no_hardware_decoding_without_one_real_frame(tmp_path: Path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing")
    assert hwaccel(broken) == {}
