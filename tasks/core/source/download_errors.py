"""Turn what yt-dlp says into an error that the user can act on.

Typed exceptions come first. Then the wording: many extractors distinguish a private video from a removed
one only in their message. The HTTP status comes last: 403 has many causes. The rest (time-outs, resets,
5xx, 429) is temporary.
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
    """An error and its message; `next_step` replaces the class's own if there is a better one."""

    error: type[ClipError]
    message: str
    next_step: str | None = None

    def raised(self) -> ClipError:
        return self.error(self.message, self.next_step)


NOT_FOUND = Cause(SourceNotFound, "The video does not exist, or not any more.")
PRIVATE = Cause(SourcePrivate, "The video is private, for members only, or asks for a sign-in.")
PASSWORD = Cause(SourcePrivate, "The video is protected by a password.", "Use a copy that needs no password.")
AGE = Cause(SourceGated, "The site shows this video only to people who have confirmed their age.")
BOT = Cause(SourceGated, "The site asks for proof that no robot is asking.")
GEO = Cause(SourceGeoBlocked, "The video is not available in the country of this worker.")
LIVE = Cause(SourceIsLive, "The video is a live stream that has not begun or not ended.")
DRM = Cause(UnsupportedSource, "The video is copy-protected (DRM).", "Use a video without copy protection.")
NO_VIDEO = Cause(UnsupportedSource, "No video that can be read was found at this address.")
PLAYLIST = Cause(UnsupportedSource, "The address names several videos.", "Give the address of one of them.")
CIRCLE = Cause(UnsupportedSource, "The address redirects in a circle.", "Give the address of the video itself.")
UNSAFE = Cause(UnsupportedSource, "The video comes in a form that cannot be downloaded safely.")
CERTIFICATE = Cause(UnsupportedSource, "The site's certificate cannot be verified.", "Use a copy on another site.")
FORBIDDEN = Cause(
    SourcePrivate,
    "The site refused to hand out the video (HTTP 403).",
    "Open the link in a browser: a signed link may have expired; "
    "a video that needs an account needs its cookies (YTDLP_COOKIES_FILE).",
)
OTHER_SCHEME = Cause(AddressRefused, "The page leads to an address that is neither http nor https.")
TOO_LARGE = Cause(SourceTooLarge, "The video has more bytes than are accepted.")
EMPTY = Cause(UnreadableMedia, "The file is empty.")
NOT_JOINED = Cause(UnreadableMedia, "The video's picture and sound cannot be joined.")

NOT_OFFERED = Cause(UnsupportedSource, "The site does not hand out this video.")
NOT_UNDERSTOOD = Cause(
    UnsupportedSource, "The site's page was not understood.", "Update yt-dlp, or use a copy on another site."
)

TYPES: Mapping[str, Cause] = {
    "GeoRestrictedError": GEO,
    "UserNotLive": LIVE,
    "UnsupportedError": NO_VIDEO,
    "CertificateVerifyError": CERTIFICATE,
    "FFmpegPostProcessorError": NOT_JOINED,
    "PlaylistError": PLAYLIST,
    "TooManyBytesError": TOO_LARGE,
    "ForbiddenError": UNSAFE,
    "InvalidSchema": OTHER_SCHEME,
}
"""Classes of yt-dlp, of requests below it and of the process it runs in whose name gives the cause."""

SITE_WORDS: tuple[tuple[str, Cause], ...] = (
    ("not a bot", BOT),
    ("age-restricted video", AGE),
    ("join this channel", PRIVATE),
    ("removed by the uploader", NOT_FOUND),
    ("premieres in", LIVE),
)
"""YouTube's wording, in lower case; yt-dlp passes it on, so its source does not contain it."""

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
"""yt-dlp's own wording, in lower case, most specific first. A test looks for each in its source."""

PASSING_WORDS = ("rate-limit",)
"""yt-dlp's wording for temporary refusals; a test looks for it in its source, as for `WORDS`."""

STATUS: Mapping[int, Cause] = {401: PRIVATE, 403: FORBIDDEN, 404: NOT_FOUND, 410: NOT_FOUND, 451: GEO}
PASSING_STATUS = frozenset({408, 425, 429})
NETWORK_TYPES = frozenset(
    {"TransportError", "IncompleteRead", "SSLError", "ProxyError", "ContentTooShortError", "HTTPError"}
)


class Failure(NamedTuple):
    """A failed run: messages and class names of the exception and its causes, outermost first.

    `status` is that of the HTTP response behind it, if any; `is_expected`: an extractor explicitly said
    that the site does not offer the video.
    """

    messages: tuple[str, ...]
    types: tuple[str, ...]
    status: int | None = None
    is_redirect_loop: bool = False
    is_expected: bool = False


def classify(failure: Failure) -> ClipError | None:
    """The user's error for a failure of yt-dlp, or None if another try may succeed."""
    cause = _named(failure)
    return cause.raised() if cause else None


def _named(failure: Failure) -> Cause | None:
    if failure.is_redirect_loop:
        return CIRCLE
    typed = next((TYPES[name] for name in failure.types if name in TYPES), None)
    text = "\n".join(failure.messages).casefold()
    if typed or any(words in text for words in PASSING_WORDS):
        return typed
    worded = next((cause for words, cause in (*SITE_WORDS, *WORDS) if words in text), None)
    return worded or _by_status(failure.status) or _by_extractor(failure)


def _by_status(status: int | None) -> Cause | None:
    if status is not None and 400 <= status < 500 and status not in PASSING_STATUS:
        return STATUS.get(status) or Cause(UnsupportedSource, f"The site refused the request (HTTP {status}).")
    return None


def _by_extractor(failure: Failure) -> Cause | None:
    """The cause if an extractor failed but the network did not."""
    if failure.status is not None or "ExtractorError" not in failure.types or NETWORK_TYPES & {*failure.types}:
        return None
    return NOT_OFFERED if failure.is_expected else NOT_UNDERSTOOD
