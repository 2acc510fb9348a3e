"""Untrusted feeds, read by the real yt-dlp from a server on loopback."""

import time
from collections.abc import Iterator
from email.utils import formatdate
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.core.errors import AddressRefused, BadRequest, SourceNotFound, UnsupportedSource
from tasks.core.source.batch import Listing
from tasks.engines.ffmpeg import binary_dir
from tasks.engines.source import feeds, ytdlp_feed
from tasks.engines.source.feeds import read_feed
from tasks.engines.source.ytdlp import DownloadOptions, TransientDownloadError
from tests import media_server as serve
from tests.media_server import MediaServer

FEED = "http://media.example/feed.xml"
OPTIONS = DownloadOptions(timeout_seconds=60)
DAY = 86400


@pytest.fixture
def server() -> Iterator[MediaServer]:
    with MediaServer() as running:
        yield running


def item(name: str, url: str | None = None, day: int | None = None, guid: str = "", link: str = "") -> str:
    """An item of an RSS feed, published `day` days after the epoch."""
    date = "" if day is None else f"<pubDate>{formatdate(day * DAY)}</pubDate>"
    enclosure = f'<enclosure url="{url}" type="video/mp4" length="1"/>' if url else ""
    named = f"<guid>{guid}</guid>" if guid else ""
    return f"<item><title>{name}</title>{named}<link>{link}</link>{date}{enclosure}</item>"


def rss(*items: str) -> bytes:
    head = '<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel><title>A podcast</title>'
    return f"{head}{''.join(items)}</channel></rss>".encode()


def read(server: MediaServer, body: bytes, depth: int = 50) -> Listing:
    server.pages["/feed.xml"] = serve.file(body, "application/rss+xml", ranges=False)
    return read_feed(FEED, depth, OPTIONS, binary_dir(), network=server.network())


def media(name: str) -> str:
    return f"http://media.example/{name}.mp4"


def test_a_podcast_is_read_newest_first_without_visiting_items(server: MediaServer) -> None:
    found = read(
        server,
        rss(
            item("Old", media("old"), 20000, "g1"),
            item("New", media("new"), 20002, "g3"),
            item("Undated", media("undated")),
            item("Page", None, 20001, "g2", link="http://media.example/page.html"),
            item("Nothing"),
        ),
    )
    assert [item.title for item in found.items] == ["New", "Page", "Old", "Undated"]
    assert [item.url for item in found.items][:2] == [media("new"), "http://media.example/page.html"]
    assert found.items[0].published == 20002 * DAY
    assert not found.left_out
    assert set(server.request_counts) == {"/feed.xml"}


def test_an_item_is_recognised_by_its_guid(server: MediaServer) -> None:
    first = read(server, rss(item("One", media("one") + "?signature=1", guid="g1"))).items
    again = read(server, rss(item("One, mended", media("one") + "?signature=2", guid="g1"))).items
    assert first[0].key == again[0].key
    assert first[0].url != again[0].url


def test_hostile_items_are_left_out_and_the_others_kept(server: MediaServer) -> None:
    found = read(
        server,
        rss(
            item("File", "file:///etc/passwd", 20009),
            item("Private", "http://127.0.0.1/x.mp4", 20008),
            item("Metadata", "http://169.254.169.254/latest/meta-data/", 20007),
            item("Search", "ytsearch100:cats", 20006),
            item("Long", media("x" * 5000), 20005),
            item("Smuggled", media("s") + "#__youtubedl_smuggle=broken", 20004),
            item("List", media("l") + "#__youtubedl_smuggle=%5B%5D", 20004),
            item("Twice", media("good"), 20003, "g1"),
            item("Good &lt;script&gt;&#x202e;", media("good"), 20003, "g2"),
            item("x" * 100_000, media("huge"), 20002),
        ),
    )
    assert [item.url for item in found.items] == [media("l"), media("good"), media("huge")]
    assert len(found.items[-1].title) == 300
    assert len(found.left_out) == 6


def test_a_hundred_thousand_items_are_read_in_seconds(server: MediaServer) -> None:
    body = rss(*(item(f"Episode {n}", media(str(n)), 60000 - n % 50000, f"g{n}") for n in range(100_000)))
    began = time.monotonic()
    found = read(server, body, depth=1000)
    assert time.monotonic() - began < 20
    assert [item.title for item in found.items] == [f"Episode {n}" for n in range(1000)]


