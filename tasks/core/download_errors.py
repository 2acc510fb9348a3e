"""What yt-dlp said, as the error that a user can act on.

yt-dlp types some of its exceptions; those are believed first, then the HTTP status. For the rest
only the words are left: `WORDS` is the one table of them, and a test keeps it equal to the words
that stand in the installed yt-dlp.
"""

from collections.abc import Callable, Iterable

from tasks.core.errors import (
    ClipError,
    SourceGated,
    SourceGeoBlocked,
    SourceIsLive,
    SourceNotFound,
    SourcePrivate,
    SourceTooLarge,
    UnreadableMedia,
    UnsupportedSource,
)

Cause = Callable[[], ClipError]


def not_found() -> ClipError:
    return SourceNotFound("The video does not exist, or not any more.")


def private() -> ClipError:
    return SourcePrivate("The video is private, for members only, or needs a sign-in.")


def gated() -> ClipError:
    return SourceGated("The site wants to see an age or that nobody automatic is asking.")


def geo_blocked() -> ClipError:
    return SourceGeoBlocked("The video is not available in the country of this worker.")


def live() -> ClipError:
    return SourceIsLive("The video is a live stream that has not ended.")


def drm() -> ClipError:
    return UnsupportedSource(
        "The video is copy-protected (DRM) and cannot be read.", "Use a video without copy protection."
    )


def unsupported() -> ClipError:
    return UnsupportedSource("No video was found at this address.")


def playlist() -> ClipError:
    return UnsupportedSource("The address names several videos.", "Give the address of one of them.")


def redirect_loop() -> ClipError:
    return UnsupportedSource("The address redirects in a circle.", "Give the address where the redirects should end.")


def refused() -> ClipError:
    return SourcePrivate(
        "The site refused to serve the video (HTTP 403).",
        "Open the link in a browser; a signed link may have expired, a private one needs cookies (YTDLP_COOKIES_FILE).",
    )


def too_large() -> ClipError:
    return SourceTooLarge("The video has more bytes than this service accepts.")


TYPES: dict[str, Cause] = {
    "GeoRestrictedError": geo_blocked,
    "UserNotLive": live,
    "UnsupportedError": unsupported,
    "PlaylistError": playlist,
    "TooManyBytesError": too_large,
}

STATUS: dict[int, Cause] = {401: private, 403: refused, 404: not_found, 410: not_found, 451: geo_blocked}

WORDS: tuple[tuple[str, Cause], ...] = (
    ("confirm you’re not a bot", gated),
    ("confirm your age", gated),
    ("Private video", private),
    ("members-only", private),
    ("This video is DRM protected", drm),
    ("Requested format is not available", unsupported),
    ("No video formats found", unsupported),
)


def classify(
    messages: Iterable[str], types: Iterable[str], http_status: int | None, *, is_redirect_loop: bool = False
) -> ClipError | None:
    """The user's error behind a failure of yt-dlp, or None when it is not the user's.

    Args:
        messages: texts of the exception and of its causes.
        types: names of their classes.
        http_status: status of the answer that caused it, if one did.
        is_redirect_loop: whether the server redirected for ever.
    """
    if is_redirect_loop:
        return redirect_loop()
    for name in types:
        if name in TYPES:
            return TYPES[name]()
    text = "\n".join(messages).replace("'", "’").casefold()
    for words, cause in WORDS:
        if words.replace("'", "’").casefold() in text:
            return cause()
    return STATUS[http_status]() if http_status in STATUS else None


__all__ = ["STATUS", "TYPES", "WORDS", "UnreadableMedia", "classify"]
