"""The finished clips play, seek, can be downloaded and copied, and say why they were chosen."""

import re

import pytest
from playwright.sync_api import expect

from tasks.core.choice.weights import signal_names
from tasks.core.output.file_names import file_name_from_title
from tests.deployments.web.browser import window
from tests.deployments.web.sample_results import CLIPS

pytestmark = pytest.mark.long

HOSTILE = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>"\'&amp; \u202e'


@pytest.fixture
def finished_job(api):
    job_id = api.add()
    api.work_to(job_id, "UPLOAD", 1)
    api.succeed(job_id, CLIPS, warnings=["Nothing is known of the audience."])
    return job_id


def clip(page, number):
    return page.locator("#clips > li").nth(number - 1)


def test_results_appear_when_the_job_ends(page, api):
    job_id = api.add()
    api.work_to(job_id, "UPLOAD", 0.5)
    page.goto(f"/jobs/{job_id}")
    expect(page.get_by_role("heading", level=1)).to_have_text("Checking and publishing the clips")
    api.succeed(job_id, CLIPS)
    expect(page.get_by_role("heading", level=1)).to_have_text("Three clips ready")
    expect(page).to_have_title("Three clips ready · KangKlip")
    expect(page.locator("#announcement")).to_have_text("The clips are ready.")
    expect(page.locator("#detail")).to_contain_text("Finished in 3 min")
    expect(page.locator("#timeline li[data-state=done]")).to_have_count(6)
    expect(page.get_by_role("button", name="Cancel", exact=True)).to_be_hidden()
    page.wait_for_timeout(300)
    assert api.request_counts["GET", f"/api/jobs/{job_id}/results"] == 1


def test_players_do_not_autoplay_have_sound_and_seek_quickly(page, api, finished_job):
    page.goto(f"/jobs/{finished_job}")
    video = clip(page, 1).locator("video")
    video.evaluate("video => video.readyState || new Promise((go) => video.addEventListener('loadedmetadata', go))")
    assert video.evaluate(
        "video => !video.muted && video.volume === 1 && video.paused && !video.autoplay && video.controls"
    )
    width, height = video.evaluate("video => [video.clientWidth, video.clientHeight]")
    assert width / height == pytest.approx(9 / 16, abs=0.01)
    waited = video.evaluate("""async (video) => {
        const began = performance.now();
        const sought = new Promise((go) => video.addEventListener("seeked", go, { once: true }));
        video.currentTime = 10;
        await sought;
        return performance.now() - began;
    }""")
    assert waited < 2_000
    assert api.ranges
    assert all(header.startswith("bytes=") for header in api.ranges)
    video.evaluate("video => video.play()")
    clip(page, 2).locator("video").evaluate("video => video.play()")
    expect(video).to_have_js_property("paused", True)
    assert clip(page, 2).locator("video").evaluate("video => !video.paused && !video.muted")
    heard = (
        clip(page, 2)
        .locator("video")
        .evaluate("""async (video) => {
        const until = performance.now() + 5_000;
        while (!video.webkitAudioDecodedByteCount && performance.now() < until)
            await new Promise((go) => setTimeout(go, 50));
        return video.webkitAudioDecodedByteCount;
    }""")
    )
    assert heard > 0


def test_a_card_shows_a_clips_details(page, finished_job):
    page.goto(f"/jobs/{finished_job}")
    first = clip(page, 1)
    expect(first).to_contain_text("38.4 s · 1:02 to 1:40")
    expect(clip(page, 3)).to_contain_text("1:02:05 to 1:02:45")
    expect(first.get_by_role("heading")).to_have_text(CLIPS[0]["title"])
    expect(first).to_contain_text(CLIPS[0]["hook"])
    expect(first).to_contain_text("#repair #ownership")
    words = first.get_by_text("They tell you that this is the future.")
    expect(words).to_be_hidden()
    first.get_by_text("Transcript").focus()
    page.keyboard.press("Enter")
    expect(words).to_be_visible()
    first.get_by_text("Why this clip").click()
    expect(first).to_contain_text("Stands out for opening")
    scores = first.locator(".scores > div")
    expect(scores).to_have_text(
        ["Strong opening+3.0", "Common words+0.6", "Speaks to the viewer+0.5", "Quiet voice\u22120.2"]
    )
    expect(page.get_by_role("list", name="Notes")).to_have_text("Nothing is known of the audience.")


def test_clips_can_be_downloaded_and_their_texts_copied(browser, api, finished_job):
    with window(browser, url=api.url, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"/jobs/{finished_job}")
        with page.expect_download() as download:
            page.get_by_role("link", name="Download clip 2").click()
        assert (
            download.value.suggested_filename == file_name_from_title(CLIPS[1]["title"], "clip_02.mp4") != "clip_02.mp4"
        )
        assert download.value.path().stat().st_size == api.clip.stat().st_size
        clipboard = "navigator.clipboard.readText()"
        page.get_by_role("button", name="Copy title of clip 1").click()
        expect(clip(page, 1)).to_contain_text("Copied")
        assert page.evaluate(clipboard) == CLIPS[0]["title"]
        page.get_by_role("button", name="Copy description of clip 1").click()
        expect(page.locator("#announcement")).to_have_text("Copied.")
        expect(clip(page, 1).get_by_text("Copied")).to_have_count(2)
        assert page.evaluate(clipboard) == f"{CLIPS[0]['description']}\n\n#repair #ownership"
        expect(page.get_by_role("button", name="Copy description of clip 2")).to_have_count(0)


