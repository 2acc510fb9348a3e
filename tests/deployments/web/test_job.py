"""A job's page while the job waits, runs, fails or is cancelled, and while the server goes away and comes back."""

import re
import time

import pytest
from playwright.sync_api import expect

from tests.deployments.web.browser import window

pytestmark = pytest.mark.long

NOTICE = "Live updates are interrupted"


def heading(page):
    return page.get_by_role("heading", level=1)


def stage(page, title):
    return page.locator("#timeline li").filter(has=page.get_by_role("heading", name=re.compile(rf"^{title}\b")))


@pytest.fixture
def running(api):
    """A job halfway through its transcription."""
    job_id = api.add()
    api.work_to(job_id, "TRANSCRIPT", 0.5, "17:00 of 34:00 listened to")
    return job_id


def test_a_queued_job_shows_how_long_it_has_waited(page, api):
    job_id = api.add(seconds_ago=185)
    page.goto(f"/jobs/{job_id}")
    expect(heading(page)).to_have_text("Waiting for a worker")
    since = time.strftime("%H:%M", time.gmtime(api.jobs[job_id]["created_at"]))
    detail = page.locator("#detail")
    expect(detail).to_contain_text(
        re.compile(rf"In the queue since (\d+ \w+, )?{since}, for 3 min")
    )  # with a date if it was before midnight
    expect(detail).to_contain_text("No worker has picked it up yet.")
    expect(page.locator("#overall")).to_be_hidden()
    first = detail.inner_text()
    expect(detail).not_to_have_text(first)  # the time is updated
    expect(page.locator("#timeline li[data-state=waiting]")).to_have_count(6)


def test_a_wrong_browser_clock_does_not_matter(browser, api):
    job_id = api.add(seconds_ago=20)
    with window(browser, url=api.url) as page:
        page.clock.install(time=time.time() + 7200)
        page.goto(f"/jobs/{job_id}")
        expect(page.locator("#detail")).to_contain_text(re.compile(r", for 2\d s"))


