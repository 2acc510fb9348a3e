"""The form: by keyboard, with mistakes, with refusals, and on a second visit."""

import re

import pytest
from playwright.sync_api import expect

from tasks.core.captions.presets import PRESETS
from tasks.core.languages import LANGUAGES

pytestmark = pytest.mark.long

ADDRESS = "https://example.com/talks/open-it.mp4"


def submit(page, address=ADDRESS):
    page.get_by_label("Video link").fill(address)
    page.get_by_role("button", name="Make clips").click()


def test_a_job_can_be_created_by_keyboard_alone(page, api):
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the form")).to_be_focused()
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.get_by_label("Video link")).to_be_focused()
    page.keyboard.type("example.com/talks/open-it.mp4")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Choose a file instead")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    page.keyboard.type("Indo")
    page.keyboard.press("Tab")
    expect(page.get_by_label("Topic")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Choose how the clips look")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Use only a part of the video")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/jobs/kk_*")
    assert api.bodies == [
        {"video_url": ADDRESS, "clip_duration_seconds": 60, "clip_count": 2, "language": "id"},
    ]


def test_a_topic_can_be_asked_for(page, api):
    page.goto("/")
    page.get_by_label("Topic").fill("  the piano ")
    submit(page)
    page.wait_for_url("**/jobs/kk_*")
    assert api.bodies[-1]["topic"] == "the piano"


def test_looks_are_chosen_by_picture_with_the_keyboard_and_are_remembered(page, api):
    page.goto("/")
    page.get_by_text("Choose how the clips look").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="Classic")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Punch")).to_be_checked()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.get_by_role("checkbox", name="Cut out pauses and filler words")).to_be_checked()
    submit(page)
    page.wait_for_url("**/jobs/kk_*")
    chosen = {"caption_preset": "punch", "ratio": "4:5", "framing": "fit", "tighten": True}
    assert api.bodies[-1].items() >= chosen.items()
    page.goto("/")
    expect(page.get_by_role("radio", name="Punch")).to_be_checked()
    expect(page.get_by_role("radio", name="4:5")).to_be_checked()


def test_every_preset_of_the_captions_is_offered_with_a_small_picture(page, api):
    page.goto("/")
    page.get_by_text("Choose how the clips look").click()
    offered = page.locator("input[name=caption_preset]").evaluate_all("inputs => inputs.map((input) => input.value)")
    assert [name or "classic" for name in offered] == list(PRESETS)
    for name in PRESETS:
        picture = page.request.get(f"/static/presets/{name}.webp")
        assert picture.ok
        assert picture.headers["content-type"] == "image/webp"
        assert 1000 < len(picture.body()) <= 15_000
        drawn = page.locator(f"img[src='/static/presets/{name}.webp']")
        drawn.scroll_into_view_if_needed()
        expect(drawn).to_have_js_property("naturalWidth", 270)


def test_a_refused_look_is_shown_at_its_field(page, api):
    page.goto("/")
    page.route("**/api/jobs", lambda route: route.fulfill(status=400, json={"detail": "ratio must be 9:16 or 4:5"}))
    submit(page)
    expect(page.get_by_text("This must be 9:16 or 4:5.")).to_be_visible()


def test_the_last_options_and_recent_jobs_are_remembered(page, api):
    page.goto("/")
    expect(page.get_by_role("heading", name="Recent jobs")).to_be_hidden()
    page.get_by_role("radio", name="30 seconds").check()
    page.get_by_role("radio", name="5 clips").check()
    page.get_by_label("Spoken language").select_option("ja")
    submit(page)
    page.wait_for_url("**/jobs/kk_*")
    job_id = page.url.rpartition("/")[2]
    api.work_to(job_id, "TRANSCRIPT", 0.5)
    page.goto("/")
    expect(page.get_by_role("radio", name="30 seconds")).to_be_checked()
    expect(page.get_by_role("radio", name="5 clips")).to_be_checked()
    expect(page.get_by_label("Spoken language")).to_have_value("ja")
    job = page.get_by_role("region", name="Recent jobs").get_by_role("listitem")
    expect(job).to_have_count(1)
    expect(job).to_contain_text("Five clips of 30 s")
    expect(job).to_contain_text("Working 30%")
    del api.jobs[job_id]
    page.reload()
    expect(job).to_contain_text("Expired")
    page.get_by_role("button", name="Clear list").click()
    expect(job).to_have_count(0)
    page.reload()
    expect(page.get_by_role("heading", name="Recent jobs")).to_be_hidden()


def test_a_part_of_the_video_can_be_chosen(page, api):
    page.goto("/")
    page.get_by_text("Use only a part of the video").click()
    page.get_by_label("From").fill("12:30")
    page.get_by_label("To", exact=True).fill("1:02:03")
    submit(page)
    page.wait_for_url("**/jobs/kk_*")
    assert (api.bodies[-1]["start_seconds"], api.bodies[-1]["end_seconds"]) == (750, 3723)


