"""DOWNLOAD against a server that serves media well and badly; every error names its real cause."""

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.errors import (
    AddressRefused,
    BadRequest,
    NoAudio,
    SourceIsLive,
    SourceNotFound,
    SourceNotListening,
    SourcePrivate,
    SourceTooLarge,
    SourceTooLong,
    UnreadableMedia,
    UnsupportedSource,
)
from tasks.engines.ffmpeg import binary_dir
from tasks.engines.probe import probe
from tasks.engines.source import ytdlp, ytdlp_child
from tasks.engines.source.ytdlp_process import Progress
from tasks.stages.download import (
    DownloadOptions,
    LocalSource,
    SourceIdentity,
    TransientDownloadError,
    acquire,
    acquire_file,
    identify,
)
from tests import media_server as serve
from tests.media_server import PUBLIC, MediaServer
from tests.small_media import beeps, clip, ffmpeg

SITE = "http://media.example"
OPTIONS = DownloadOptions(timeout_seconds=30)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("media")
    clip(folder / "talk.mp4", 2, "-movflags", "+faststart")
    clip(folder / "mute.mp4", 1, "-an")
    clip(folder / "sound.m4a", 1, "-vn")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def server() -> Iterator[MediaServer]:
    with MediaServer() as running:
        yield running


def inspect(
    server: MediaServer, path: str, options: DownloadOptions = OPTIONS, hosts: dict[str, list[str]] | None = None
) -> SourceIdentity:
    url = path if "://" in path else SITE + path
    return identify(url, options, binary_dir(), network=server.network(hosts))


