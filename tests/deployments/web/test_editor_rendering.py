"""Rendering an edited clip from the page: progress, refusals, two people at once, and the revision before."""

import re

import pytest
from playwright.sync_api import Page, expect
from pydantic import SecretStr

from infra.jobs.record import Report
from infra.states import JobState
from tasks.core.object_keys import job_key, revision_folder
from tests.deployments.api.conftest import KEYS, serve  # noqa: F401 - a fixture
from tests.deployments.web.browser import window
from tests.deployments.web.test_editor import (  # noqa: F401 - fixtures
    button,
    draft,
    edit,
    finished,
    page,
    place,
    served,
    talk,
    word,
)
from tests.editable_job import store_published

pytestmark = pytest.mark.long

KEPT = "Your changes are kept"


@pytest.fixture
def job_id(served, talk):  # noqa: F811 - the fixtures
    return finished(served, talk)


class Recut:
    """The run that draws a revision, as far as others see it."""

    def __init__(self, api, talk, job_id, revision=2):  # noqa: F811
        self._api, self._talk, self._job_id, self._revision = api, talk, job_id, revision
        api.jobs.recuts.open(*self._run, api.runs.ids[f"{job_id}:{revision}", 1], api.jobs.leases)

    def report(self, progress: float) -> None:
        report = Report(job_id=self._job_id, attempt=1, revision=self._revision, progress=progress)
        assert self._api.jobs.recuts.report(report)

    def publish(self) -> None:
        for number in {1, self._revision}:
            path = job_key(self._job_id, f"{revision_folder(number)}edit.json")
            document = self._api.bucket.get_json(path) if number > 1 else self._first()
            store_published(self._job_id, self._api.bucket, talk=self._talk, folder=revision_folder(number))
            self._api.bucket.put_json(path, document)
        assert self._api.jobs.recuts.keep(*self._run)
        assert self._api.jobs.recuts.publish(*self._run)
        self.end(JobState.SUCCEEDED)

    def end(self, state: JobState, error: str = "") -> None:
        assert self._api.jobs.recuts.end(*self._run, state, error)
        self._api.jobs.leases.release(self._job_id)

    @property
    def _run(self):
        return self._job_id, self._revision, 1

    def _first(self):
        return self._api.get(f"/api/jobs/{self._job_id}/edit?revision=1").json()


def retitle(page: Page, title: str = "Another title") -> None:  # noqa: F811
    page.get_by_label("Title", exact=True).fill(title)


def render(page: Page) -> None:  # noqa: F811
    with page.expect_response(lambda answer: answer.request.method == "PUT"):
        button(page, "Render clip").click()


def test_a_clip_is_rendered_plays_and_is_compared_with_the_one_before(page, served, talk, job_id):  # noqa: F811
    edit(page, job_id)
    retitle(page)
    word(page, place("phone")).click()
    button(page, "Cut out").click()
    sent = draft(page)
    render(page)
    stored = served.bucket.get_json(job_key(job_id, "revisions/2/edit.json"))
    assert stored["clips"][0]["words"]["removed"] == sent["words"]["removed"] == [place("phone")]
    recut = Recut(served, talk, job_id)
    recut.report(40)
    expect(page.locator("#progress-text")).to_have_text("Rendering the clip… 40%")
    expect(page.get_by_role("progressbar", name="Rendering")).to_have_attribute("aria-valuenow", "40")
    recut.publish()
    expect(page.locator("#announcement")).to_have_text("The clip is ready.")
    video = page.locator("#published")
    expect(video).to_have_attribute("src", f"/api/jobs/{job_id}/clips/clip_01.mp4?revision=2")
    expect(video).to_have_js_property("paused", False)
    assert draft(page) == {}
    expect(button(page, "Render clip")).to_have_attribute("aria-disabled", "true")
    page.get_by_role("radio", name="Before").check()
    expect(video).to_have_attribute("src", f"/api/jobs/{job_id}/clips/clip_01.mp4?revision=1")
    page.get_by_role("radio", name="Preview").check()
    expect(video).to_be_hidden()
    button(page, "Undo").click()
    expect(page.locator('.word[data-states~="removed"]')).to_have_count(0)
    assert draft(page)["title"] == "Another title", "the render is no step that undo forgets"


def test_a_reload_in_the_middle_of_rendering_loses_nothing(page, served, talk, job_id):  # noqa: F811
    edit(page, job_id)
    retitle(page)
    render(page)
    recut = Recut(served, talk, job_id)
    recut.report(20)
    edit(page, job_id)
    expect(page.locator("#progress-text")).to_contain_text("20%")
    expect(page.get_by_label("Title", exact=True)).to_have_value("Another title")
    recut.publish()
    expect(page.locator("#announcement")).to_have_text("The clip is ready.")
    expect(page.locator("#offer")).to_be_hidden()
    expect(page.locator("#newer")).to_be_hidden()
    assert draft(page) == {}