def test_the_timeline_follows_the_event_stream(page, api):
    job_id = api.add()
    page.goto(f"/jobs/{job_id}")
    expect(heading(page)).to_have_text("Waiting for a worker")
    reads = api.request_counts["GET", f"/api/jobs/{job_id}"]
    api.report(job_id, "DOWNLOAD")
    expect(heading(page)).to_have_text("Fetching the video")
    expect(stage(page, "Download")).to_have_attribute("aria-current", "step")
    api.report(job_id, "TRANSCRIPT", 0.25, "8:30 of 34:00 listened to")
    expect(page.locator("#timeline li[data-state]")).to_have_count(6)
    for title, state in [("Download", "done"), ("Transcribe", "active"), ("Divide", "waiting")]:
        expect(stage(page, title)).to_have_attribute("data-state", state)
    expect(stage(page, "Transcribe")).to_contain_text("8:30 of 34:00 listened to")
    expect(stage(page, "Transcribe").get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    expect(stage(page, "Download")).to_contain_text(re.compile(r"started at \d\d:\d\d:\d\d"))
    expect(page.get_by_role("progressbar", name="Overall progress")).to_have_attribute("aria-valuenow", "25")
    expect(page).to_have_title("25% · Listening to what is said · KangKlip")
    expect(page.locator("#announcement")).to_have_text("Listening to what is said.")
    for tenth in range(3, 10):
        api.report(job_id, "TRANSCRIPT", tenth / 10)
    expect(page.get_by_role("progressbar", name="Overall progress")).to_have_attribute("aria-valuenow", "38")
    assert api.request_counts["GET", f"/api/jobs/{job_id}"] - reads <= 2, "once a stage, not once a report"


def test_a_reload_shows_the_same_state(page, api, running):
    page.goto(f"/jobs/{running}")
    expect(stage(page, "Transcribe")).to_contain_text("17:00 of 34:00 listened to")
    page.reload()
    expect(stage(page, "Transcribe")).to_contain_text("17:00 of 34:00 listened to")
    expect(page.locator("#percent")).to_have_text("30")
    expect(stage(page, "Download")).to_contain_text("14 s")


def test_a_cut_stream_is_resumed(page, api, running):
    page.goto(f"/jobs/{running}")
    expect(page.locator("#percent")).to_have_text("30")
    api.cut()
    expect(page.locator("#connection")).to_contain_text(NOTICE)
    api.report(running, "TRANSCRIPT", 0.6)
    expect(page.locator("#percent")).to_have_text("32")
    expect(page.locator("#connection")).to_be_hidden()
    assert api.resumed_after[-1] is not None, "the browser says what it has seen"


def test_without_a_stream_the_page_polls_and_later_returns_to_it(page, api, running):
    api.streams = False
    page.goto(f"/jobs/{running}")
    expect(page.locator("#connection")).to_contain_text(NOTICE)
    api.report(running, "TRANSCRIPT", 0.75)
    expect(page.locator("#percent")).to_have_text("35")
    api.streams = True
    expect(page.locator("#connection")).to_be_hidden(timeout=12_000)
    reads = api.request_counts["GET", f"/api/jobs/{running}"]
    api.report(running, "TRANSCRIPT", 0.8)
    expect(page.locator("#percent")).to_have_text("36")
    assert api.request_counts["GET", f"/api/jobs/{running}"] == reads, "the stream told it"


def test_the_page_survives_a_restart_of_the_server(page, api, running):
    page.goto(f"/jobs/{running}")
    expect(page.locator("#percent")).to_have_text("30")
    api.stop()
    expect(page.locator("#connection")).to_contain_text("cannot be reached. Last updated at")
    expect(page.locator("#percent")).to_have_text("30")
    api.start()
    api.report(running, "CHUNK", 0.5)
    expect(heading(page)).to_have_text("Dividing the talk into parts")
    expect(page.locator("#connection")).to_be_hidden()


def test_an_older_report_does_not_lower_the_progress(page, api, running):
    page.goto(f"/jobs/{running}")
    expect(page.locator("#percent")).to_have_text("30")
    api.report(running, "DOWNLOAD", 0.2)
    api.report(running, "TRANSCRIPT", 0.9)
    expect(page.locator("#percent")).to_have_text("38")
    shown = page.evaluate("""() => new Promise((done) => {
        const seen = [];
        const watch = new MutationObserver(() => seen.push(document.getElementById("percent").textContent));
        watch.observe(document.getElementById("percent"), { childList: true });
        setTimeout(() => done(seen), 300);
    })""")
    assert shown == []


def test_a_failed_job_shows_cause_and_next_step_and_can_be_retried(page, api, running):
    page.goto(f"/jobs/{running}")
    expect(page.locator("#percent")).to_have_text("30")
    api.report(running, "CHUNK", 0.1)
    api.fail(running, "The video has 12 seconds of speech", "too_short", "Ask for shorter clips.")
    expect(heading(page)).to_have_text("The job failed")
    expect(page.locator("#error")).to_have_text("The video has 12 seconds of speech.")
    expect(page.locator("#next-step")).to_have_text("Ask for shorter clips.")
    expect(stage(page, "Divide")).to_contain_text("failed here")
    expect(stage(page, "Transcribe")).to_have_attribute("data-state", "done")
    expect(page.locator("#announcement")).to_contain_text("Failed. The video has")
    page.get_by_role("button", name="Try again").click()
    expect(heading(page)).to_have_text("Waiting for a worker")
    expect(page.locator("#facts")).to_contain_text("attempt 2")
    expect(page.locator("#failure")).to_be_hidden()
    api.report(running, "TRANSCRIPT", 0.5)
    expect(heading(page)).to_have_text("Listening to what is said")
    expect(stage(page, "Download")).to_contain_text("reused")


def test_the_reasons_of_earlier_attempts_are_shown(page, api):
    reasons = ["The disk was full.", "the machine was lost", None]
    attempts = [{"number": number, "reason": reason} for number, reason in enumerate(reasons, 1)]
    job_id = api.add(attempt=3, attempts=attempts)
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("#attempts li")).to_have_text(
        ["Attempt 1: The disk was full.", "Attempt 2: The machine was lost."]
    )