def download(
    server: MediaServer,
    path: str,
    folder: Path,
    options: DownloadOptions = OPTIONS,
    reports: list[tuple[int, int | None]] | None = None,
) -> LocalSource:
    found = inspect(server, path, options)
    reports = [] if reports is None else reports
    return acquire(
        found, options, folder, lambda *bytes_: reports.append(bytes_), binary_dir(), network=server.network()
    )


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs yt-dlp in this process, because a child takes most of a second to start."""

    def run_job(job: dict[str, Any], seconds: float, progress: Progress | None) -> dict[str, Any]:
        answers: list[dict[str, Any]] = []

        def emit(event: str, **values: Any) -> None:
            if event != "progress":
                answers.append({"event": event, **values})
            elif progress is not None:
                progress(values["done"], values["total"])

        ytdlp_child.run(json.loads(json.dumps(job)), emit)
        return json.loads(json.dumps(answers[-1]))

    monkeypatch.setattr(ytdlp, "run_job", run_job)
    monkeypatch.setattr(ytdlp, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ytdlp_child, "RETRIES", 1)


class TestSuccess:
    def test_a_plain_link_is_downloaded(self, server: MediaServer, media: dict[str, bytes], tmp_path: Path) -> None:
        body = media["talk.mp4"]
        server.pages["/talk.mp4"] = serve.file(body)
        reports: list[tuple[int, int | None]] = []
        got = download(server, "/talk.mp4?token=secret", tmp_path, reports=reports)
        assert got.video.read_bytes() == body
        assert (got.info.video_codec, got.info.audio_codec) == ("h264", "aac")
        assert (got.meta.kind, got.meta.title) == ("file_url", "talk")
        assert got.meta.duration == pytest.approx(2, abs=0.1)
        assert reports[-1] == (len(body), len(body))
        assert got.audio.is_file()
        assert "secret" not in got.meta.model_dump_json()

    @pytest.mark.parametrize("ranges", [True, False])
    @pytest.mark.parametrize(
        ("path", "content_type"),
        [
            ("/talk", "application/octet-stream"),
            ("/download", None),
            ("/talk.txt?a=b", "text/plain"),
            ("/get.php?id=7", "video/mp4"),
            ("/..%2f..%2fetc%2fpasswd", "video/mp4"),
            ("/watch.php?file=talk.mp4", "binary/octet-stream"),
        ],
    )
    @pytest.mark.usefixtures("in_process")
    def test_a_link_is_recognised_by_content(
        self,
        server: MediaServer,
        media: dict[str, bytes],
        tmp_path: Path,
        path: str,
        content_type: str | None,
        ranges: bool,
    ) -> None:
        server.pages[path.partition("?")[0]] = serve.file(media["talk.mp4"], content_type, ranges=ranges)
        got = download(server, path, tmp_path)
        assert got.video.parent == tmp_path
        assert got.video.read_bytes() == media["talk.mp4"]

    @pytest.mark.parametrize(
        ("path", "disposition", "title"),
        [
            ("/AC%2FDC%20%E2%80%AElive.mp4", None, "AC/DC live"),
            ("/CON.mp4", None, "CON"),
            ("/a%0d%0aset-cookie:b%00c.mp4", None, "a set-cookie:b c"),
            ("/" + "%E6%97%A5" * 400 + ".mp4", None, "\u65e5" * 300),
            ("/get", 'attachment; filename="../../etc/cron.d/x.mp4"', "get"),
            ("/get", 'attachment; filename="nul\x01.mp4.exe"', "get"),
            ("/get", "attachment; filename*=UTF-8''..%2F..%2Fx%0a%E2%80%AE.sh", "get"),
        ],
    )
    @pytest.mark.usefixtures("in_process")
    def test_hostile_names_become_a_title_and_write_nowhere_else(
        self,
        server: MediaServer,
        media: dict[str, bytes],
        tmp_path: Path,
        path: str,
        disposition: str | None,
        title: str,
    ) -> None:
        folder = tmp_path / "inner" / "out"
        server.pages[path] = serve.file(media["talk.mp4"], disposition=disposition)
        got = download(server, path, folder)
        assert got.meta.title == title
        written = [found for found in tmp_path.rglob("*") if found.is_file()]
        assert sorted(written) == sorted([got.video, got.audio])
        assert re.fullmatch(r"source-[0-9a-f]{16}\.\w+", got.video.name)

    @pytest.mark.parametrize("name", ["talk.mov", "talk.webm", "talk.mkv", "talk.ts", "talk.avi"])
    @pytest.mark.usefixtures("in_process")
    def test_other_containers_are_downloaded(self, server: MediaServer, tmp_path: Path, name: str) -> None:
        codecs = ["-c:v", "libvpx", "-c:a", "libopus"] if name.endswith("webm") else []
        server.pages["/" + name] = serve.file(clip(tmp_path / name, 1, *codecs).read_bytes(), None)
        got = download(server, "/" + name, tmp_path / "out")
        assert got.info.duration == pytest.approx(1, abs=0.15)
        assert probe(got.audio).audio_codec

    @pytest.mark.usefixtures("in_process")
    def test_a_page_that_names_a_video_gives_the_video(
        self, server: MediaServer, media: dict[str, bytes], tmp_path: Path
    ) -> None:
        server.pages["/v/talk.mp4"] = serve.file(media["talk.mp4"])
        server.pages["/page"] = serve.html(
            '<title>A \x1b[31m talk \u202e</title><meta property="og:video" content="http://media.example/v/talk.mp4">'
        )
        got = download(server, "/page", tmp_path)
        assert got.video.read_bytes() == media["talk.mp4"]
        assert got.meta.title == "A [31m talk"

    @pytest.mark.usefixtures("in_process")
    def test_redirects_are_followed(self, server: MediaServer, media: dict[str, bytes], tmp_path: Path) -> None:
        server.pages["/a"] = serve.redirect("http://media.example:8080/b")
        server.pages["/b"] = serve.redirect("/talk.mp4")
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"])
        assert download(server, "/a", tmp_path).video.read_bytes() == media["talk.mp4"]

    @pytest.mark.usefixtures("in_process")
    def test_transient_errors_are_retried(self, server: MediaServer, media: dict[str, bytes], tmp_path: Path) -> None:
        server.pages["/talk.mp4"] = serve.at_first(2, serve.status(500), serve.file(media["talk.mp4"]))
        assert download(server, "/talk.mp4", tmp_path).video.read_bytes() == media["talk.mp4"]

    def test_hls_and_dash_are_downloaded(self, server: MediaServer, media: dict[str, bytes], tmp_path: Path) -> None:
        (tmp_path / "source.mp4").write_bytes(media["talk.mp4"])
        cut = ["-i", tmp_path / "source.mp4", "-c", "copy"]
        ffmpeg(*cut, "-f", "hls", "-hls_time", "1", "-hls_playlist_type", "vod", tmp_path / "talk.m3u8")
        ffmpeg(*cut, "-f", "dash", "-seg_duration", "1", tmp_path / "talk.mpd")
        for path in tmp_path.iterdir():
            server.pages["/" + path.name] = serve.file(path.read_bytes(), None)
        for name in ("talk.m3u8", "talk.mpd"):
            got = download(server, "/" + name, tmp_path / name[-3:])
            assert (got.info.video_codec, got.info.audio_codec) == ("h264", "aac")
            assert got.info.duration == pytest.approx(2, abs=0.15)


class TestIdentity:
    @pytest.mark.usefixtures("in_process")
    def test_a_changed_file_is_another_source(self, server: MediaServer, media: dict[str, bytes]) -> None:
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"], etag='"1"')
        first, again = inspect(server, "/talk.mp4"), inspect(server, "/talk.mp4")
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"], etag='"2"')
        other_tag = inspect(server, "/talk.mp4")
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"] + b"\0" * 8, etag='"1"')
        other_length = inspect(server, "/talk.mp4")
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"].replace(b"isom", b"iso2"), etag='"1"')
        other_bytes = inspect(server, "/talk.mp4")
        assert first.digest == again.digest
        assert len({found.digest for found in (first, other_tag, other_length, other_bytes)}) == 4


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1/talk.mp4",
            "http://2130706433/talk.mp4",
            "http://0x7f.1/talk.mp4",
            "http://017700000001/talk.mp4",
            "http://[::1]/talk.mp4",
            "http://[::ffff:10.0.0.1]/talk.mp4",
            "http://169.254.169.254/latest/meta-data",
            "http://0.0.0.0/talk.mp4",
            "http://inside.example/talk.mp4",
            "http://halfway.example/talk.mp4",
            "https://inside.example/talk.mp4",
        ],
    )
    @pytest.mark.usefixtures("in_process")
    def test_private_addresses_are_refused(self, server: MediaServer, media: dict[str, bytes], url: str) -> None:
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"])
        hosts = {"inside.example": ["10.1.2.3"], "halfway.example": [PUBLIC, "127.0.0.1"]}
        with pytest.raises(AddressRefused):
            inspect(server, url, hosts=hosts)
        assert server.requests == []

    @pytest.mark.parametrize(
        "url", ["file:///etc/passwd", "ftp://media.example/a", "http://u:p@media.example/a", "http://media.example:22/"]
    )
    def test_forbidden_schemes_credentials_and_ports_are_refused(self, server: MediaServer, url: str) -> None:
        with pytest.raises(AddressRefused):
            inspect(server, url)

    def test_malformed_addresses_are_refused(self, server: MediaServer) -> None:
        for url in ("http://", "http://[::1", "http://media.example/a\r\nHost: b"):
            with pytest.raises(BadRequest):
                inspect(server, url)

    @pytest.mark.parametrize("to", ["http://127.0.0.1/talk.mp4", "http://169.254.169.254/", "http://[fd00::1]/a.mp4"])
    @pytest.mark.usefixtures("in_process")
    def test_redirects_to_private_addresses_are_refused(self, server: MediaServer, to: str) -> None:
        server.pages["/talk.mp4"] = serve.redirect(to)
        with pytest.raises(AddressRefused):
            inspect(server, "/talk.mp4")
        assert len(server.requests) == 1

    @pytest.mark.usefixtures("in_process")
    def test_pages_cannot_name_local_files(self, server: MediaServer, tmp_path: Path) -> None:
        local = clip(tmp_path / "local.mp4", 1).as_uri()
        server.pages["/og"] = serve.html(f'<title>x</title><meta property="og:video" content="{local}">')
        server.pages["/ld"] = serve.html(
            '<title>x</title><script type="application/ld+json">'
            f'{{"@context": "https://schema.org", "@type": "VideoObject", "contentUrl": "{local}"}}</script>'
        )
        server.pages["/to"] = serve.redirect(local)
        server.pages["/m3u8"] = serve.file(f"#EXTM3U\n#EXTINF:1,\n{local}\n#EXT-X-ENDLIST\n".encode(), None)
        for path in ("/og", "/ld", "/to", "/m3u8"):
            with pytest.raises((AddressRefused, UnsupportedSource)):
                download(server, path, tmp_path / "out")
        assert not list((tmp_path / "out").glob("source-*"))

    @pytest.mark.parametrize(
        "inside", ["http://10.0.0.1/v.mp4", "https://[fe80::1]/v.mp4", "http://localhost.example/v.mp4"]
    )
    @pytest.mark.usefixtures("in_process")
    def test_pages_that_name_private_addresses_are_refused(self, server: MediaServer, inside: str) -> None:
        server.pages["/page"] = serve.html(f'<title>x</title><meta property="og:video" content="{inside}">')
        with pytest.raises(AddressRefused):
            inspect(server, "/page", hosts={"localhost.example": ["127.0.0.1"]})

    @pytest.mark.usefixtures("in_process")
    def test_playlists_that_name_private_addresses_are_refused(
        self, server: MediaServer, media: dict[str, bytes], tmp_path: Path
    ) -> None:
        playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
        server.pages["/talk.m3u8"] = serve.file(playlist.format("http://192.168.0.1/1.ts").encode(), None)
        with pytest.raises(AddressRefused):
            download(server, "/talk.m3u8", tmp_path)

    @pytest.mark.usefixtures("in_process")
    def test_a_rebound_name_is_refused(self, server: MediaServer, media: dict[str, bytes], tmp_path: Path) -> None:
        """DNS rebinding: public when inspected, private when downloaded."""
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"])
        found = inspect(server, "/talk.mp4")
        requests_before = len(server.requests)
        rebound = server.network({"media.example": ["192.168.1.1"]})
        with pytest.raises(AddressRefused):
            acquire(found, OPTIONS, tmp_path, lambda *_: None, binary_dir(), network=rebound)
        assert len(server.requests) == requests_before


class TestCauses:
    @pytest.mark.parametrize(
        ("code", "error"),
        [
            (404, SourceNotFound),
            (410, SourceNotFound),
            (401, SourcePrivate),
            (403, SourcePrivate),
            (418, UnsupportedSource),
        ],
    )
    @pytest.mark.usefixtures("in_process")
    def test_a_permanent_status_names_its_cause(self, server: MediaServer, code: int, error: type[Exception]) -> None:
        server.pages["/talk.mp4"] = serve.status(code)
        with pytest.raises(error):
            inspect(server, "/talk.mp4")

    @pytest.mark.parametrize("code", [429, 500, 503])
    @pytest.mark.usefixtures("in_process")
    def test_a_transient_status_is_a_transient_error(self, server: MediaServer, code: int) -> None:
        server.pages["/talk.mp4"] = serve.status(code)
        with pytest.raises(TransientDownloadError, match=str(code)):
            inspect(server, "/talk.mp4?token=secret")

    @pytest.mark.usefixtures("in_process")
    def test_an_unknown_host_is_not_found(self, server: MediaServer) -> None:
        with pytest.raises(SourceNotFound, match=r"nowhere\.example"):
            inspect(server, "http://nowhere.example/talk.mp4")

    @pytest.mark.usefixtures("in_process")
    def test_a_closed_port_is_reported(self) -> None:
        with socket.socket() as probe:  # bound, so that nobody else takes the port, but not listening
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            options = DownloadOptions(allow_private_addresses=True)
            with pytest.raises(SourceNotListening, match=rf"Nothing listens on 127\.0\.0\.1 at port {port}"):
                identify(f"http://127.0.0.1:{port}/talk.mp4", options, binary_dir())

    @pytest.mark.usefixtures("in_process")
    def test_circular_redirects_are_refused(self, server: MediaServer) -> None:
        server.pages["/a"] = serve.redirect("/b")
        server.pages["/b"] = serve.redirect("/a")
        with pytest.raises(UnsupportedSource, match="redirects in a loop"):
            inspect(server, "/a")

    @pytest.mark.usefixtures("in_process")
    def test_a_page_without_video_is_unsupported(self, server: MediaServer) -> None:
        server.pages["/page"] = serve.html("<p>Nothing to see</p>")
        with pytest.raises(UnsupportedSource):
            inspect(server, "/page")

    @pytest.mark.usefixtures("in_process")
    def test_a_page_with_several_videos_is_unsupported(self, server: MediaServer, media: dict[str, bytes]) -> None:
        server.pages["/a.mp4"] = serve.file(media["talk.mp4"])
        server.pages["/page"] = serve.html("".join(f'<video src="/{n}.mp4"></video>' for n in "abc"))
        with pytest.raises(UnsupportedSource, match="several"):
            inspect(server, "/page")

    @pytest.mark.usefixtures("in_process")
    def test_a_live_stream_is_refused(self, server: MediaServer) -> None:
        playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n1.ts\n"
        server.pages["/live.m3u8"] = serve.file(playlist.encode(), "application/vnd.apple.mpegurl")
        with pytest.raises(SourceIsLive):
            inspect(server, "/live.m3u8")

    @pytest.mark.usefixtures("in_process")
    @pytest.mark.parametrize(("name", "kind"), [("sound.m4a", "audio/mp4"), ("sound.mp4", "video/mp4")])
    def test_sound_without_video_gets_a_picture(
        self, server: MediaServer, media: dict[str, bytes], tmp_path: Path, name: str, kind: str
    ) -> None:
        server.pages[f"/{name}"] = serve.file(media["sound.m4a"], kind)
        got = download(server, f"/{name}", tmp_path)
        assert got.info.is_cover
        assert got.info.duration == pytest.approx(1, abs=0.1)

    @pytest.mark.usefixtures("in_process")
    @pytest.mark.parametrize(
        ("picture", "shown"),
        [
            ("cover.png", "; its cover is shown"),
            ("cover.jpg", "; its cover is shown"),
            ("cover.webp", "; its cover is shown"),
            ("talk.mp4", ", and its cover cannot be decoded; its title is shown"),
            ("", " and no cover; its title is shown"),
            ("missing.png", " and no cover; its title is shown"),
            ("huge.png", " and no cover; its title is shown"),
        ],
    )
    def test_sound_on_a_page_gets_the_pages_picture(
        self, server: MediaServer, media: dict[str, bytes], tmp_path: Path, picture: str, shown: str
    ) -> None:
        server.pages["/sound.m4a"] = serve.file(media["sound.m4a"], "audio/mp4")
        if picture in ("cover.png", "cover.jpg", "cover.webp"):
            ffmpeg("-f", "lavfi", "-i", "color=red:size=320x200", "-frames:v", "1", tmp_path / picture)
            server.pages[f"/{picture}"] = serve.file((tmp_path / picture).read_bytes(), "image/png")
        if picture == "talk.mp4":
            server.pages[f"/{picture}"] = serve.file(media["talk.mp4"], "image/png")
        if picture == "huge.png":
            server.pages[f"/{picture}"] = serve.file(bytes(ytdlp_child.COVER_BYTES + 1), "image/png")
        tag = f'<meta property="og:image" content="/{picture}">' if picture else ""
        server.pages["/page"] = serve.html(f'{tag}<title>An episode</title><audio src="/sound.m4a"></audio>')
        got = download(server, "/page", tmp_path)
        assert got.warnings == [f"the source has only sound{shown}"]
        assert got.info.width == (320 if "; its cover" in shown else 1080)

    @pytest.mark.parametrize(
        ("body", "error"),
        [("mute.mp4", NoAudio), (b"", UnreadableMedia), (b"\0\0\0\x20ftypisom" + bytes(5000), UnreadableMedia)],
        ids=["mute", "empty", "corrupt"],
    )
    @pytest.mark.usefixtures("in_process")
    def test_mute_empty_and_corrupt_files_are_refused(
        self, server: MediaServer, media: dict[str, bytes], tmp_path: Path, body: str | bytes, error: type[Exception]
    ) -> None:
        server.pages["/talk.mp4"] = serve.file(media[body] if isinstance(body, str) else body)
        with pytest.raises(error):
            download(server, "/talk.mp4", tmp_path)

    @pytest.mark.usefixtures("in_process")
    def test_a_disguised_playlist_is_refused(self, server: MediaServer, tmp_path: Path) -> None:
        """A local file that ffmpeg would read as a list of other files."""
        secret = clip(tmp_path / "secret.mp4", 1)
        for script in (f"ffconcat version 1.0\nfile {secret}\n", f"#EXTM3U\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n"):
            disguised = tmp_path / "talk.mp4"
            disguised.write_text(script)
            with pytest.raises(UnreadableMedia):
                acquire_file(disguised, "talk.mp4", OPTIONS, tmp_path)


class TestLimits:
    @pytest.mark.usefixtures("in_process")
    def test_a_too_large_file_is_refused_before_the_download(
        self, server: MediaServer, media: dict[str, bytes]
    ) -> None:
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"])
        with pytest.raises(SourceTooLarge):
            inspect(server, "/talk.mp4", OPTIONS.model_copy(update={"max_bytes": 1000}))

    @pytest.mark.usefixtures("in_process")
    def test_an_endless_video_is_stopped_at_the_limit(self, server: MediaServer, tmp_path: Path) -> None:
        server.pages["/talk.mp4"] = serve.endless
        with pytest.raises(SourceTooLarge):
            download(server, "/talk.mp4", tmp_path, OPTIONS.model_copy(update={"max_bytes": 3_000_000}))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3_000_000 + 4 * 2**20  # up to one block more

    @pytest.mark.usefixtures("in_process")
    def test_an_endless_page_is_stopped_at_the_limit(
        self, server: MediaServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ytdlp, "INSPECT_BYTES", 2_000_000)

        def page(request: serve.Request) -> None:
            request.head(200, None, Content_Type="text/html")
            request.wfile.write(b"<html>")
            while True:
                request.wfile.write(b"<p>and so on</p>" * 4096)

        server.pages["/page"] = page
        with pytest.raises(SourceTooLarge):
            inspect(server, "/page")

    def test_a_trickling_download_meets_the_deadline(
        self, server: MediaServer, media: dict[str, bytes], tmp_path: Path
    ) -> None:
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"])
        found = inspect(server, "/talk.mp4")
        server.pages["/talk.mp4"] = serve.trickle(media["talk.mp4"])
        began = time.monotonic()
        hurried = OPTIONS.model_copy(update={"timeout_seconds": 3})
        with pytest.raises(TransientDownloadError, match="3 s"):
            acquire(found, hurried, tmp_path, lambda *_: None, binary_dir(), network=server.network())
        assert time.monotonic() - began < 6
        assert not list(tmp_path.glob("source-*.mp4"))

    @pytest.mark.usefixtures("in_process")
    def test_a_truncated_download_is_not_accepted(
        self, server: MediaServer, media: dict[str, bytes], tmp_path: Path
    ) -> None:
        server.pages["/talk.mp4"] = serve.truncated(media["talk.mp4"])
        with pytest.raises(TransientDownloadError):
            download(server, "/talk.mp4", tmp_path)
        assert [path.suffix for path in tmp_path.iterdir()] == [".part"]

    @pytest.mark.usefixtures("in_process")
    def test_a_broken_transfer_is_resumed(self, server: MediaServer, media: dict[str, bytes], tmp_path: Path) -> None:
        complete = serve.file(media["talk.mp4"])
        server.pages["/talk.mp4"] = complete
        found = inspect(server, "/talk.mp4")
        server.pages["/talk.mp4"] = serve.at_first(1, serve.truncated(media["talk.mp4"]), complete)
        got = acquire(found, OPTIONS, tmp_path, lambda *_: None, binary_dir(), network=server.network())
        assert got.video.read_bytes() == media["talk.mp4"]
        assert re.fullmatch(r"bytes=[1-9]\d*-", server.requests[-1][1]["Range"])

    @pytest.mark.usefixtures("in_process")
    def test_a_too_long_video_is_refused(self, server: MediaServer, media: dict[str, bytes], tmp_path: Path) -> None:
        server.pages["/talk.mp4"] = serve.file(media["talk.mp4"])
        with pytest.raises(SourceTooLong):
            download(server, "/talk.mp4", tmp_path, OPTIONS.model_copy(update={"max_seconds": 1}))


class TestLocalFiles:
    def test_a_local_file_is_accepted(self, media: dict[str, bytes], tmp_path: Path) -> None:
        (tmp_path / "upload").write_bytes(media["talk.mp4"])
        got = acquire_file(tmp_path / "upload", "/home/me/My \u202etalk.mp4", OPTIONS, tmp_path / "out")
        assert (got.meta.kind, got.meta.title) == ("local_file", "My talk")
        assert got.info.audio_codec == "aac"
        assert got.audio.is_file()

    def test_a_local_file_without_sound_is_refused(self, media: dict[str, bytes], tmp_path: Path) -> None:
        (tmp_path / "mute.mp4").write_bytes(media["mute.mp4"])
        with pytest.raises(NoAudio):
            acquire_file(tmp_path / "mute.mp4", "mute.mp4", OPTIONS, tmp_path)


def test_a_transport_stream_becomes_a_seekable_file(tmp_path: Path):
    """Its only key frame is the first, and a flash in the middle is still found at its time."""
    stream = beeps(tmp_path / "a.ts", 3.0, "-g", "1000")
    acquired = acquire_file(stream, "a.ts", DownloadOptions(), tmp_path / "out")
    assert acquired.video.suffix == ".mkv"
    ffmpeg("-ss", "2.9", "-i", acquired.video, "-t", "0.5", "-f", "rawvideo", "-pix_fmt", "gray", tmp_path / "middle")
    frames = np.fromfile(tmp_path / "middle", np.uint8).reshape(-1, 108 * 192).mean(axis=1)
    assert np.argmax(frames > 128) / 50 == pytest.approx(0.1, abs=0.045)
