"""Inspects URLs and downloads media with yt-dlp, in a confined child process behind our proxy."""

import contextlib
import errno
import itertools
import shutil
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from infra.untrusted_text import one_line
from tasks.core.errors import (
    AddressRefused,
    ProgramStopped,
    SourceIsLive,
    SourceNotFound,
    SourceNotListening,
    SourceTooLarge,
    SourceTooLong,
    UnreadableMedia,
)
from tasks.core.media import SourceMeta
from tasks.core.object_keys import digest
from tasks.core.source.addresses import check_url, loggable, redact_urls
from tasks.core.source.download_errors import Failure, classify
from tasks.core.source.page import number, source_meta
from tasks.engines.ffmpeg import DiskFull, is_full
from tasks.engines.source.demux import CONTAINERS
from tasks.engines.source.egress import SYSTEM, EgressProxy, Network, Traffic
from tasks.engines.source.ytdlp_process import Progress, run_job

INSPECT_BYTES = 64 * 1024**2
"""Byte limit for pages, scripts and playlists before a download starts."""
INSPECT_SECONDS = 180.0
TRIES = 3
FIRST_PAUSE = 0.5
_WIRE_FACTOR = 2
"""Bytes allowed over the wire, with retries and protocol overhead, per byte of the file size limit."""


class TransientDownloadError(Exception):
    """The network or the site failed in a way that may be temporary; the task is worth retrying."""


class DownloadOptions(BaseModel):
    """Limits of a download in seconds, bytes and frames per second, and where it may connect.

    `language`, auto or a Whisper code, decides between otherwise equal audio tracks.
    """

    model_config = ConfigDict(frozen=True)

    max_seconds: float = Field(default=4 * 3600, gt=0)
    max_bytes: int = Field(default=8 * 1024**3, gt=0)
    max_fps: float = Field(default=30, gt=0)
    language: str = "auto"
    allow_private_addresses: bool = False
    cookies_file: Path | None = Field(default=None, repr=False)
    timeout_seconds: float = Field(default=1800, gt=0)


@dataclass(frozen=True)
class Inspection:
    """What a URL refers to. `digest` changes when the file or the selected formats do.

    `url` and `info` (yt-dlp's own record) may contain signatures and cookies: keep both out of logs and the bucket.
    """

    meta: SourceMeta
    digest: str
    url: str = field(repr=False)
    info: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Fetched:
    """Downloaded files: the media, and the page's picture if the media has none. Both are untrusted."""

    media: Path
    cover: Path | None = None


def inspect(url: str, options: DownloadOptions, ffmpeg_dir: Path, *, network: Network = SYSTEM) -> Inspection:
    """Find out what `url` refers to without downloading it.

    Raises:
        ClipError: the subclass names the cause; see `tasks.core.errors`.
        TransientDownloadError: the network or the site failed in a way that may be temporary.
    """
    check_url(url)
    limits = options.model_copy(update={"timeout_seconds": min(options.timeout_seconds, INSPECT_SECONDS)})
    with tempfile.TemporaryDirectory(prefix="kangklip-") as folder:
        job = child_request(url, None, options, ffmpeg_dir, Path(folder, "inspect"))
        found = run_child(job, limits, INSPECT_BYTES, network)
    info, file = found["info"], found["file"]
    _reject_unusable(info, file, options)
    is_site = info.get("extractor_key", "Generic") not in ("Generic", "HTML5MediaEmbed")
    source_id = f"{info['extractor_key'].lower()}-{info['id']}" if is_site else f"file-{digest(file)[:32]}"
    source_id = one_line(source_id, 200) or digest(source_id)
    meta = source_meta(info, source_id, "site" if is_site else "file_url", loggable(info.get("webpage_url") or url))
    return Inspection(meta, digest(source_id, info.get("format_id"), _revision(info)), url, info)


def _revision(info: dict[str, Any]) -> list[Any]:
    """Values that change when a site replaces the file behind an id."""
    sizes = [part.get("filesize") for part in info.get("requested_formats") or [info]]
    return [info.get("duration"), info.get("modified_timestamp"), *sizes]


def _reject_unusable(info: dict[str, Any], file: dict[str, Any], options: DownloadOptions) -> None:
    """Reject a video before its download if it is already known to be unusable."""
    if info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming", "post_live"):
        raise SourceIsLive("The video is a live stream that has not ended.")
    duration = number(info.get("duration"))
    if duration is not None and duration > options.max_seconds:
        raise SourceTooLong(f"The video is {duration:.0f} s long; the limit is {options.max_seconds:.0f} s.")
    chosen = info.get("requested_formats") or [info]
    if file["length"] == 0:
        raise UnreadableMedia("The file is empty.")
    sizes = [number(f.get("filesize")) or 0 for f in chosen]
    if (
        len(chosen) == 1
        and (info.get("protocol") or "").startswith("http")
        and info.get("protocol") != "http_dash_segments"
    ):
        sizes.append(file["length"] or 0)
    if max(sum(sizes[: len(chosen)]), *sizes) > options.max_bytes:
        raise _too_large(options)