@pytest.mark.soak
def test_changes_made_while_it_is_rendered_stay(page, served, talk, job_id):  # noqa: F811
    edit(page, job_id)
    retitle(page)
    render(page)
    recut = Recut(served, talk, job_id)
    page.get_by_label("Hook", exact=True).fill("A later hook")
    recut.publish()
    expect(page.locator("#announcement")).to_have_text("The clip is ready.")
    assert (draft(page)["title"], draft(page)["hook"]) == ("Another title", "A later hook")
    expect(button(page, "Render clip")).not_to_have_attribute("aria-disabled", "true")


def test_a_rendering_that_fails_says_why_and_keeps_the_changes(page, served, talk, job_id):  # noqa: F811
    edit(page, job_id)
    retitle(page)
    render(page)
    Recut(served, talk, job_id).end(JobState.FAILED, "the disk was full")
    expect(page.get_by_role("alert").filter(has_text="The disk was full.")).to_contain_text(KEPT)
    expect(button(page, "Render clip")).not_to_have_attribute("aria-disabled", "true")
    edit(page, job_id)
    expect(page.get_by_role("alert").filter(has_text="The disk was full.")).to_be_visible()
    assert draft(page)["title"] == "Another title"


def test_of_two_people_the_second_keeps_the_changes_and_puts_them_on_the_newer_version(
    browser,
    page,  # noqa: F811
    served,  # noqa: F811
    talk,  # noqa: F811
    job_id,
):
    edit(page, job_id)
    retitle(page, "Mine")
    with window(browser, url=served.url) as other:
        edit(other, job_id)
        other.get_by_label("Hook", exact=True).fill("Theirs")
        render(other)
        Recut(served, talk, job_id).publish()
        expect(other.locator("#announcement")).to_have_text("The clip is ready.")
    render(page)
    notice = page.get_by_role("group", name=re.compile("Someone else has changed this job"))
    expect(notice).to_contain_text(f"revision 2 now. {KEPT}")
    button(page, "Load the newer version").click()
    expect(page.get_by_label("Hook", exact=True)).to_have_value("Theirs")
    expect(page.get_by_label("Title", exact=True)).to_have_value("Open it")
    offer = page.get_by_role("group", name=re.compile("made before revision 2"))
    page.reload()
    expect(offer).to_be_visible()
    button(page, "Use these changes").click()
    expect(offer).to_be_hidden()
    expect(page.get_by_label("Title", exact=True)).to_have_value("Mine")
    expect(page.get_by_label("Hook", exact=True)).to_have_value("Theirs")
    render(page)
    assert served.bucket.get_json(job_key(job_id, "revisions/3/edit.json"))["clips"][0]["title"] == "Mine"


def test_two_tabs_know_of_each_other(page, job_id):  # noqa: F811
    edit(page, job_id)
    with page.context.new_page() as other:
        edit(other, job_id)
        retitle(other, "From the other tab")
        expect(page.locator("#elsewhere")).to_be_visible()
        expect(other.locator("#elsewhere")).to_be_hidden()


REFUSALS = [
    (409, {"detail": "job is being recut"}, "This job is being rendered already."),
    (429, {"detail": "too many jobs; try again in 20 seconds"}, "Too many requests."),
    (502, {"detail": "no answer"}, "no answer"),
    (None, None, "The server cannot be reached."),
    (422, {"detail": "x", "errors": [{"path": "clips[0].title", "reason": "must not shout"}]}, None),
]


def test_a_refusal_is_one_sentence_and_nothing_is_lost(page, job_id):  # noqa: F811
    edit(page, job_id)
    retitle(page)
    answers = iter(REFUSALS)

    def refuse(route):
        if route.request.method != "PUT":
            return route.fallback()
        status, content, _ = next(answers)
        return route.fulfill(status=status, json=content) if status else route.abort()

    page.route("**/edit", refuse)
    for _, _, reason in REFUSALS:
        button(page, "Render clip").click()
        if reason:
            expect(page.get_by_role("alert").filter(has_text=reason)).to_contain_text(KEPT)
        else:
            expect(page.locator("#text-title-error")).to_have_text("This must not shout.")
        assert draft(page)["title"] == "Another title"
        expect(button(page, "Render clip")).not_to_have_attribute("aria-disabled", "true")


@pytest.mark.soak
def test_a_server_with_keys_asks_for_one(browser, serve, talk):  # noqa: F811
    keyed = serve(api_keys=SecretStr(",".join(KEYS)))
    keyed.client.headers["x-api-key"] = KEYS[0]
    job_id = finished(keyed, talk)
    with window(browser, url=keyed.url) as page:  # noqa: F811
        edit(page, job_id)
        retitle(page)
        render(page)
        page.get_by_label("API key").fill("wrong")
        render(page)
        expect(page.get_by_role("alert").filter(has_text="This key was not accepted.")).to_be_visible()
        page.get_by_label("API key").fill(KEYS[0])
        render(page)
        expect(page.locator("#progress-text")).to_have_text("Rendering the clip… 0%")
        expect(page.locator("#key-field")).to_be_hidden()
