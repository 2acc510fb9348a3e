"""yt-dlp's failures by cause. Its exceptions are raised for real and described as its process does."""

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
from tasks.engines.source import ytdlp_child


def seen(error: Exception) -> ClipError | None:
    """What becomes of an exception that an extractor raises."""

    class Site(yt_dlp.extractor.common.InfoExtractor):
        _VALID_URL = r"https://site\.example/"

        def _real_extract(self, url: str) -> NoReturn:
            raise error

    with yt_dlp.YoutubeDL({"quiet": True, "logger": ytdlp_child._Quiet()}, auto_init=False) as ydl:  # pyright: ignore[reportArgumentType]
        ydl.add_info_extractor(Site())
        with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it is, it is described
            ydl.extract_info("https://site.example/", download=False)
    told = ytdlp_child.describe(caught.value)
    return classify(
        Failure(tuple(told["messages"]), tuple(told["types"]), told["status"], told["redirect_loop"], told["expected"])
    )


def http(status: int) -> ExtractorError:
    cause = HTTPError(Response(None, "https://site.example/", {}, status=status))  # pyright: ignore[reportArgumentType]
    return ExtractorError("Unable to download webpage", cause=cause, expected=True)


LOGIN_HINT = (
    "Use --cookies-from-browser or --cookies for the authentication. See  "
    "https://github.com/yt-dlp/yt-dlp/wiki/FAQ#how-do-i-pass-cookies-to-yt-dlp  for how to manually pass cookies"
)


def said(words: str) -> ExtractorError:
    """What an extractor raises when the site says no."""
    return ExtractorError(words, expected=True)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (GeoRestrictedError("This video is not available from your location due to geo restriction"), SourceGeoBlocked),
        (GeoRestrictedError("Nothing that we know", countries="DE"), SourceGeoBlocked),
        (said("Video unavailable. The uploader has not made this video available in your country"), SourceGeoBlocked),
        (http(451), SourceGeoBlocked),
        (UserNotLive(video_id="somebody"), SourceIsLive),
        (said("This live event will begin in 3 days."), SourceIsLive),
        (said("Premieres in 2 hours"), SourceIsLive),
        (said(f"Sign in to confirm you’re not a bot. {LOGIN_HINT}"), SourceGated),  # noqa: RUF001 - as the site says it
        (said(f"Sign in to confirm your age. {LOGIN_HINT}"), SourceGated),
        (said(f"Private video. Sign in if you've been granted access. {LOGIN_HINT}"), SourcePrivate),
        (said("Join this channel to get access to members-only content like this video"), SourcePrivate),
        (said(f"This video is only available for registered users. {LOGIN_HINT}"), SourcePrivate),
        (said("This video is protected by a password, use the --video-password option"), SourcePrivate),
        (http(401), SourcePrivate),
        (http(403), SourcePrivate),
        (said("Video unavailable. This video has been removed by the uploader"), SourceNotFound),
        (http(404), SourceNotFound),
        (http(410), SourceNotFound),
        (UnsupportedError("https://site.example/private video"), UnsupportedSource),
        (said("This video is DRM protected"), UnsupportedSource),
        (said("Something the site says"), UnsupportedSource),
        (ExtractorError("No video formats found!"), UnsupportedSource),
        (ExtractorError("Unable to extract title"), UnsupportedSource),
        (ExtractorError("x", cause=CertificateVerifyError("bad certificate")), UnsupportedSource),
        (http(400), UnsupportedSource),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, Exception) else value.__name__,
)
def test_permanent(error: Exception, cause: type[ClipError]) -> None:
    named = seen(error)
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
def test_what_may_pass(error: Exception) -> None:
    assert seen(error) is None


def test_a_circle_of_redirects() -> None:
    named = classify(Failure(("HTTP Error 302",), ("HTTPError",), 302, is_redirect_loop=True))
    assert type(named) is UnsupportedSource


@cache
def source() -> str:
    root = Path(yt_dlp.__file__).parent
    return "\n".join(path.read_text(encoding="utf-8") for path in root.rglob("*.py")).casefold()


@pytest.mark.parametrize("words", [*(words for words, _ in WORDS), *TRANSIENT_WORDS])
def test_the_words_are_still_yt_dlps(words: str) -> None:
    assert words in source()


@pytest.mark.parametrize("name", sorted(TYPES))
def test_the_types_still_exist(name: str) -> None:
    ours = hasattr(ytdlp_child, name)
    assert ours or f"class {name}(".casefold() in source() or hasattr(pytest.importorskip("requests").exceptions, name)


def test_words_are_small_letters() -> None:
    assert [words for words, _ in (*WORDS, *SITE_WORDS) if words != words.casefold()] == []