def test_copying_works_without_the_clipboard_api(browser, api, finished_job):
    with window(browser, url=api.url) as page:
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        page.goto(f"/jobs/{finished_job}")
        button = page.get_by_role("button", name="Copy title of clip 1")
        button.click()
        expect(button).to_have_text("Copied")
        expect(button).to_be_focused()


def test_results_that_fail_to_load_are_requested_again(page, api, finished_job):
    page.route("**/results", lambda route: route.fulfill(status=502, json={"detail": "manifest unreadable"}))
    page.goto(f"/jobs/{finished_job}")
    expect(page.locator("#results-error")).to_contain_text("Manifest unreadable. Retrying.")
    page.unroute("**/results")
    expect(page.locator("#clips > li")).to_have_count(3)
    expect(page.locator("#results-error")).to_be_empty()


def test_dropped_clips_are_listed(page, api):
    job_id = api.add()
    api.work_to(job_id, "UPLOAD", 1)
    api.succeed(job_id, CLIPS[:1], dropped=[{"index": 2, "title": "A quiet one", "reason": "It froze."}])
    page.goto(f"/jobs/{job_id}")
    expect(page.get_by_role("heading", level=1)).to_have_text("One clip ready")
    expect(page.locator("#notes")).to_have_text("Left out: “A quiet one”. It froze.")


def test_untrusted_text_is_shown_as_text(page, api):
    job_id = api.add()
    api.jobs[job_id]["request"] |= {"video_url": "javascript:window.broken=1", "language": HOSTILE}
    api.work_to(job_id, "TRANSCRIPT", 0.5, HOSTILE)
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("#timeline .message").nth(1)).to_have_text(re.compile(r"<img src=x"))
    expect(page.locator("#subject")).to_have_text("javascript:window.broken=1")
    expect(page.locator("#subject a")).to_have_count(0)
    hostile = dict.fromkeys(("title", "hook", "description", "text", "why"), HOSTILE)
    scores = {HOSTILE: 1.0, "__proto__": 2.0, "opening": "9", "claim": None}
    api.succeed(job_id, [{**hostile, "file": "clip_01.mp4", "hashtags": [HOSTILE], "scores": scores}])
    expect(page.locator("#clips h3")).to_have_text(re.compile("<script>"))
    assert page.locator("main img, main script").count() == 0
    api.fail(job_id, HOSTILE, next_step=HOSTILE)
    page.goto("/")
    expect(page.get_by_role("region", name="Recent jobs")).to_contain_text("javascript:window.broken=1")
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("#failure")).to_contain_text("<img src=x")
    assert page.evaluate("window.broken") is None


def test_every_signal_has_a_name_for_much_and_for_little_of_it(page):
    page.goto("/")
    signals = page.evaluate("import('/static/app/signals.js').then(({ SIGNALS }) => SIGNALS)")
    assert set(signals) == set(signal_names())
    assert all(much and little and much != little for much, little in signals.values())


def test_a_clip_links_its_subtitles(page, finished_job):
    page.goto(f"/jobs/{finished_job}")
    for form in ("SRT", "VTT"):
        link = clip(page, 1).get_by_role("link", name=f"Download the subtitles of clip 1 as {form}")
        expect(link).to_have_attribute("href", f"{CLIPS[0]['subtitles'][form.lower()]}/download?name=title")
    expect(clip(page, 2).get_by_text("Subtitles:")).to_have_count(0)


def test_a_clip_shows_and_links_its_poster(page, finished_job):
    page.goto(f"/jobs/{finished_job}")
    poster = CLIPS[0]["poster"].replace("kk_x", finished_job)
    expect(clip(page, 1).locator("video")).to_have_attribute("poster", poster)
    assert page.evaluate("address => fetch(address).then((answer) => answer.headers.get('content-type'))", poster) == (
        "image/jpeg"
    )
    link = clip(page, 1).get_by_role("link", name="Download the poster of clip 1")
    expect(link).to_have_attribute("href", f"{poster}/download?name=title")
    assert clip(page, 2).locator("video").get_attribute("poster") is None
    expect(clip(page, 2).get_by_text("Poster:")).to_have_count(0)


def test_all_clips_can_be_downloaded_at_once(page, finished_job):
    page.goto(f"/jobs/{finished_job}")
    link = page.get_by_role("link", name="Download all")
    expect(link).to_have_attribute("href", f"/api/jobs/{finished_job}/clips.zip")
    expect(link).to_have_attribute("download", "")


def test_a_job_without_results_offers_no_download(page, api):
    job_id = api.add()
    api.work_to(job_id, "RENDER", 0.5)
    page.goto(f"/jobs/{job_id}")
    expect(page.locator("#state")).not_to_have_text("Loading the job…")
    expect(page.get_by_role("link", name="Download all")).to_have_count(0)