BOMB = b"".join(b'<!ENTITY a%d "%s">' % (n, (b"&a%d;" % (n - 1) if n > 1 else b"aaa") * 10) for n in range(1, 10))
NONE = "cannot be read. No usable video was found"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<!DOCTYPE rss [%s]><rss><channel><title>&a9;</title></channel></rss>" % BOMB, NONE),
        (
            b'<!DOCTYPE rss [<!ENTITY a SYSTEM "file:///etc/hostname">]><rss><channel><title>&a;</title></channel></rss>',
            NONE,
        ),
        (b"<rss><channel><item>", NONE),
        (b"<html><body>Nothing here</body></html>", NONE),
        (b"<rss/>" + b" " * (feeds.INSPECT_BYTES + 1), "more than 67108864 bytes"),
    ],
    ids=["bomb", "file", "broken", "page", "endless"],
)
def test_a_document_that_is_no_feed_is_refused(server: MediaServer, body: bytes, words: str) -> None:
    with pytest.raises(UnsupportedSource, match=f"The feed .*{words}"):
        read(server, body)


def test_a_single_video_is_refused_as_a_feed(server: MediaServer) -> None:
    server.pages["/feed.xml"] = serve.file(bytes(1000))
    with pytest.raises(UnsupportedSource, match="single video"):
        read_feed(FEED, 5, OPTIONS, binary_dir(), network=server.network())


def test_an_empty_feed_is_empty(server: MediaServer) -> None:
    assert read(server, rss()) == Listing()


def test_a_missing_feed_says_what_to_do(server: MediaServer) -> None:
    with pytest.raises(SourceNotFound, match=r"The feed cannot be read\. .* copy its address again"):
        read_feed(FEED, 5, OPTIONS, binary_dir(), network=server.network())


def test_a_feed_on_a_private_address_is_refused_unless_allowed(server: MediaServer) -> None:
    server.pages["/feed.xml"] = serve.file(rss(item("One", media("one"))), "application/rss+xml", ranges=False)
    address = f"http://127.0.0.1:{server.port}/feed.xml"
    with pytest.raises(AddressRefused):
        read_feed(address, 5, OPTIONS, binary_dir())
    assert not server.requests
    allowed = OPTIONS.model_copy(update={"allow_private_addresses": True})
    assert [item.title for item in read_feed(address, 5, allowed, binary_dir()).items] == ["One"]
    with pytest.raises(BadRequest):
        read_feed("http://", 5, OPTIONS, binary_dir())


def test_a_site_that_is_down_is_a_transient_error(server: MediaServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.engines.source.ytdlp.FIRST_PAUSE", 0.01)
    good = serve.file(rss(item("One", media("one"))), "application/rss+xml", ranges=False)
    server.pages["/feed.xml"] = serve.at_first(1, serve.status(503), good)
    assert len(read_feed(FEED, 5, OPTIONS, binary_dir(), network=server.network()).items) == 1
    server.pages["/feed.xml"] = serve.status(503)
    with pytest.raises(TransientDownloadError):
        read_feed(FEED, 5, OPTIONS, binary_dir(), network=server.network())


class Site:
    """A site's extractors for a channel whose tabs are playlists; `read_count` counts the videos read."""

    def __init__(self) -> None:
        self.read_count = 0

    def extract_info(self, url: str, *, download: bool, process: bool, ie_key: str | None) -> dict[str, Any]:
        assert (download, process) == (False, False)
        pages = {
            "channel": {"_type": "url", "url": "tabs", "ie_key": "YoutubeTab"},
            "tabs": {"_type": "playlist", "entries": [None, self.tab("videos"), self.tab("streams")]},
            "videos": {"_type": "playlist", "entries": self.videos("v", 1000)},
            "streams": {"_type": "playlist", "entries": self.videos("s", 2)},
            "circle": {"_type": "url", "url": "circle"},
        }
        return pages[url]

    def tab(self, url: str) -> dict[str, Any]:
        return {"_type": "url", "url": url, "ie_key": "YoutubeTab"}

    def videos(self, name: str, count: int) -> Iterator[dict[str, Any]]:
        for n in range(count):
            self.read_count += 1
            video_id = f"{name}{n:010}"
            url = f"https://www.youtube.com/watch?v={video_id}"
            yield {"_type": "url", "ie_key": "Youtube", "id": video_id, "url": url, "timestamp": n, "title": None}


def test_a_channels_tabs_are_read_only_to_the_requested_depth() -> None:
    site = Site()
    found = ytdlp_feed.list_feed(site, "channel", 3)
    assert found is not None
    assert [entry["id"] for entry in found] == [f"v{n:010}" for n in range(3)] + [f"s{n:010}" for n in range(2)]
    assert site.read_count == 5


def test_a_circular_address_is_an_error() -> None:
    with pytest.raises(ytdlp_feed.PlaylistError):
        ytdlp_feed.list_feed(Site(), "circle", 3)


def test_circular_playlists_end() -> None:
    looping = {"_type": "playlist", "entries": [{"_type": "url", "url": "self", "ie_key": "YoutubeTab"}] * 3}
    site = SimpleNamespace(extract_info=lambda *_, **__: looping)
    found = ytdlp_feed.list_feed(site, "self", 3)
    assert found is not None
    assert len(found) == 27
