"""Lists a feed with yt-dlp, without visiting any of its items. Runs in the child process."""

import itertools
from collections.abc import Iterator
from typing import Any

from yt_dlp.extractor.generic import GenericIE
from yt_dlp.utils import unsmuggle_url

MAX_ENTRIES = 2000
"""Maximum number of feed items to return. With the length limits on their texts, they fit into one output line."""
MAX_TITLE_CHARS, MAX_ID_CHARS, MAX_URL_CHARS = 1000, 500, 4096


class PlaylistError(Exception):
    """The URL refers to several videos."""


def list_feed(ydl: Any, url: str, depth: int) -> list[dict[str, Any]] | None:
    """A feed's items in feed order; None if `url` leads to a single video.

    A site's pages are read for the first `depth` items; a file that lists everything yields up to `MAX_ENTRIES`.
    """
    GenericIE._extract_rss = _truncated(GenericIE._extract_rss)  # noqa: SLF001
    feed = _resolve(ydl, url)
    if feed.get("_type") not in ("playlist", "multi_video"):
        return None
    return list(itertools.islice(_flatten(ydl, feed, depth), MAX_ENTRIES))


def _truncated(extract_rss: Any) -> Any:
    """Truncate an RSS feed before yt-dlp parses it, because each item takes almost a millisecond."""

    def extract(self: Any, url: str, video_id: str, doc: Any) -> Any:
        for channel in doc.findall("./channel"):
            channel[:] = [*channel.findall("./title"), *channel.findall("./item")[:MAX_ENTRIES]]
        return extract_rss(self, url, video_id, doc)

    return extract


def _resolve(ydl: Any, url: str, site: str | None = None) -> dict[str, Any]:
    """The extractor's result for `url`, following redirects between extractors."""
    for _ in range(5):
        info = ydl.extract_info(url, download=False, process=False, ie_key=site) or {}
        if info.get("_type") not in ("url", "url_transparent"):
            return info
        url, site = info["url"], info.get("ie_key")
    raise PlaylistError("nested")


def _flatten(ydl: Any, feed: dict[str, Any], depth: int, levels: int = 2) -> Iterator[dict[str, Any]]:
    """The items of a feed and of its nested feeds, such as a channel's tabs."""
    listed = feed.get("entries") or []
    for entry in itertools.islice(listed, MAX_ENTRIES if isinstance(listed, list) else depth):
        if levels and (entry or {}).get("_type") == "playlist":
            yield from _flatten(ydl, entry, depth, levels - 1)
        elif levels and (entry or {}).get("ie_key") == "YoutubeTab":
            yield from _flatten(ydl, _resolve(ydl, entry["url"], "YoutubeTab"), depth, levels - 1)
        elif entry:
            yield _item(entry)


def _item(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of an item that a batch needs, each limited to a plausible length."""
    url, guid = _address(entry.get("url") or entry.get("webpage_url"))
    return {
        "url": url if len(url) <= MAX_URL_CHARS else "",
        "title": _truncate(entry.get("title"), MAX_TITLE_CHARS),
        "site": _truncate(entry.get("ie_key"), MAX_ID_CHARS),
        "id": _truncate(entry.get("id"), MAX_ID_CHARS),
        "guid": _truncate(guid, MAX_ID_CHARS),
        "timestamp": entry.get("timestamp"),
        "live_status": entry.get("live_status"),
    }


def _address(value: object) -> tuple[str, object]:
    """An item's URL and the feed's id for it, which yt-dlp embeds in the URL."""
    if not isinstance(value, str):
        return "", None
    try:
        url, hidden = unsmuggle_url(value, {})
    except (ValueError, KeyError):
        return value, None
    return url, hidden.get("force_videoid") if isinstance(hidden, dict) else None


def _truncate(value: object, letters: int) -> str:
    return value[:letters] if isinstance(value, str) else ""
