"""yt-dlp in a separate process: `python -I ytdlp_child.py`, a job on stdin, JSON lines on stdout.

It runs code on untrusted pages, so it gets an empty environment, none of our secrets, and an
audit hook: it may open sockets only to our proxy and start only ffmpeg, on files, and deno.
It imports none of our modules.

A job is `{url, depth, info, proxy, ffmpeg_dir, deno, cookies_file, max_fps, max_bytes,
containers, target}`;
with `depth` it lists a feed; with `info`, the result of an earlier process, it downloads; with neither, it
inspects. Output lines are `{"event": "progress" | "listed" | "inspected" | "fetched" | "failed", ...}`; all
but progress are final.
"""

import ctypes
import errno
import hashlib
import itertools
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import yt_dlp
from yt_dlp.extractor.generic import GenericIE
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import MEDIA_EXTENSIONS, DownloadCancelled, Popen, unsmuggle_url

MEMORY_BYTES = 4 * 1024**3
SOCKET_SECONDS = 20
RETRIES = 3
HEAD_BYTES = 4096
"""Bytes at the start of a media file that go into its identity."""
MOST_ENTRIES = 2000
"""Maximum number of feed items to return; with the length limits on their texts, they fit into one line."""
MAX_TITLE_CHARS, MAX_ID_CHARS, MAX_URL_CHARS = 1000, 500, 4096
PROTOCOL = "[protocol~='^(https?|m3u8|m3u8_native|http_dash_segments)$']"
FORMAT = f"bv*{PROTOCOL}+ba{PROTOCOL}/b{PROTOCOL}/bv*{PROTOCOL}"
EXTENSIONS = frozenset(MEDIA_EXTENSIONS.video + MEDIA_EXTENSIONS.audio)

Emit = Callable[..., None]


class PlaylistError(Exception):
    """The URL refers to several videos."""


class TooManyBytesError(DownloadCancelled):
    """The download exceeds the size limit."""


class ProgramStoppedError(DownloadCancelled):
    """A signal ended a program started by yt-dlp, which would report it as a fault of the media."""


class ForbiddenError(PermissionError):
    """An operation this process may not perform."""


class _Quiet:
    """yt-dlp's logger; it discards everything, since errors arrive as exceptions."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


class _Downloader(yt_dlp.YoutubeDL):
    """YoutubeDL with a proxy that no page can change, and which accepts unusual file extensions.

    YoutubeDL itself refuses them, but the end of a URL such as `get.php?id=7` says nothing about the file.
    """

    def urlopen(self, req: Any) -> Any:
        request: Any = Request(req) if isinstance(req, str) else req
        request.headers.pop("Ytdl-Request-Proxy", None)
        request.proxies = {}
        return super().urlopen(request)

    def process_video_result(self, info_dict: Any, download: bool = True) -> Any:
        for entry in (info_dict, *(info_dict.get("formats") or ())):
            if entry.get("ext") and entry["ext"] not in EXTENSIONS:
                entry["ext"] = "unknown_video"
        return super().process_video_result(info_dict, download)


def confine(proxy: str) -> None:
    """Deny this process every socket except to the proxy, and every program except ffmpeg and deno."""
    address = (urlsplit(proxy).hostname, urlsplit(proxy).port)

    def judge(event: str, args: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto", "socket.sendmsg") and tuple(args[1][:2]) != address:
            raise ForbiddenError("connections go through the proxy")
        if event == "socket.getaddrinfo" and args[0] != address[0]:
            raise ForbiddenError("names are resolved by the proxy")
        if event in ("subprocess.Popen", "os.posix_spawn"):  # from Python 3.13 on, one spawn raises both
            _judge_program(os.fsdecode(args[0]), [os.fsdecode(arg) for arg in args[1]])
        if event in ("os.system", "os.exec"):
            raise ForbiddenError("no other programs")

    sys.addaudithook(judge)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _judge_program(program: str, args: list[str]) -> None:
    name = os.path.basename(program)  # noqa: PTH119 - a name, not a path of ours
    if name == "deno":
        return
    if name != "ffmpeg" or any("://" in arg for arg in args):
        raise ForbiddenError(f"{name} may not be started")


def tell_stopped_programs() -> None:
    """Patch yt-dlp's program runner to raise if a signal ended the program."""
    original = Popen.run.__func__  # pyright: ignore[reportFunctionMemberAccess]

    def run(cls: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any, int]:
        out, said, status = original(cls, *args, **kwargs)
        if status < 0:
            raise ProgramStoppedError(f"a program was ended by signal {-status}")
        return out, said, status

    Popen.run = classmethod(run)  # pyright: ignore[reportAttributeAccessIssue]