def _too_large(options: DownloadOptions) -> SourceTooLarge:
    return SourceTooLarge(f"The video is larger than the limit of {options.max_bytes} bytes.")


def fetch(
    inspected: Inspection,
    options: DownloadOptions,
    folder: Path,
    progress: Progress,
    ffmpeg_dir: Path,
    *,
    network: Network = SYSTEM,
) -> Fetched:
    """Download what `inspect` found to one media file in `folder`, completely or not at all.

    A partial download stays in `folder`; the next call resumes it if the server supports that.

    Raises:
        ClipError, TransientDownloadError: as `inspect`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    job = child_request(inspected.url, inspected.info, options, ffmpeg_dir, folder / f"source-{inspected.digest[:16]}")
    found = run_child(job, options, _WIRE_FACTOR * options.max_bytes + INSPECT_BYTES, network, progress)
    return Fetched(Path(found["path"]), Path(found["cover"]) if found["cover"] else None)


def child_request(
    url: str,
    info: dict[str, Any] | None,
    options: DownloadOptions,
    ffmpeg_dir: Path,
    target: Path,
    depth: int | None = None,
) -> dict[str, Any]:
    """The child's job, as described in `ytdlp_child`."""
    deno = Path(sysconfig.get_path("scripts")) / "deno"
    return {
        "url": url,
        "depth": depth,
        "info": info,
        "ffmpeg_dir": str(ffmpeg_dir),
        "deno": str(deno) if deno.exists() else None,
        "cookies_file": str(options.cookies_file) if options.cookies_file else None,
        "max_fps": options.max_fps,
        "max_bytes": options.max_bytes,
        "containers": CONTAINERS,
        "target": str(target),
    }


def run_child(
    job: dict[str, Any], options: DownloadOptions, wire_bytes: int, network: Network, progress: Progress | None = None
) -> dict[str, Any]:
    """Run the child until it succeeds, up to `TRIES` times within `options.timeout_seconds`. Raises as `inspect`."""
    end = time.monotonic() + options.timeout_seconds
    for attempt in itertools.count(1):
        proxy = EgressProxy(allow_private=options.allow_private_addresses, max_bytes=wire_bytes, network=network)
        with proxy, _private_cookies(job) as cookies:
            answer = run_job({**job, "proxy": proxy.url, "cookies_file": cookies}, end - time.monotonic(), progress)
        if answer is not None and answer["event"] != "failed":
            return answer
        if answer is not None and "ProgramStoppedError" in answer["types"]:
            raise ProgramStopped("a program started by the downloader was killed by a signal")
        if answer is not None and (answer["no_space"] or is_full(Path(job["target"]).parent)):
            raise DiskFull(errno.ENOSPC, "no space left for the download")
        failure = _timed_out(job, options) if answer is None else _exception_for(answer, proxy.traffic, options)
        pause = FIRST_PAUSE * 4 ** (attempt - 1)
        tries = {TransientDownloadError: TRIES, SourceNotListening: 2}.get(type(failure), 1)
        if attempt >= tries or time.monotonic() + pause >= end:
            raise failure
        time.sleep(pause)
    raise AssertionError("unreachable")


def _timed_out(job: dict[str, Any], options: DownloadOptions) -> TransientDownloadError:
    return TransientDownloadError(
        f"{one_line(loggable(job['url']), 300)} took longer than {options.timeout_seconds:.0f} s."
    )


@contextlib.contextmanager
def _private_cookies(job: dict[str, Any]) -> Iterator[str | None]:
    """A copy of the cookie file, because yt-dlp writes the sites' cookies back to it."""
    if job["cookies_file"] is None:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="kangklip-") as folder:
        yield shutil.copyfile(job["cookies_file"], f"{folder}/cookies.txt")


def _exception_for(answer: dict[str, Any], traffic: Traffic, options: DownloadOptions) -> Exception:
    """Map a failure to an exception. What the proxy observed takes precedence over yt-dlp's report."""
    if traffic.refused:
        return AddressRefused(f"The video's address leads to {one_line(traffic.refused[-1], 200)}.")
    if "TooManyBytesError" in answer["types"] or traffic.over_budget:
        return SourceTooLarge(f"The download exceeded the limit of {options.max_bytes} bytes.")
    if traffic.unknown_hosts:
        return SourceNotFound(f"There is no host named {one_line(traffic.unknown_hosts[-1], 100)}.")
    failure = Failure(
        messages=tuple(answer["messages"]),
        types=tuple(answer["types"]),
        status=answer["status"],
        is_redirect_loop=answer["redirect_loop"],
        is_expected=answer["expected"],
    )
    if cause := classify(failure):
        return cause
    if traffic.closed_ports:
        return SourceNotListening(f"Nothing listens on {one_line(traffic.closed_ports[-1], 200)}.")
    return TransientDownloadError(redact_urls(answer["messages"][0]))
