"""Turn a yt-dlp failure into an error that the user can act on.

The exception's type decides first, then its wording: many extractors distinguish a private video from a removed
one only in the message. The HTTP status comes last, because 403 has many causes. Everything else (timeouts,
resets, 5xx, 429) is temporary.
"""

from collections.abc import Mapping
from typing import NamedTuple

from tasks.core.errors import (
    AddressRefused,
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


class Cause(NamedTuple):
    """An error class and its message; `next_step` overrides the class's own if there is better advice."""

    error: type[ClipError]
    message: str
    next_step: str | None = None

    def to_error(self) -> ClipError:
        return self.error(self.message, self.next_step)


NOT_FOUND = Cause(SourceNotFound, "The video does not exist or has been removed.")
PRIVATE = Cause(SourcePrivate, "The video is private, members-only, or needs a sign-in.")
PASSWORD = Cause(SourcePrivate, "The video is password-protected.", "Use a copy that needs no password.")
AGE = Cause(SourceGated, "The site shows this video only after an age check.")
BOT = Cause(SourceGated, "The site wants proof that its visitor is human.")
GEO = Cause(SourceGeoBlocked, "The video is not available in this worker's country.")
LIVE = Cause(SourceIsLive, "The video is a live stream that has not started or not ended.")
DRM = Cause(UnsupportedSource, "The video is copy-protected (DRM).", "Use a video without copy protection.")
NO_VIDEO = Cause(UnsupportedSource, "No usable video was found at this address.")
PLAYLIST = Cause(UnsupportedSource, "The address leads to several videos.", "Use the address of one of them.")
REDIRECT_LOOP = Cause(UnsupportedSource, "The address redirects in a loop.", "Use the address of the video itself.")
UNSAFE = Cause(UnsupportedSource, "The video is in a form that cannot be downloaded safely.")
CERTIFICATE = Cause(UnsupportedSource, "The site's certificate cannot be verified.", "Use a copy on another site.")
FORBIDDEN = Cause(
    SourcePrivate,
    "The site refused to serve the video (HTTP 403).",
    "Open the link in a browser: a signed link may have expired; "
    "a video that needs an account needs its cookies (YTDLP_COOKIES_FILE).",
)
OTHER_SCHEME = Cause(AddressRefused, "The page leads to an address that is neither http nor https.")
TOO_LARGE = Cause(SourceTooLarge, "The video is larger than the limit.")
EMPTY = Cause(UnreadableMedia, "The file is empty.")
NOT_MERGED = Cause(UnreadableMedia, "The video's picture and sound cannot be merged.")

NOT_OFFERED = Cause(UnsupportedSource, "The site does not offer this video.")
NOT_UNDERSTOOD = Cause(
    UnsupportedSource,
    "yt-dlp could not make sense of the site's page.",
    "Update yt-dlp, or use a copy on another site.",
)

TYPES: Mapping[str, Cause] = {
    "GeoRestrictedError": GEO,
    "UserNotLive": LIVE,
    "UnsupportedError": NO_VIDEO,
    "CertificateVerifyError": CERTIFICATE,
    "FFmpegPostProcessorError": NOT_MERGED,
    "PlaylistError": PLAYLIST,
    "TooManyBytesError": TOO_LARGE,
    "ForbiddenError": UNSAFE,
    "InvalidSchema": OTHER_SCHEME,
}
"""Exception classes, by name, that identify the cause: yt-dlp's own, those of requests, and those of our child."""

SITE_WORDS: tuple[tuple[str, Cause], ...] = (
    ("not a bot", BOT),
    ("age-restricted video", AGE),
    ("join this channel", PRIVATE),
    ("removed by the uploader", NOT_FOUND),
    ("premieres in", LIVE),
)
"""YouTube's wording in lower case, passed on by yt-dlp, whose source does not contain it."""

WORDS: tuple[tuple[str, Cause], ...] = (
    ("captcha challenge", BOT),
    ("anti-bot challenge", BOT),
    ("confirm your age", AGE),
    ("this video is drm protected", DRM),
    ("not available from your location", GEO),
    ("not available in your country", GEO),
    ("not made this video available in your country", GEO),
    ("geo-restricted", GEO),
    ("live event will begin", LIVE),
    ("not currently live", LIVE),
    ("--video-password", PASSWORD),
    ("private video", PRIVATE),
    ("video is private", PRIVATE),
    ("members-only", PRIVATE),
    ("members of this channel", PRIVATE),
    ("only available for registered users", PRIVATE),
    ("how-do-i-pass-cookies-to-yt-dlp", PRIVATE),
    ("has been removed", NOT_FOUND),
    ("has been deleted", NOT_FOUND),
    ("no longer available", NOT_FOUND),
    ("video unavailable", NOT_FOUND),
    ("video does not exist", NOT_FOUND),
    ("file:// urls are disabled", OTHER_SCHEME),
    ("did not get any data blocks", EMPTY),
    ("requested format is not available", NO_VIDEO),
    ("no video formats found", NO_VIDEO),
    ("there is no video", NO_VIDEO),
    ("no media found", NO_VIDEO),
)
"""yt-dlp's own wording in lower case, most specific first. A test checks that its source still contains each."""

TRANSIENT_WORDS = ("rate-limit",)
"""yt-dlp's wording for temporary refusals, tested as `WORDS` is."""

STATUS: Mapping[int, Cause] = {401: PRIVATE, 403: FORBIDDEN, 404: NOT_FOUND, 410: NOT_FOUND, 451: GEO}
TRANSIENT_STATUS = frozenset({408, 425, 429})
NETWORK_TYPES = frozenset(
    {"TransportError", "IncompleteRead", "SSLError", "ProxyError", "ContentTooShortError", "HTTPError"}
)


class Failure(NamedTuple):
    """A failed run: messages and class names of the exception and its causes, outermost first.

    `status` is the HTTP status behind it, if any. `is_expected` means that an extractor explicitly reported
    that the site does not offer the video.
    """

    messages: tuple[str, ...]
    types: tuple[str, ...]
    status: int | None = None
    is_redirect_loop: bool = False
    is_expected: bool = False


def classify(failure: Failure) -> ClipError | None:
    """The error to show for a yt-dlp failure, or None if a retry may succeed."""
    cause = _named(failure)
    return cause.to_error() if cause else None


def _named(failure: Failure) -> Cause | None:
    if failure.is_redirect_loop:
        return REDIRECT_LOOP
    typed = next((TYPES[name] for name in failure.types if name in TYPES), None)
    text = "\n".join(failure.messages).casefold()
    if typed or any(words in text for words in TRANSIENT_WORDS):
        return typed
    worded = next((cause for words, cause in (*SITE_WORDS, *WORDS) if words in text), None)
    return worded or _by_status(failure.status) or _by_extractor(failure)


def _by_status(status: int | None) -> Cause | None:
    if status is not None and 400 <= status < 500 and status not in TRANSIENT_STATUS:
        return STATUS.get(status) or Cause(UnsupportedSource, f"The site refused the request (HTTP {status}).")
    return None


def _by_extractor(failure: Failure) -> Cause | None:
    """The cause if an extractor failed although the network worked."""
    if failure.status is not None or "ExtractorError" not in failure.types or NETWORK_TYPES & {*failure.types}:
        return None
    return NOT_OFFERED if failure.is_expected else NOT_UNDERSTOOD