def parameters(job: dict[str, Any], emit: Emit) -> dict[str, Any]:
    """YoutubeDL options for a job."""
    return {
        "proxy": job["proxy"],
        "ffmpeg_location": job["ffmpeg_dir"],
        "js_runtimes": {"deno": {"path": job["deno"]}} if job["deno"] else {},
        "cookiefile": job["cookies_file"],
        "format": FORMAT,
        "format_sort": ["lang", "res:1080", "vcodec:h264", f"fps:{job['max_fps']:g}", "acodec:aac"],
        "merge_output_format": "mp4/mkv",
        "fixup": "never",
        "postprocessor_args": {"ffmpeg_i": ["-protocol_whitelist", "file", "-format_whitelist", job["containers"]]},
        "noplaylist": job["depth"] is None,
        "extractor_args": {"youtubetab": {"approximate_date": [""]}},  # a channel's page has no other dates
        "extract_flat": "in_playlist",
        "playlist_items": "1:2",
        "lazy_playlist": True,
        "external_downloader": {"default": "native"},
        "hls_prefer_native": True,
        "skip_unavailable_fragments": False,
        "socket_timeout": SOCKET_SECONDS,
        "retries": RETRIES,
        "fragment_retries": RETRIES,
        "extractor_retries": RETRIES,
        "retry_sleep_functions": {"http": _pause, "fragment": _pause, "extractor": _pause},
        "cachedir": False,
        "outtmpl": {"default": job["target"].replace("%", "%%") + ".%(ext)s"},
        "updatetime": False,
        "logger": _Quiet(),
        "noprogress": True,
        "quiet": True,
        "progress_hooks": [_Progress(job["max_bytes"], emit)],
    }


def _pause(n: int) -> float:
    return min(0.5 * 2**n, 8.0)


class _Progress:
    """Sums the bytes of a download's one or two files."""

    def __init__(self, max_bytes: int, emit: Emit) -> None:
        self._max_bytes = max_bytes
        self._emit = emit
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._told = 0

    def __call__(self, status: dict[str, Any]) -> None:
        name = status.get("filename") or ""
        self._done[name] = int(status.get("downloaded_bytes") or 0)
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        self._total[name] = int(total) if total else None
        done = sum(self._done.values())
        if done > self._max_bytes:
            raise TooManyBytesError("too many bytes")
        if done - self._told >= 256 * 1024 or status.get("status") == "finished":
            self._told = done
            totals = list(self._total.values())
            self._emit("progress", done=done, total=None if None in totals else sum(t for t in totals if t))


def inspect(ydl: Any, url: str) -> dict[str, Any]:
    """yt-dlp's result for `url`, with the identity of the file behind it."""
    info = ydl.extract_info(url, download=False)
    for _ in range(3):
        if info.get("_type", "video") not in ("playlist", "multi_video"):
            break
        entries = [entry for entry in info.get("entries") or [] if entry]
        if len(entries) != 1:
            raise PlaylistError(str(len(entries)))
        info = ydl.process_ie_result(entries[0], download=False)
    else:
        raise PlaylistError("nested")
    return {"info": ydl.sanitize_info(info), "file": _identity(ydl, info)}


def _identity(ydl: Any, info: dict[str, Any]) -> dict[str, Any]:
    """What the server reports about the first selected file, and a hash of its beginning."""
    chosen = (info.get("requested_formats") or [info])[0]
    url = chosen.get("manifest_url") or chosen["url"]
    headers = {**(chosen.get("http_headers") or {}), "Accept-Encoding": "identity"}
    try:
        answer = ydl.urlopen(Request(url, headers={**headers, "Range": f"bytes=0-{HEAD_BYTES - 1}"}))
    except HTTPError as error:
        if error.status != 416:  # the response for an empty file, or to any range request
            raise
        answer = ydl.urlopen(Request(url, headers=headers))
    with answer:
        size = (
            (answer.get_header("Content-Range") or "").rpartition("/")[2] or answer.get_header("Content-Length") or ""
        )
        return {
            "url": answer.url,
            "etag": answer.get_header("ETag"),
            "last_modified": answer.get_header("Last-Modified"),
            "length": int(size) if size.isdecimal() else None,
            "head_sha256": hashlib.sha256(answer.read(HEAD_BYTES)).hexdigest(),
        }


def fetch(ydl: Any, info: dict[str, Any]) -> dict[str, Any]:
    """Download what `inspect` found and return the path of the finished file."""
    done = ydl.process_ie_result(info, download=True)
    return {"path": done["requested_downloads"][0]["filepath"]}


def entries(ydl: Any, url: str, depth: int) -> list[dict[str, Any]] | None:
    """A feed's items in its own order, without visiting any; None if `url` leads to a single video.

    Pages of a site are read for the first `depth` items; of a file that lists everything, `MOST_ENTRIES` are returned.
    """
    GenericIE._extract_rss = _shortened(GenericIE._extract_rss)  # noqa: SLF001
    feed = _resolved(ydl, url)
    if feed.get("_type") not in ("playlist", "multi_video"):
        return None
    return list(itertools.islice(_flat(ydl, feed, depth), MOST_ENTRIES))


