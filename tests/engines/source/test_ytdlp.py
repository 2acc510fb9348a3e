"""The process that runs yt-dlp: its confinement, its environment, its end, and its choice of formats."""

import errno
import importlib.util
import json
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tasks.core.errors import AddressRefused, ProgramStopped, UnreadableMedia, UnsupportedSource
from tasks.engines.ffmpeg import DiskFull, binary_dir, ffmpeg_exe
from tasks.engines.probe import probe
from tasks.engines.source import ytdlp, ytdlp_child, ytdlp_confinement, ytdlp_process
from tasks.engines.source.egress import Traffic
from tasks.engines.source.ytdlp import DownloadOptions, TransientDownloadError, fetch, inspect
from tasks.engines.source.ytdlp_process import run_job
from tests import media_server as serve
from tests.folders import ROOT
from tests.media_server import MediaServer, certificate
from tests.small_disk import small_disk
from tests.small_media import clip, ffmpeg

OPTIONS = DownloadOptions(timeout_seconds=60)
JOB = {"ffmpeg_dir": "/usr/bin"}


@pytest.fixture
def server() -> Iterator[MediaServer]:
    with MediaServer() as running:
        yield running


def run_confined(code: str) -> str:
    """The output of code in a confined process whose proxy is at port 9."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import os, socket, subprocess, ytdlp_confinement\n"
        "ytdlp_confinement.confine('http://u:p@127.0.0.1:9')\n"
        f"try:\n    {code}\nexcept BaseException as error:\n    print(type(error).__name__)\nelse:\n    print('done')"
    )
    folder = Path(ytdlp_confinement.__file__).parent
    run = subprocess.run(
        [sys.executable, "-I", "-c", script, folder], capture_output=True, text=True, timeout=60, check=True
    )
    return run.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("code", "outcome"),
    [
        ("socket.create_connection(('127.0.0.1', 9), 1)", "ConnectionRefusedError"),
        ("socket.create_connection(('127.0.0.1', 22), 1)", "ForbiddenError"),
        ("socket.create_connection(('93.184.216.34', 80), 1)", "ForbiddenError"),
        ("socket.getaddrinfo('media.example', 80)", "ForbiddenError"),
        ("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))", "ForbiddenError"),
        ("subprocess.run(['/bin/sh', '-c', 'true'])", "ForbiddenError"),
        ("os.system('true')", "ForbiddenError"),
        ("os.posix_spawn('/bin/sh', ['sh'], {})", "ForbiddenError"),
        (f"subprocess.run([{ffmpeg_exe()!r}, '-i', 'http://127.0.0.1/'])", "ForbiddenError"),
        (f"subprocess.run([{str(binary_dir() / 'ffmpeg')!r}, '-i', 'concat:http://127.0.0.1/'])", "ForbiddenError"),
        (f"subprocess.run([{str(binary_dir() / 'ffmpeg')!r}, '-v', 'quiet', '-version'])", "done"),
        (f"subprocess.run([{str(Path(sys.executable).with_name('deno'))!r}, '--version'])", "done"),
        ("bytearray(5 * 2**30)", "MemoryError"),
    ],
)
def test_the_child_is_confined(code: str, outcome: str) -> None:
    assert run_confined(code) == outcome


def replace_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Replace the child's program."""
    path = tmp_path / "child.py"
    path.write_text(f"import json, os, subprocess, sys, time\njob = json.load(sys.stdin)\n{code}\n")
    monkeypatch.setattr(ytdlp_process, "CHILD", path)


def test_the_child_sees_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("NO_PROXY", "*")
    replace_child(tmp_path, monkeypatch, "print(json.dumps({'event': 'seen', 'names': sorted(os.environ)}))")
    answer = run_job(dict(JOB), 20, None)
    assert answer is not None
    assert set(answer["names"]) <= {"HOME", "LANG", "LC_CTYPE", "PATH", "TMPDIR", "YTDLP_NO_PLUGINS"}


