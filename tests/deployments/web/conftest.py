"""A browser per module, and one double of the API for all tests of the page."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.deployments.web.browser import chromium, window
from tests.deployments.web.stand_in import StandIn
from tests.folders import MEDIA
from tests.small_media import ffmpeg

SHORT = MEDIA / "short.mp4"


@pytest.fixture(scope="module")  # while it runs, its loop is the main thread's
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="session")
def upright_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds of the sample at 270x480, ready to stream."""
    path = tmp_path_factory.mktemp("clip") / "clip_01.mp4"
    cut = ("-ss", 14, "-t", 12, "-i", SHORT, "-vf", "crop=405:720:520:0,scale=270:480")
    ffmpeg(*cut, "-c:v", "libx264", "-preset", "veryfast", "-g", 25, "-c:a", "aac", "-movflags", "+faststart", path)
    return path


@pytest.fixture(scope="session")
def stand_in(upright_clip: Path) -> Iterator[StandIn]:
    with StandIn(upright_clip) as running:
        yield running


@pytest.fixture
def api(stand_in: StandIn) -> StandIn:
    """The double of the API, running and reset."""
    stand_in.reset()
    if not stand_in.is_up:
        stand_in.start()
    return stand_in


@pytest.fixture
def page(browser: Browser, api: StandIn) -> Iterator[Page]:
    with window(browser, url=api.url) as opened:
        yield opened