@pytest.mark.parametrize(
    ("start", "end", "where", "error"),
    [
        ("half past", "", "From", "such as 90, 12:30 or 1:02:03"),
        ("", "12:75", "To", "such as 90, 12:30 or 1:02:03"),
        ("12:30", "12:00", "To", "later than"),
    ],
)
def test_a_wrong_part_is_reported_at_its_field_before_sending(page, api, start, end, where, error):
    page.goto("/")
    page.get_by_text("Use only a part of the video").click()
    page.get_by_label("From").fill(start)
    page.get_by_label("To", exact=True).fill(end)
    page.get_by_text("Use only a part of the video").click()
    submit(page)
    field = page.get_by_label(where, exact=True)
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(page.locator(f"#{field.get_attribute('id')}-error")).to_contain_text(error)
    assert api.bodies == []


WRONG_ADDRESSES = {
    "": "Paste a link to a video.",
    "   ": "Paste a link to a video.",
    "my holiday video": "starts with https:// or http://",
    "https://exa mple.com/a": "starts with https:// or http://",
    "ftp://example.com/a.mp4": "starts with https:// or http://",
    "javascript:alert(1)": "starts with https:// or http://",
    "https://talk": "“talk” is not a valid site name.",
    "https://example.com/" + "a" * 4096: "too long",
}


def test_a_wrong_address_is_reported_at_the_field_before_sending(page, api):
    page.goto("/")
    field = page.get_by_label("Video link")
    error = page.locator("#video_url-error")
    for address, message in WRONG_ADDRESSES.items():
        submit(page, address)
        expect(error).to_contain_text(message)
        expect(field).to_be_focused()
        expect(field).to_have_attribute("aria-invalid", "true")
        assert "video_url-error" in field.get_attribute("aria-describedby")
        field.fill(ADDRESS)
        expect(error).to_be_empty()
        expect(field).not_to_have_attribute("aria-invalid", "true")
    assert not api.bodies


def test_an_appearing_message_does_not_swallow_a_click(page, api):
    """Leaving the field by a click shows the message between press and release."""
    page.goto("/")
    page.get_by_label("Video link").fill("my holiday video")
    page.get_by_role("radio", name="60 seconds").click()
    expect(page.get_by_role("radio", name="60 seconds")).to_be_checked()
    expect(page.locator("#video_url-error")).to_contain_text("starts with https:// or http://")


def test_a_refusal_is_shown_at_the_field_it_names(page, api):
    page.goto("/")
    for name in ("video_url", "clip_duration_seconds", "clip_count", "language"):
        api.refusal = (400, f"{name} must be something else")
        submit(page)
        expect(page.locator(f"#{name}-error")).to_have_text("This must be something else.")
        assert page.evaluate("document.activeElement.name") == name


def test_other_refusals_are_shown_under_the_button_and_lose_no_input(page, api):
    api.refusal = (429, "too many jobs; try again in 12 seconds")
    page.goto("/")
    submit(page)
    alert = page.get_by_role("alert")
    expect(alert).to_have_text("Too many jobs; try again in 12 seconds.")
    api.refusal = (503, "job store unavailable")
    page.get_by_role("button", name="Make clips").click()
    expect(alert).to_have_text("Job store unavailable. Nothing was lost. Try again in a moment.")
    api.stop()
    page.get_by_role("button", name="Make clips").click()
    expect(alert).to_have_text(re.compile("cannot be reached"))
    expect(page.get_by_label("Video link")).to_have_value(ADDRESS)
    api.refusal = None
    api.start()
    page.get_by_role("button", name="Make clips").click()
    page.wait_for_url("**/jobs/kk_*")


def test_a_lost_response_does_not_create_two_jobs(page, api):
    page.goto("/")
    page.route("**/api/jobs", lambda route: (route.fetch(), route.abort()))
    submit(page)
    expect(page.get_by_role("alert")).not_to_be_empty()
    page.unroute("**/api/jobs")
    page.get_by_role("button", name="Make clips").click()
    page.wait_for_url("**/jobs/kk_*")
    assert len(api.bodies) == 2
    assert len(api.jobs) == 1


def test_an_api_key_is_requested_when_the_server_requires_one(page, api):
    api.api_key = "open sesame"
    page.goto("/")
    key = page.get_by_label("API key")
    expect(key).to_be_hidden()
    submit(page)
    expect(key).to_be_focused()
    for wrong in ("wrong", "falsch\u00fcssel \u2603"):
        key.fill(wrong)
        page.get_by_role("button", name="Make clips").click()
        expect(page.locator("#api_key-error")).to_have_text("This key was not accepted.")
    key.fill("open sesame")
    page.get_by_role("button", name="Make clips").click()
    page.wait_for_url("**/jobs/kk_*")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("button", name="Cancel job").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Cancelled")
    assert page.evaluate("JSON.stringify(localStorage)").count("sesame") == 0


def test_every_language_of_the_recogniser_is_offered(page, api):
    page.goto("/")
    codes = page.locator("#language option").evaluate_all("options => options.map((option) => option.value)")
    assert codes[:3] == ["auto", "en", "id"]
    assert len(codes) == len(set(codes))
    assert set(codes) == LANGUAGES | {"auto"}


def test_the_preview_shows_one_frame_per_requested_clip(page, api):
    page.goto("/")
    frames = page.locator("#frames .on")
    expect(frames).to_have_text(["45 s"] * 3)
    page.get_by_role("radio", name="1 clip").check()
    page.get_by_role("radio", name="60 seconds").check()
    expect(frames).to_have_text(["60 s"])
