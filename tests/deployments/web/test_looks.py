"""Every page at two widths in two colour schemes passes axe-core and is not cut off; pictures are saved to look at.

`KANGKLIP_DRAW_DOCS=1` redraws the README's pictures from the same pages.
"""

import os

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.deployments.web.browser import DESKTOP, PHONE, ROOT, reduce_colours, screenshot, window
from tests.deployments.web.sample_results import CLIPS

pytestmark = pytest.mark.long

SEVERE_IMPACTS = {"serious", "critical"}
LOOKS = [
    ("desktop", DESKTOP, "light"),
    ("phone", PHONE, "dark"),
    pytest.param("desktop", DESKTOP, "dark", marks=pytest.mark.soak),
    pytest.param("phone", PHONE, "light", marks=pytest.mark.soak),
]


def form(api, page):
    page.goto("/")
    page.get_by_label("Video link").fill("a video")
    page.get_by_role("button", name="Make clips").click()
    expect(page.locator("#video_url-error")).not_to_be_empty()


def queued(api, page):
    page.goto(f"/jobs/{api.add(seconds_ago=185)}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Waiting for a worker")


def running(api, page):
    job_id = api.add()
    api.work_to(job_id, "TRANSCRIPT", 0.55, "18:40 of 34:02 listened to")
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("#percent")).to_have_text("31")


def failed(api, page):
    job_id = api.add()
    api.work_to(job_id, "CHUNK", 0.2)
    why = "The video has 12 seconds of speech; a clip needs 24."
    api.fail(job_id, why, "too_short", "Ask for shorter clips, or use a longer video.")
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("#failure")).to_contain_text("Ask for shorter clips")


def cancelled(api, page):
    job_id = api.add()
    api.work_to(job_id, "CHUNK", 0.2)
    api.jobs[job_id]["cancelled"] = True
    api.fail(job_id, "Cancelled.")
    page.goto(f"/jobs/{job_id}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancelled")


def done(api, page):
    job_id = api.add()
    api.work_to(job_id, "UPLOAD", 1)
    api.jobs[job_id]["revision"] = 1
    api.succeed(job_id, CLIPS, warnings=["Nothing is known of the audience of this video."])
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("#clips > li")).to_have_count(3)
    for video in page.locator("video").all():
        expect(video).to_have_js_property("readyState", 4)


def opened(api, page):
    done(api, page)
    for summary in page.locator("summary").all():
        summary.click()


def looks(api, page):
    page.goto("/")
    page.get_by_text("Choose how the clips look").click()
    page.get_by_role("radio", name="Label").check()
    page.evaluate(
        "Promise.all([...document.images].map((image) => { image.loading = 'eager'; return image.decode(); }))"
    )


PAGES = [form, looks, queued, running, failed, cancelled, done, opened]


@pytest.mark.parametrize(("width", "viewport", "scheme"), LOOKS)
def test_every_page_is_accessible(browser, api, width, viewport, scheme):
    with window(browser, url=api.url, viewport=viewport, color_scheme=scheme, reduced_motion="reduce") as page:
        for go in PAGES:
            go(api, page)
            screenshot(page, f"{go.__name__}-{width}-{scheme}")
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{go.__name__} is cut off"
            found = Axe().run(page).response
            assert len(found["passes"]) > 10, "axe looked at the page"
            grave = [(item["id"], item["nodes"]) for item in found["violations"] if item["impact"] in SEVERE_IMPACTS]
            assert not grave, (go.__name__, grave)


def test_nothing_is_cut_off_in_a_narrow_window_with_large_text(browser, api):
    with window(browser, url=api.url, viewport={"width": 320, "height": 640}) as page:
        for go in PAGES:
            go(api, page)
            page.evaluate("document.documentElement.style.fontSize = '24px'")
            page.evaluate(
                "document.querySelectorAll('.began').forEach((at) => at.prepend('23 November, '))"
            )  # as on an earlier day
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{go.__name__} is cut off"


def test_reduced_motion_is_respected(browser, api):
    with window(browser, url=api.url, reduced_motion="reduce") as page:
        running(api, page)
        assert page.evaluate("document.getAnimations().length") == 0
    with window(browser, url=api.url, reduced_motion="no-preference") as page:
        running(api, page)
        assert page.evaluate("document.getAnimations().length") > 0


@pytest.mark.skipif(os.environ.get("KANGKLIP_DRAW_DOCS") != "1", reason="draws docs/img only when asked to")
def test_draw_the_readmes_pictures(browser, api):
    def address_filled(api, page):
        page.goto("/")
        page.get_by_label("Video link").fill("https://example.com/talks/open-it.mp4")
        page.evaluate("document.activeElement.blur()")

    for name, go, height in [
        ("page-form", address_filled, 1120),
        ("page-job", running, 700),
        ("page-clips", done, 1340),
    ]:
        with window(browser, url=api.url, viewport={"width": 1280, "height": height}, reduced_motion="reduce") as page:
            go(api, page)
            page.wait_for_timeout(1_000)  # until the players' loading indicators fade
            target = ROOT / "docs" / "img" / f"{name}.png"
            reduce_colours(screenshot(page, name, whole=False), target)
            assert target.stat().st_size < 150_000