def _shortened(extract_rss: Any) -> Any:
    """Truncate an RSS feed before yt-dlp parses it, since each item takes nearly a millisecond."""

    def extract(self: Any, url: str, video_id: str, doc: Any) -> Any:
        for channel in doc.findall("./channel"):
            channel[:] = [*channel.findall("./title"), *channel.findall("./item")[:MOST_ENTRIES]]
        return extract_rss(self, url, video_id, doc)

    return extract


def _resolved(ydl: Any, url: str, site: str | None = None) -> dict[str, Any]:
    """The extractor's result for `url`, following redirects between extractors."""
    for _ in range(5):
        info = ydl.extract_info(url, download=False, process=False, ie_key=site) or {}
        if info.get("_type") not in ("url", "url_transparent"):
            return info
        url, site = info["url"], info.get("ie_key")
    raise PlaylistError("nested")


def _flat(ydl: Any, feed: dict[str, Any], depth: int, levels: int = 2) -> Iterator[dict[str, Any]]:
    """The items of a feed and of its nested feeds, such as a channel's tabs."""
    listed = feed.get("entries") or []
    for entry in itertools.islice(listed, MOST_ENTRIES if isinstance(listed, list) else depth):
        if levels and (entry or {}).get("_type") == "playlist":
            yield from _flat(ydl, entry, depth, levels - 1)
        elif levels and (entry or {}).get("ie_key") == "YoutubeTab":
            yield from _flat(ydl, _resolved(ydl, entry["url"], "YoutubeTab"), depth, levels - 1)
        elif entry:
            yield _item(entry)


def _item(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of an item that a batch needs, each limited to a plausible length."""
    url, guid = _address(entry.get("url") or entry.get("webpage_url"))
    return {
        "url": url if len(url) <= MAX_URL_CHARS else "",
        "title": _clipped(entry.get("title"), MAX_TITLE_CHARS),
        "site": _clipped(entry.get("ie_key"), MAX_ID_CHARS),
        "id": _clipped(entry.get("id"), MAX_ID_CHARS),
        "guid": _clipped(guid, MAX_ID_CHARS),
        "timestamp": entry.get("timestamp"),
        "live_status": entry.get("live_status"),
    }


def _address(value: object) -> tuple[str, object]:
    """An item's URL and the feed's own id for it, which yt-dlp embeds in the URL."""
    if not isinstance(value, str):
        return "", None
    try:
        url, hidden = unsmuggle_url(value, {})
    except (ValueError, KeyError):
        return value, None
    return url, hidden.get("force_videoid") if isinstance(hidden, dict) else None


def _clipped(value: object, letters: int) -> str:
    return value[:letters] if isinstance(value, str) else ""


def describe(error: BaseException) -> dict[str, Any]:
    """An exception and its causes as text: types outermost first, message, HTTP status."""
    chain = list(_causes(error))
    return {
        "types": [type(e).__name__ for e in chain],
        "messages": [str(e)[:2000] for e in chain],
        "status": next((s for e in chain if isinstance(s := getattr(e, "status", None), int)), None),
        "expected": any(getattr(e, "expected", False) for e in chain),
        "redirect_loop": any(getattr(e, "redirect_loop", False) for e in chain),
        "no_space": any(isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT) for e in chain),
    }


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Every exception behind one, as kept by yt-dlp and by Python."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        e = waiting.pop(0)
        if id(e) in seen:
            continue
        seen.add(id(e))
        yield e
        behind = [getattr(e, "cause", None), e.__cause__, e.__context__, *(getattr(e, "exc_info", None) or ())]
        waiting += [b for b in behind if isinstance(b, BaseException)]


def run(job: dict[str, Any], emit: Emit) -> None:
    try:
        with _Downloader(cast("Any", parameters(job, emit))) as ydl:
            if job["depth"] is not None:
                emit("listed", entries=entries(ydl, job["url"], job["depth"]))
            elif job["info"] is None:
                emit("inspected", **inspect(ydl, job["url"]))
            else:
                emit("fetched", **fetch(ydl, job["info"]))
    except (Exception, DownloadCancelled) as error:  # noqa: BLE001 - the parent determines the cause
        emit("failed", **describe(error))


def end_with_parent() -> None:
    """Ask Linux to end this process when its parent dies (PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def main() -> NoReturn:
    end_with_parent()
    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # keeps anything else that prints out of the JSON lines

    def emit(event: str, **values: Any) -> None:
        out.write(json.dumps({"event": event, **values}) + "\n")
        out.flush()

    confine(job["proxy"])
    tell_stopped_programs()
    run(job, emit)
    sys.exit(0)


if __name__ == "__main__":
    main()