def test_the_request_of_a_failed_job_can_be_changed(page, api):
    job_id = api.add()
    api.jobs[job_id]["request"] |= {"clip_duration_seconds": 60, "clip_count": 5, "language": "id"}
    api.fail(job_id, "There is no speech.")
    page.goto(f"/jobs/{job_id}")
    page.get_by_role("link", name="Edit request").click()
    expect(page.get_by_label("Video link")).to_have_value("https://example.com/talks/open-it.mp4")
    expect(page.get_by_role("radio", name="60 seconds")).to_be_checked()
    expect(page.get_by_role("radio", name="5 clips")).to_be_checked()
    expect(page.get_by_label("Spoken language")).to_have_value("id")


def test_a_request_loaded_late_does_not_overwrite_typed_input(page, api):
    job_id = api.add()
    waiting = []

    def hold(route):
        waiting.append(route)

    page.route(f"**/api/jobs/{job_id}", hold)
    page.goto(f"/#{job_id}")
    page.get_by_label("Video link").fill("https://example.com/other.mp4")
    with page.expect_response(f"**/api/jobs/{job_id}"):
        waiting.pop().continue_()
    page.wait_for_timeout(100)
    expect(page.get_by_label("Video link")).to_have_value("https://example.com/other.mp4")


def test_a_failure_reported_without_a_stage_is_shown_at_the_last_stage(page, api):
    """As after a callback of the existing worker without a stage: DONE, 100 percent."""
    job_id = api.add()
    api.work_to(job_id, "RENDER", 0.5)
    api.jobs[job_id].update(stage="DONE", progress=100)
    api.fail(job_id, "The worker went away.")
    page.goto(f"/jobs/{job_id}")
    expect(stage(page, "Render")).to_have_attribute("data-state", "failed")
    expect(stage(page, "Check and publish")).to_have_attribute("data-state", "waiting")


def test_cancelling_asks_for_confirmation(page, api, running):
    page.goto(f"/jobs/{running}")
    for leave in (lambda: page.keyboard.press("Escape"), page.get_by_role("button", name="Keep running").click):
        page.get_by_role("button", name="Cancel", exact=True).click()
        expect(page.get_by_role("dialog", name="Cancel this job?")).to_be_visible()
        leave()
        expect(page.get_by_role("dialog")).to_be_hidden()
    assert not api.request_counts["POST", f"/api/jobs/{running}/cancel"]
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel job").click()
    expect(heading(page)).to_have_text("Cancelled")
    expect(page.get_by_role("button", name="Try again")).to_be_visible()


def test_a_cancelled_job_is_not_shown_as_failed(page, api, running):
    page.goto(f"/jobs/{running}")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel job").click()
    expect(heading(page)).to_have_text("Cancelled")
    expect(page).to_have_title("Cancelled · KangKlip")
    expect(page.locator("#announcement")).to_have_text("The job was cancelled.")
    expect(page.locator("#failure")).to_be_hidden()
    expect(page.locator("#detail")).to_contain_text("Try again to resume it")
    expect(page.locator("#timeline li[data-state=failed]")).to_have_count(0)
    expect(page.locator("#timeline li[data-state=stopped]")).to_have_count(1)
    page.reload()
    expect(heading(page)).to_have_text("Cancelled")
    page.goto("/")
    state = page.locator("#recent-jobs .state").first
    expect(state).to_have_text("Cancelled")
    expect(state).to_have_attribute("data-status", "CANCELLED")
    page.goto(f"/jobs/{running}")
    page.get_by_role("button", name="Try again").click()
    expect(heading(page)).to_have_text("Waiting for a worker")


