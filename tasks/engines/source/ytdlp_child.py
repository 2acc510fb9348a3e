"""yt-dlp in a separate process: `python -I ytdlp_child.py`, with a job on stdin and JSON lines on stdout.

It runs code on untrusted pages, so it gets an empty environment and none of our secrets, and `ytdlp_confinement`
limits it to our proxy, ffmpeg and deno. Of our modules it imports only that one and `ytdlp_feed`.

A job is `{url, depth, info, proxy, ffmpeg_dir, deno, cookies_file, max_fps, max_bytes, containers, target}`.
With `depth`, it lists a feed; with `info`, the result of an earlier process, it downloads; with neither, it
inspects. Output lines are `{"event": "progress" | "listed" | "inspected" | "fetched" | "failed", ...}`; every
event except progress is final.
"""

import contextlib
import errno
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import urljoin

import yt_dlp
from yt_dlp.networking import Request
from yt_dlp.networking.exceptions import HTTPError
from yt_dlp.utils import MEDIA_EXTENSIONS, DownloadCancelled

from tasks.engines.source.ytdlp_confinement import confine, end_with_parent, raise_on_stopped_programs
from tasks.engines.source.ytdlp_feed import PlaylistError, list_feed

SOCKET_SECONDS = 20
RETRIES = 3
HEAD_BYTES = 4096
"""Bytes at the start of a media file that are part of its identity."""
PROTOCOL = "[protocol~='^(https?|m3u8|m3u8_native|http_dash_segments)$']"
FORMAT = f"bv*{PROTOCOL}+ba{PROTOCOL}/b{PROTOCOL}/bv*{PROTOCOL}/ba{PROTOCOL}"
COVER_BYTES = 20 * 1024**2
"""Most bytes of a cover."""
EXTENSIONS = frozenset(MEDIA_EXTENSIONS.video + MEDIA_EXTENSIONS.audio)

Emit = Callable[..., None]


class TooManyBytesError(DownloadCancelled):
    """The download exceeds the size limit."""


class _Quiet:
    """yt-dlp's logger. It discards everything, because errors arrive as exceptions."""

    def debug(self, message: str) -> None: ...
    def info(self, message: str) -> None: ...
    def warning(self, message: str) -> None: ...
    def error(self, message: str) -> None: ...


class _Downloader(yt_dlp.YoutubeDL):
    """YoutubeDL whose proxy no page can change, and which accepts unusual file extensions.

    YoutubeDL refuses them, although the end of a URL such as `get.php?id=7` says nothing about the file.
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
        "extractor_args": {"youtubetab": {"approximate_date": [""]}},  # the only dates on a channel's page
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
    """Reports progress, summed over a download's one or two files."""

    def __init__(self, max_bytes: int, emit: Emit) -> None:
        self._max_bytes = max_bytes
        self._emit = emit
        self._done: dict[str, int] = {}
        self._total: dict[str, int | None] = {}
        self._reported = 0

    def __call__(self, status: dict[str, Any]) -> None:
        name = status.get("filename") or ""
        self._done[name] = int(status.get("downloaded_bytes") or 0)
        total = status.get("total_bytes") or status.get("total_bytes_estimate")
        self._total[name] = int(total) if total else None
        done = sum(self._done.values())
        if done > self._max_bytes:
            raise TooManyBytesError("too many bytes")
        if done - self._reported >= 256 * 1024 or status.get("status") == "finished":
            self._reported = done
            totals = list(self._total.values())
            self._emit("progress", done=done, total=None if None in totals else sum(t for t in totals if t))


def inspect(ydl: Any, url: str) -> dict[str, Any]:
    """yt-dlp's result for `url`, and the identity of the file behind it."""
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
    """What the server reports about the first selected file, and a hash of its first bytes."""
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
    """Download what `inspect` found and return the path of the finished file, and of a cover if it has no picture."""
    done = ydl.process_ie_result(info, download=True)
    path = done["requested_downloads"][0]["filepath"]
    has_picture = any(part.get("vcodec") != "none" for part in done.get("requested_formats") or [done])
    return {"path": path, "cover": None if has_picture else _fetch_cover(ydl, done, f"{path}.cover")}


def _fetch_cover(ydl: Any, info: dict[str, Any], path: str) -> str | None:
    """Download the page's picture. Without it, the title is shown, so a failure is no reason to stop."""
    if not isinstance(url := info.get("thumbnail"), str):
        return None
    whole = urljoin(info.get("webpage_url") or "", url)
    with contextlib.suppress(Exception), ydl.urlopen(Request(whole)) as answer:
        content = answer.read(COVER_BYTES + 1)
        if len(content) <= COVER_BYTES:
            Path(path).write_bytes(content)
            return path
    return None


def describe(error: BaseException) -> dict[str, Any]:
    """An exception and its causes as JSON types: class names and messages, outermost first, and the HTTP status."""
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
    """The exception and everything behind it, as recorded by yt-dlp and by Python."""
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
                emit("listed", entries=list_feed(ydl, job["url"], job["depth"]))
            elif job["info"] is None:
                emit("inspected", **inspect(ydl, job["url"]))
            else:
                emit("fetched", **fetch(ydl, job["info"]))
    except (Exception, DownloadCancelled) as error:  # noqa: BLE001 - the parent process determines the cause
        emit("failed", **describe(error))


def main() -> NoReturn:
    end_with_parent()
    job = json.load(sys.stdin)
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # anything else that prints must not mix with the JSON lines

    def emit(event: str, **values: Any) -> None:
        out.write(json.dumps({"event": event, **values}) + "\n")
        out.flush()

    confine(job["proxy"])
    raise_on_stopped_programs()
    run(job, emit)
    sys.exit(0)


if __name__ == "__main__":
    main()
