"""A real Chromium for the tests of the page, and screenshots."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.folders import ROOT
from tests.required import missing
from tests.small_media import ffmpeg

SCREENS = ROOT / "build" / "screens"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--no-first-run"),
)
expect.set_options(timeout=15_000)  # milliseconds: other tests share the cores


def chromium_path() -> str | None:
    """The browser named by KANGKLIP_CHROMIUM, or an installed one."""
    named = (os.environ.get("KANGKLIP_CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in named if name and (path := shutil.which(name))), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium. Without one the test is skipped, or fails if KANGKLIP_REQUIRE_BROWSER is 1."""
    path = chromium_path()
    if path is None:
        missing("BROWSER", "no Chromium: install chromium, or name one in KANGKLIP_CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@contextmanager
def window(browser: Browser, *, url: str, **options: object) -> Iterator[Page]:
    """A page in a new profile. Fails at the end if a script failed or the page violated its own policy."""
    context: BrowserContext = browser.new_context(
        **{"base_url": url, "viewport": DESKTOP, "locale": "en-GB", "timezone_id": "UTC", **options}
    )
    context.set_default_timeout(8_000)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if "Content Security Policy" in line.text else None)
    try:
        yield page
        assert not wrong, wrong
    finally:
        context.close()


def screenshot(page: Page, name: str, *, whole: bool = True) -> Path:
    """Save a picture at build/screens/NAME.png, to be looked at; the tests do not compare it."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    path = SCREENS / f"{name}.png"
    page.screenshot(path=path, full_page=whole, animations="disabled")
    return path


def reduce_colours(source: Path, target: Path) -> None:
    """The same picture in 256 colours."""
    target.parent.mkdir(parents=True, exist_ok=True)
    ffmpeg("-i", source, "-vf", "split[a][b];[a]palettegen[p];[b][p]paletteuse=dither=none", target)