def test_deleting_asks_and_then_forgets_the_job(page, api, running):
    page.goto(f"/jobs/{running}")
    delete = page.get_by_role("button", name="Delete this job")
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_visible()
    expect(delete).to_be_hidden()
    api.fail(running, "Nobody speaks.", next_step="Use a video with speech.")
    for leave in (lambda: page.keyboard.press("Escape"), page.get_by_role("button", name="Keep", exact=True).click):
        delete.click()
        dialog = page.get_by_role("dialog", name="Delete this job?")
        expect(dialog).to_have_accessible_description("Its clips are deleted too. This cannot be undone.")
        expect(page.get_by_role("button", name="Keep", exact=True)).to_be_focused()
        leave()
        expect(dialog).to_be_hidden()
    assert running in api.jobs
    delete.click()
    page.get_by_role("button", name="Delete job").click()
    expect(heading(page)).to_have_text("Job deleted")
    expect(heading(page)).to_be_focused()
    expect(page.locator("#announcement")).to_have_text("The job was deleted.")
    expect(page).to_have_title("Job deleted · KangKlip")
    expect(page.get_by_role("button")).to_have_count(0)
    expect(page.locator("#stages, #failure")).to_have_count(2)
    expect(page.locator("#stages:visible, #failure:visible")).to_have_count(0)
    assert running not in api.jobs
    page.wait_for_timeout(1_200)  # a tick must not bring its times back
    expect(page.locator("#detail")).to_have_text("Its clips are deleted too.")
    page.goto("/")
    expect(page.locator("#recent")).to_be_hidden()
    page.goto(f"/jobs/{running}")
    expect(heading(page)).to_have_text("Job not found")


def test_a_deletion_that_is_refused_keeps_the_job_and_says_why(page, api, running):
    api.fail(running, "Nobody speaks.")
    api.refusal = (409, "run is still stopping; try again in a few seconds")
    page.goto(f"/jobs/{running}")
    page.get_by_role("button", name="Delete this job").click()
    page.get_by_role("button", name="Delete job").click()
    expect(
        page.get_by_role("alert").filter(has_text="Run is still stopping; try again in a few seconds.")
    ).to_be_visible()
    expect(heading(page)).to_have_text("The job failed")
    api.refusal = None
    api.api_key = "a key"
    page.get_by_role("button", name="Delete this job").click()
    page.get_by_role("button", name="Delete job").click()
    page.get_by_label("API key").fill("a key")
    page.get_by_role("button", name="Delete this job").click()
    page.get_by_role("button", name="Delete job").click()
    expect(heading(page)).to_have_text("Job deleted")


def test_an_error_of_several_lines_keeps_its_line_breaks(page, api, running):
    api.fail(running, "one line\nand another")
    page.goto(f"/jobs/{running}")
    expect(page.locator("#error")).to_contain_text("and another")
    expect(page.locator("#error")).to_have_css("white-space-collapse", "preserve-breaks")
    assert page.locator("#error").evaluate("cause => cause.innerText") == "One line\nand another."


def test_a_job_that_was_not_submitted_can_be_started(page, api):
    job_id = api.add(start_error="prefect is away")
    page.goto(f"/jobs/{job_id}")
    expect(heading(page)).to_have_text("Not started")
    expect(page.locator("#detail")).to_contain_text("Prefect is away.")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("button", name="Start")).not_to_have_attribute("aria-disabled", "true")
    assert api.request_counts["POST", f"/api/jobs/{job_id}/start"] == 1


def test_an_unknown_job_is_reported_and_not_polled(page, api):
    for job_id in ("nonsense", "kk_" + "0" * 26):
        page.goto(f"/jobs/{job_id}")
        expect(heading(page)).to_have_text("Job not found")
    page.wait_for_timeout(2_200)
    assert api.request_counts["GET", f"/api/jobs/{job_id}"] <= 2, "it is not asked for again"
