"""yt-dlp's failures classified by cause. Its exceptions are really raised, and described as in its process."""

from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
import yt_dlp
from yt_dlp.networking import Response
from yt_dlp.networking.exceptions import CertificateVerifyError, HTTPError, IncompleteRead, TransportError
from yt_dlp.utils import ContentTooShortError, ExtractorError, GeoRestrictedError, UnsupportedError, UserNotLive

from tasks.core.errors import (
    ClipError,
    SourceGated,
    SourceGeoBlocked,
    SourceIsLive,
    SourceNotFound,
    SourcePrivate,
    UnsupportedSource,
)
from tasks.core.source.download_errors import SITE_WORDS, TRANSIENT_WORDS, TYPES, WORDS, Failure, classify
from tasks.engines.source import ytdlp_child, ytdlp_confinement


def classified(error: Exception) -> ClipError | None:
    """The classification of an exception that an extractor raises."""

    class Site(yt_dlp.extractor.common.InfoExtractor):
        _VALID_URL = r"https://site\.example/"

        def _real_extract(self, url: str) -> NoReturn:
            raise error

    with yt_dlp.YoutubeDL({"quiet": True, "logger": ytdlp_child._Quiet()}, auto_init=False) as ydl:  # pyright: ignore[reportArgumentType]
        ydl.add_info_extractor(Site())
        with pytest.raises(Exception) as caught:  # noqa: PT011 - any error is described
            ydl.extract_info("https://site.example/", download=False)
    description = ytdlp_child.describe(caught.value)
    return classify(
        Failure(
            tuple(description["messages"]),
            tuple(description["types"]),
            description["status"],
            description["redirect_loop"],
            description["expected"],
        )
    )


def http(status: int) -> ExtractorError:
    cause = HTTPError(Response(None, "https://site.example/", {}, status=status))  # pyright: ignore[reportArgumentType]
    return ExtractorError("Unable to download webpage", cause=cause, expected=True)


LOGIN_HINT = (
    "Use --cookies-from-browser or --cookies for the authentication. See  "
    "https://github.com/yt-dlp/yt-dlp/wiki/FAQ#how-do-i-pass-cookies-to-yt-dlp  for how to manually pass cookies"
)


def site_refusal(words: str) -> ExtractorError:
    """The error an extractor raises when the site refuses."""
    return ExtractorError(words, expected=True)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (GeoRestrictedError("This video is not available from your location due to geo restriction"), SourceGeoBlocked),
        (GeoRestrictedError("Nothing that we know", countries="DE"), SourceGeoBlocked),
        (
            site_refusal("Video unavailable. The uploader has not made this video available in your country"),
            SourceGeoBlocked,
        ),
        (http(451), SourceGeoBlocked),
        (UserNotLive(video_id="somebody"), SourceIsLive),
        (site_refusal("This live event will begin in 3 days."), SourceIsLive),
        (site_refusal("Premieres in 2 hours"), SourceIsLive),
        (site_refusal(f"Sign in to confirm you’re not a bot. {LOGIN_HINT}"), SourceGated),  # noqa: RUF001 - as the site says it
        (site_refusal(f"Sign in to confirm your age. {LOGIN_HINT}"), SourceGated),
        (site_refusal(f"Private video. Sign in if you've been granted access. {LOGIN_HINT}"), SourcePrivate),
        (site_refusal("Join this channel to get access to members-only content like this video"), SourcePrivate),
        (site_refusal(f"This video is only available for registered users. {LOGIN_HINT}"), SourcePrivate),
        (site_refusal("This video is protected by a password, use the --video-password option"), SourcePrivate),
        (http(401), SourcePrivate),
        (http(403), SourcePrivate),
        (site_refusal("Video unavailable. This video has been removed by the uploader"), SourceNotFound),
        (http(404), SourceNotFound),
        (http(410), SourceNotFound),
        (UnsupportedError("https://site.example/private video"), UnsupportedSource),
        (site_refusal("This video is DRM protected"), UnsupportedSource),
        (site_refusal("Something the site says"), UnsupportedSource),
        (ExtractorError("No video formats found!"), UnsupportedSource),
        (ExtractorError("Unable to extract title"), UnsupportedSource),
        (ExtractorError("x", cause=CertificateVerifyError("bad certificate")), UnsupportedSource),
        (http(400), UnsupportedSource),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else value.__name__,
)
def test_permanent_failures_name_their_cause(error: Exception, cause: type[ClipError]) -> None:
    named = classified(error)
    assert named is not None
    assert type(named) is cause
    assert named.next_step


@pytest.mark.parametrize(
    "error",
    [
        http(408),
        http(429),
        http(500),
        http(503),
        ExtractorError("Unable to download webpage", cause=TransportError("timed out"), expected=True),
        ExtractorError("Unable to download webpage", cause=IncompleteRead(1, 2), expected=True),
        ExtractorError("The current session has been rate-limited by YouTube for up to an hour", expected=True),
        ContentTooShortError(1, 2),
        TimeoutError("timed out"),
    ],
    ids=lambda error: str(error)[:40],
)
def test_transient_failures_have_no_cause(error: Exception) -> None:
    assert classified(error) is None


def test_circular_redirects_are_unsupported() -> None:
    named = classify(Failure(("HTTP Error 302",), ("HTTPError",), 302, is_redirect_loop=True))
    assert type(named) is UnsupportedSource


@cache
def ytdlp_source() -> str:
    root = Path(yt_dlp.__file__).parent
    return "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py")).casefold()


@pytest.mark.parametrize("words", [*(words for words, _ in WORDS), *TRANSIENT_WORDS])
def test_yt_dlp_still_uses_the_words_we_match(words: str) -> None:
    assert words in ytdlp_source()


@pytest.mark.parametrize("name", sorted(TYPES))
def test_yt_dlp_still_has_the_error_types_we_match(name: str) -> None:
    ours = hasattr(ytdlp_child, name) or hasattr(ytdlp_confinement, name)
    assert (
        ours
        or f"class {name}(".casefold() in ytdlp_source()
        or hasattr(pytest.importorskip("requests").exceptions, name)
    )


def test_matched_words_are_lower_case() -> None:
    assert [words for words, _ in (*WORDS, *SITE_WORDS) if words != words.casefold()] == []
