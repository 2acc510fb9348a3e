"""A file in the form, with the real API: chosen or dropped, cut off, continued after a reload, and removed."""

import hashlib
import time

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from pydantic import SecretStr

from infra.uploads.writer import PART_BYTES
from tests.deployments.api.conftest import KEYS, serve  # noqa: F401 - a fixture
from tests.deployments.web.browser import PHONE, screenshot, window

pytestmark = pytest.mark.long

TUS = {"tus-resumable": "1.0.0"}
NAME = "Ein Vortrag für alle.mp4"
DATA = hashlib.shake_128(b"film").digest(PART_BYTES + 100_000)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / NAME
    path.write_bytes(DATA)
    return path


@pytest.fixture
def served(serve):  # noqa: F811 - the fixture
    return serve()


@pytest.fixture
def page(browser, served):
    with window(browser, url=served.url, viewport=PHONE) as opened:
        opened.goto("/")
        yield opened


def choose(page, film):
    page.get_by_label("Choose a file instead").set_input_files(film)


def make_clips(page):
    page.get_by_role("button", name="Make clips").click()
    page.wait_for_url("**/jobs/kk_*")
    return page.url.rpartition("/")[2]


def assert_cuts(served, job_id, data, name=NAME):
    request = served.record(job_id).request
    assert (request["source_name"], "video_url" in request) == (name, False)
    assert served.bucket.get_bytes(request["source_key"]) == data


def pieces(page):
    """The offsets at which the page sends from now on."""
    offsets = []
    page.on("request", lambda sent: sent.method == "PATCH" and offsets.append(int(sent.headers["upload-offset"])))
    return offsets


def test_a_chosen_file_uploads_while_the_user_decides_and_becomes_a_job(page, served, film):
    choose(page, film)
    expect(page.get_by_role("status")).to_have_text("Uploaded.")
    expect(page.get_by_label("Video link")).to_be_hidden()
    expect(page.get_by_role("progressbar", name=NAME)).to_have_js_property("value", 1)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screenshot(page, "form-file-phone")
    grave = [item["id"] for item in Axe().run(page).response["violations"] if item["impact"] in ("serious", "critical")]
    assert not grave
    job_id = make_clips(page)
    assert_cuts(served, job_id, DATA)
    expect(page.locator("#subject")).to_have_text(NAME)
    page.goto("/")
    expect(page.get_by_role("region", name="Recent jobs")).to_contain_text(NAME)


def test_a_file_can_be_dropped_on_the_page(page, served):
    make_file = "const all = new DataTransfer(); all.items.add(new File(['dropped'], 'dropped.mp4')); return all;"
    dropped = page.evaluate_handle(f"() => {{ {make_file} }}")
    page.dispatch_event("body", "dragover", {"dataTransfer": dropped})
    expect(page.locator("body")).to_have_class("dropping")
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    assert_cuts(served, make_clips(page), b"dropped", "dropped.mp4")


def test_an_upload_goes_on_after_a_lost_connection(page, served, film):
    cuts = []

    def cut_twice(route):
        if route.request.method == "PATCH" and len(cuts) < 2:
            cuts.append(route.request.headers["upload-offset"])
            route.abort()
        else:
            route.continue_()

    page.route("**/api/uploads/*", cut_twice)
    choose(page, film)
    expect(page.get_by_role("status")).to_have_text("Uploaded.")
    assert len(cuts) == 2
    assert_cuts(served, make_clips(page), DATA)


def test_an_upload_goes_on_after_a_reload_where_it_stopped(page, served, film):
    page.route("**/api/uploads/*", lambda _: None)  # the page's own piece never leaves
    with page.expect_request(lambda sent: sent.method == "PATCH") as begun:
        choose(page, film)
    piece = {**TUS, "upload-offset": "0", "content-type": "application/offset+octet-stream"}
    assert httpx.patch(begun.value.url, headers=piece, content=DATA[:PART_BYTES]).status_code == 204
    page.unroute("**/api/uploads/*")
    offsets = pieces(page)
    page.reload()
    choose(page, film)
    assert_cuts(served, make_clips(page), DATA)
    assert offsets == [PART_BYTES]


def test_a_removed_file_is_removed_from_the_server(page, served, film):
    with page.expect_response(lambda answer: answer.request.method == "POST") as begun:
        choose(page, film)
    address = served.url + begun.value.headers["location"]
    expect(page.get_by_role("status")).to_have_text("Uploaded.")
    page.get_by_role("button", name="Remove file").click()
    expect(page.get_by_label("Video link")).to_be_focused()
    end = time.monotonic() + 5
    while httpx.head(address, headers=TUS).status_code != 404:
        assert time.monotonic() < end
        page.wait_for_timeout(50)


def test_a_key_is_requested_before_the_file_goes_up(browser, serve, film):  # noqa: F811 - the fixture
    served = serve(api_keys=SecretStr(",".join(KEYS)))
    with window(browser, url=served.url) as page:
        page.goto("/")
        choose(page, film)
        page.get_by_role("button", name="Make clips").click()
        page.get_by_label("API key").fill(KEYS[0])
        assert_cuts(served, make_clips(page), DATA)


def test_a_file_that_is_too_large_is_refused_in_words(browser, serve, film):  # noqa: F811 - the fixture
    served = serve(max_source_bytes=1024**2)
    with window(browser, url=served.url) as page:
        page.goto("/")
        choose(page, film)
        page.get_by_role("button", name="Make clips").click()
        expect(page.get_by_role("alert")).to_have_text("File is too large.")
