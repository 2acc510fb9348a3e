"""Lists the items of a channel, playlist or RSS feed with yt-dlp's confined child, without visiting any of them."""

from pathlib import Path

from tasks.core.errors import ClipError, SourceTooLarge, UnsupportedSource
from tasks.core.source.addresses import check_url
from tasks.core.source.batch import Listing, list_entries
from tasks.engines.source.egress import SYSTEM, Network
from tasks.engines.source.ytdlp import INSPECT_BYTES, INSPECT_SECONDS, DownloadOptions, child_request, run_child


def read_feed(
    url: str, depth: int, options: DownloadOptions, ffmpeg_dir: Path, *, network: Network = SYSTEM
) -> Listing:
    """The newest `depth` videos of the feed at `url`.

    Raises:
        ClipError: there is no feed, or it cannot be read.
        TransientDownloadError: the network or the site failed in a way that may be temporary.
    """
    check_url(url)
    seconds = min(options.timeout_seconds, INSPECT_SECONDS)
    limits = options.model_copy(update={"timeout_seconds": seconds, "max_bytes": INSPECT_BYTES})
    job = child_request(url, None, limits, ffmpeg_dir, Path("none"), depth)
    try:
        entries = run_child(job, limits, INSPECT_BYTES, network)["entries"]
    except SourceTooLarge:
        raise UnsupportedSource(f"The feed has more than {INSPECT_BYTES} bytes.", "Use a shorter feed.") from None
    except ClipError as error:
        raise type(error)(f"The feed cannot be read. {error.message}", error.next_step) from error
    if entries is None:
        raise UnsupportedSource("The feed's address leads to a single video.", "List single videos under urls.")
    return list_entries(entries, depth=depth, allow_private=options.allow_private_addresses)