def test_a_late_child_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    replace_child(
        tmp_path,
        monkeypatch,
        f"p = subprocess.Popen(['/bin/sleep', '60']); open({str(pid_file)!r}, 'w').write(str(p.pid)); time.sleep(60)",
    )
    began = time.monotonic()
    assert run_job(dict(JOB), 2, None) is None
    assert time.monotonic() - began < 10
    assert _is_gone(int(pid_file.read_text()))


def _is_gone(pid: int) -> bool:
    """Whether a process has ended, reaped or not; waits up to 2.5 s."""
    for _ in range(50):
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    "code", ["raise SystemExit('it broke')", "sys.stdout.write('{\"event\": \"half'); sys.exit('it broke')"]
)
def test_a_child_without_an_answer_is_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    replace_child(tmp_path, monkeypatch, code)
    with pytest.raises(RuntimeError, match="it broke"):
        run_job(dict(JOB), 20, None)


def test_an_interrupt_during_progress_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    replace_child(
        tmp_path,
        monkeypatch,
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "print(json.dumps({'event': 'progress', 'done': 1, 'total': None}), flush=True); time.sleep(60)",
    )

    def interrupted(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(dict(JOB), 20, interrupted)
    assert _is_gone(int(pid_file.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such signal")
def test_a_killed_parent_leaves_no_orphan(tmp_path: Path) -> None:
    """The child waits for a proxy that never answers while its parent is killed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://u:p@127.0.0.1:{silent.getsockname()[1]}"
        job = {
            **dict.fromkeys(("depth", "info", "deno", "cookies_file")),
            "url": "http://media.example/",
            "proxy": proxy,
            "ffmpeg_dir": str(binary_dir()),
            "containers": "mov",
            "max_fps": 30,
            "max_bytes": 1,
            "target": str(tmp_path / "x"),
        }
        parent = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"from tasks.engines.source.ytdlp_process import run_job; run_job({job!r}, 60, None)",
            ],
            cwd=ROOT,
        )
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            children = [child.pid for child in psutil.Process(parent.pid).children()]
            parent.kill()
            parent.wait()
            assert children
            assert all(_is_gone(pid) for pid in children)


def test_no_environment_variable_bypasses_the_proxy(
    server: MediaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.pages["/talk.mp4"] = serve.file(b"x")
    with pytest.raises(AddressRefused):
        inspect(f"http://127.0.0.1:{server.port}/talk.mp4", OPTIONS, binary_dir())
    assert server.requests == []


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_https_goes_through_the_proxy_and_certificates_are_checked(server: MediaServer, tmp_path: Path) -> None:
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inside.load_cert_chain(*certificate(tmp_path))
    server.use_tls(inside)
    with pytest.raises(UnsupportedSource, match="certificate"):
        inspect("https://media.example/talk.mp4", OPTIONS, binary_dir(), network=server.network())


def test_cookies_are_sent_to_their_site_and_the_file_is_not_changed(server: MediaServer, tmp_path: Path) -> None:
    body = clip(tmp_path / "talk.mp4", 1).read_bytes()

    def page(request: serve.Request) -> None:
        request.head(200, len(body), Content_Type="video/mp4", Set_Cookie="tracked=yes; Max-Age=9999")
        request.wfile.write(body)

    server.pages["/talk.mp4"] = page
    jar = tmp_path / "cookies.txt"
    jar.write_text(
        "# Netscape HTTP Cookie File\n"
        "media.example\tFALSE\t/\tFALSE\t4102444800\tsession\tmine\n"
        "other.example\tFALSE\t/\tFALSE\t4102444800\tsession\tother\n"
    )
    before = jar.read_text()
    options = OPTIONS.model_copy(update={"cookies_file": jar})
    assert "cookies" not in repr(options)
    inspect("http://media.example/talk.mp4", options, binary_dir(), network=server.network())
    assert server.requests[0][1]["Cookie"] == "session=mine"
    assert jar.read_text() == before


def test_separate_picture_and_sound_are_joined(server: MediaServer, tmp_path: Path) -> None:
    _hls(server, tmp_path)
    found = inspect("http://media.example/master.m3u8", OPTIONS, binary_dir(), network=server.network())
    reports: list[tuple[int, int | None]] = []
    got = fetch(found, OPTIONS, tmp_path / "out", lambda *b: reports.append(b), binary_dir(), network=server.network())
    info = probe(got.media)
    assert (info.video_codec, info.audio_codec) == ("h264", "aac")
    assert [p.name for p in (tmp_path / "out").iterdir()] == [got.media.name]
    assert got.cover is None
    assert reports == sorted(reports)


def test_a_killed_ffmpeg_of_the_downloader_is_not_blamed_on_the_media(server: MediaServer, tmp_path: Path) -> None:
    _hls(server, tmp_path)
    found = inspect("http://media.example/master.m3u8", OPTIONS, binary_dir(), network=server.network())
    mortal = tmp_path / "bin" / "ffmpeg"
    mortal.parent.mkdir()
    mortal.write_text(f'#!/bin/sh\ncase "$*" in *-map*) kill -9 $$;; esac\nexec {ffmpeg_exe()} "$@"\n')
    mortal.chmod(0o700)
    with pytest.raises(ProgramStopped):
        fetch(found, OPTIONS, tmp_path / "out", lambda *_: None, mortal.parent, network=server.network())


def test_a_full_disk_is_not_blamed_on_the_site(server: MediaServer, tmp_path: Path) -> None:
    talk = clip(tmp_path / "talk.mp4", 1).read_bytes() + bytes(4 * 1024**2)
    server.pages["/talk.mp4"] = serve.file(talk)
    found = inspect("http://media.example/talk.mp4", OPTIONS, binary_dir(), network=server.network())
    with small_disk(tmp_path / "disk", 2) as disk, pytest.raises(DiskFull) as raised:
        fetch(found, OPTIONS, disk, lambda *_: None, binary_dir(), network=server.network())
    assert raised.value.errno == errno.ENOSPC


def test_a_killed_downloader_is_reported_as_killed(server: MediaServer, tmp_path: Path) -> None:
    """Killed while it waits for the site."""

    def page(request: serve.Request) -> None:
        for child in psutil.Process().children():
            if "ytdlp_child" in " ".join(child.cmdline()):
                child.kill()

    server.pages["/talk.mp4"] = page
    with pytest.raises(ProgramStopped, match="signal 9"):
        inspect("http://media.example/talk.mp4", OPTIONS, binary_dir(), network=server.network())


def test_a_disguised_playlist_is_not_joined(server: MediaServer, tmp_path: Path) -> None:
    """A segment that ffmpeg would read as a list of local files."""
    _hls(server, tmp_path)
    secret = clip(tmp_path / "secret.mp4", 1)
    server.pages["/video.ts"] = serve.file(f"ffconcat version 1.0\nfile '{secret}'\n".encode())
    found = inspect("http://media.example/master.m3u8", OPTIONS, binary_dir(), network=server.network())
    with pytest.raises(UnreadableMedia):
        fetch(found, OPTIONS, tmp_path / "out", lambda *_: None, binary_dir(), network=server.network())


def _hls(server: MediaServer, folder: Path) -> None:
    source = clip(folder / "source.mp4", 1)
    ffmpeg("-i", source, "-an", "-c", "copy", folder / "video.ts")
    ffmpeg("-i", source, "-vn", "-c", "copy", folder / "audio.ts")
    for name in ("video", "audio"):
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{name}.ts\n#EXT-X-ENDLIST\n"
        server.pages[f"/{name}.m3u8"] = serve.file(playlist.encode(), None)
        server.pages[f"/{name}.ts"] = serve.file((folder / f"{name}.ts").read_bytes(), None)
    master = (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="a",DEFAULT=YES,URI="audio.m3u8"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=100000,RESOLUTION=192x108,CODECS="avc1.42c00b,mp4a.40.2",AUDIO="a"\nvideo.m3u8\n'
    )
    server.pages["/master.m3u8"] = serve.file(master.encode(), None)


def video(name: str, height: int | None, codec: str | None, fps: float | None = None, **more: Any) -> dict[str, Any]:
    known = {"format_id": name, "url": f"https://media.example/{name}", "ext": "mp4", "height": height, "fps": fps}
    return {**known, "vcodec": codec, "acodec": "none", **more}


def audio(name: str, codec: str, language: int = -1) -> dict[str, Any]:
    known = {"format_id": name, "url": f"https://media.example/{name}", "ext": "m4a", "vcodec": "none"}
    return {**known, "acodec": codec, "language_preference": language}


def chosen_format(*formats: dict[str, Any]) -> str:
    job = {
        "proxy": "http://127.0.0.1:9",
        "ffmpeg_dir": str(binary_dir()),
        "deno": None,
        "cookies_file": None,
        "depth": None,
        "max_fps": 30,
        "max_bytes": 1,
        "containers": "mov",
        "target": "x",
    }
    info = {"id": "1", "title": "x", "extractor": "site", "extractor_key": "Site", "formats": list(formats)}
    params: Any = ytdlp_child.parameters(json.loads(json.dumps(job)), lambda *_, **__: None)
    with ytdlp_child._Downloader(params) as ydl:
        found: Any = ydl.process_ie_result(json.loads(json.dumps(info)), download=False)
    return found["format_id"]


AAC, OPUS = audio("a1", "mp4a.40.2"), audio("a2", "opus")


@pytest.mark.parametrize(
    ("formats", "name"),
    [
        ([video("360", 360, "avc1"), video("1080", 1080, "avc1"), video("2160", 2160, "vp9"), AAC, OPUS], "1080+a1"),
        ([video("v9", 1080, "vp9"), video("h264", 1080, "avc1"), video("av1", 1080, "av01"), AAC], "h264+a1"),
        ([video("60", 1080, "avc1", 60), video("30", 1080, "avc1", 30), AAC], "30+a1"),
        ([video("60", 1080, "avc1", 60), video("30", 360, "avc1", 30), AAC], "60+a1"),
        ([video("2160", 2160, "vp9"), video("1440", 1440, "vp9"), OPUS], "1440+a2"),
        ([video("muxed", 720, "avc1", acodec="mp4a.40.2")], "muxed"),
        ([video("unknown", None, None, acodec=None)], "unknown"),
        ([video("silent", 720, "avc1")], "silent"),
        ([video("h", 720, "avc1"), audio("dubbed", "mp4a.40.2", -10), audio("original", "opus", 10)], "h+original"),
        ([video("rtmp", 1080, "avc1", url="rtmp://media.example/a"), video("web", 360, "avc1"), AAC], "web+a1"),
    ],
    ids=[
        "resolution",
        "codec",
        "rate",
        "resolution-before-rate",
        "above",
        "muxed",
        "unknown",
        "silent",
        "language",
        "protocol",
    ],
)
def test_the_best_usable_format_is_chosen(formats: list[dict[str, Any]], name: str) -> None:
    assert chosen_format(*formats) == name


def test_the_javascript_runtime_for_youtube_is_installed() -> None:
    assert importlib.util.find_spec("yt_dlp_ejs")
    assert Path(sys.executable).with_name("deno").exists()


def test_untrusted_messages_become_one_plain_line() -> None:
    phrase = "HTTP Error 503: \x1b]0;owned\x07\x9b2J\u202e" + "no " * 500
    answer = {"messages": [phrase], "types": ["HTTPError"], "status": 503, "redirect_loop": False, "expected": False}
    late = ytdlp._timed_out({"url": "https://a.example/\x9b31m\u202e?sig=secret" + "x" * 900}, OPTIONS)
    for failure in (ytdlp._exception_for(answer, Traffic(), OPTIONS), late):
        assert isinstance(failure, TransientDownloadError)
        assert str(failure).isprintable()
        assert len(str(failure)) <= 500
    assert "secret" not in str(late)
