"""The editor of a clip in a real browser, with the real API: words, ends, picture, preview, undo and drafts."""

import json
import math
import os
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from deployments.api.routes import pages
from infra.jobs.record import Report
from infra.states import JobState
from tasks.core.edl import EdlClip, Span
from tasks.core.media import MediaInfo
from tasks.core.object_keys import job_key
from tasks.core.transcript import Word
from tests.deployments.api.conftest import serve  # noqa: F401 - a fixture
from tests.deployments.web.browser import reduce_colours, screenshot, window
from tests.deployments.web.conftest import SHORT
from tests.deployments.web.test_looks import LOOKS, SEVERE_IMPACTS
from tests.editable_job import Talk, store_published
from tests.folders import MEDIA, ROOT

pytestmark = pytest.mark.long

SAMPLE = json.loads((MEDIA / "short.json").read_text())
WORDS = [Word(**word) for word in SAMPLE["words"]]
SPANS = [[(5.2, 17.0)], [(25.0, 29.0), (5.2, 9.0)]]
HOSTILE = '<img src=x onerror="window.broken=1">'


def place(text: str, after: int = 0) -> int:
    """The index of a word of the sample."""
    return next(i for i, word in enumerate(WORDS) if i >= after and word.word == text)


@pytest.fixture(scope="module")
def served(serve):  # noqa: F811 - the fixture
    return serve()


@pytest.fixture(scope="module")
def talk(upright_clip):
    """The short sample with two clips; the second has two parts, in another order than in the source."""
    chosen = [
        EdlClip(
            index=index,
            title=title,
            hook="You carry a phone that you cannot open.",
            hashtags=["repair"],
            segments=[Span(start=start, end=end, text="said") for start, end in spans],
        )
        for index, title, spans in zip((1, 2), ("Open it", HOSTILE), SPANS, strict=True)
    ]
    info = MediaInfo(
        duration=SAMPLE["duration"], size_bytes=SHORT.stat().st_size, container="mp4", width=1280, height=720, fps=25
    )
    return Talk(SHORT.read_bytes(), info, WORDS, chosen, upright_clip.read_bytes())


def finished(served, talk) -> str:
    job_id = served.new_job()
    store_published(job_id, served.bucket, talk=talk)
    assert served.jobs.report(Report(job_id=job_id, status=JobState.SUCCEEDED, progress=100))
    return job_id


@pytest.fixture(scope="module")
def job_id(served, talk):
    """A finished job that no test changes."""
    return finished(served, talk)


@pytest.fixture
def page(browser, served):
    with window(browser, url=served.url) as opened:
        yield opened


@pytest.fixture
def editor(page, job_id):
    return edit(page, job_id)


def edit(page: Page, job_id: str, clip: int = 1) -> Page:
    page.goto(f"/jobs/{job_id}/edit?clip={clip}")
    expect(page.locator("#desk")).to_be_visible()
    return page


def word(page: Page, index: int):
    return page.locator(f'.word[data-index="{index}"]')


def select(page: Page, first: int, last: int):
    word(page, first).click()
    word(page, last).click(modifiers=["Shift"])


def button(page: Page, name: str):
    return page.get_by_role("button", name=name, exact=True)


def draft(page: Page) -> dict:
    """The clip as this browser keeps it; {} if nothing has changed."""
    kept = page.evaluate("Object.entries(localStorage).filter(([name]) => name.startsWith('kangklip.draft'))")
    return json.loads(kept[0][1])["clip"] if kept else {}


def inside(page: Page) -> list[int]:
    """The words in the clip, by index."""
    found = page.locator('.word[data-states~="inside"]').evaluate_all("all => all.map((one) => +one.dataset.index)")
    return sorted(found)


def drag(page: Page, start, to):
    one, other = start.bounding_box(), to.bounding_box()
    page.mouse.move(one["x"] + one["width"] / 2, one["y"] + one["height"] / 2)
    page.mouse.down()
    page.mouse.move(other["x"] + other["width"] / 2, other["y"] + other["height"] / 2, steps=4)
    page.mouse.up()


def test_each_clip_leads_to_its_editor_and_back(page, job_id):
    page.goto(f"/jobs/{job_id}")
    page.get_by_role("link", name="Edit clip 2").click()
    page.wait_for_url(f"**/jobs/{job_id}/edit?clip=2")
    expect(page.get_by_role("heading", level=1)).to_have_text(HOSTILE)
    assert page.locator('main img[src="x"]').count() == 0, "strangers' text is never HTML"
    page.get_by_role("link", name="Back to the clips").click()
    page.wait_for_url(f"**/jobs/{job_id}")
    expect(page.get_by_role("link", name="Edit clip 1")).to_be_visible()


def test_the_policy_allows_the_bucket_for_the_source_and_nothing_else(served, job_id):
    answer = served.get(f"/jobs/{job_id}/edit")
    bucket = served.settings.r2_endpoint.rstrip("/")
    usual = pages.HEADERS["Content-Security-Policy"]
    assert answer.headers["content-security-policy"] == usual.replace("media-src 'self'", f"media-src 'self' {bucket}")
    assert served.get("/jobs/nonsense/edit").status_code == 404


def test_the_words_of_the_clip_stand_out_from_those_around_it(editor):
    expect(editor.get_by_role("option")).to_have_count(len(WORDS))
    expected = [i for i, w in enumerate(WORDS) if 5.2 <= (w.start + w.end) / 2 < 17.0]
    assert inside(editor) == expected
    colour = "one => getComputedStyle(one).backgroundColor"
    assert word(editor, expected[0]).evaluate(colour) != word(editor, expected[0] - 1).evaluate(colour)
    expect(editor.locator("#facts")).to_have_text("Clip 1 of 2 · 11.8 s")
    expect(button(editor, "Render clip")).to_have_attribute("aria-disabled", "true")


def test_each_turn_begins_a_paragraph_that_names_its_speaker(page, served, talk):
    words = [word.model_copy(update={"speaker": 1 + (i // 20) % 2}) for i, word in enumerate(talk.words)]
    editor = edit(page, finished(served, replace(talk, words=words)))
    turns = editor.locator(".words p:has(.who)")
    expect(turns).to_have_count(math.ceil(len(words) / 20))
    names = turns.locator(".who").all_inner_texts()
    assert names == [f"Speaker {1 + n % 2}" for n in range(len(names))]
    first = turns.locator(".at + .word").evaluate_all("all => all.map((one) => +one.dataset.index)")
    assert first == list(range(0, len(words), 20))
    expect(word(editor, 20)).to_have_attribute("aria-description", "Speaker 2")
    expect(word(editor, 21)).not_to_have_attribute("aria-description", "Speaker 2")


def test_the_ends_move_by_word_and_by_frame_outward_too(editor):
    first, last = inside(editor)[0], inside(editor)[-1]
    button(editor, "Start one word earlier").click()
    assert inside(editor)[0] == first - 1
    start = editor.get_by_role("slider", name="Start of the clip")
    start.focus()
    editor.keyboard.press("ArrowRight")
    editor.keyboard.press("ArrowRight")
    assert inside(editor)[0] == first + 1
    before = float(start.get_attribute("aria-valuenow"))
    editor.keyboard.press("Shift+ArrowRight")
    assert float(start.get_attribute("aria-valuenow")) - before == pytest.approx(1 / 30, abs=0.01)
    assert f"before “{WORDS[first + 1].word}”" in start.get_attribute("aria-valuetext")
    button(editor, "End one word later").click()
    button(editor, "End one word later").click()
    assert inside(editor)[-1] == last + 2
    expect(editor.locator("#announcement")).to_have_text("Move the end.")


def test_a_handle_is_dragged_in_the_text(editor):
    last = inside(editor)[-1]
    drag(editor, editor.locator('.handle[data-side="end"]'), word(editor, last + 6))
    assert inside(editor)[-1] == last + 6
    drag(editor, editor.locator('.handle[data-side="start"]'), word(editor, last))
    assert inside(editor) == list(range(last, last + 7))
    button(editor, "Undo").click()
    assert inside(editor)[0] < last, "a drag is undone in one step"


def test_the_selected_words_can_be_the_ends(editor):
    word(editor, 3).click()
    button(editor, "Start here").click()
    word(editor, 8).click()
    editor.keyboard.press("]")
    assert inside(editor) == list(range(3, 9))


def test_a_sentence_is_cut_out_and_put_back(editor):
    phone = place("phone")
    word(editor, phone).click()
    editor.keyboard.press("s")
    expect(editor.locator("#chosen")).to_contain_text("“You carry a phone that you cannot open.” · 8 words")
    button(editor, "Cut out").click()
    expect(editor.locator('.word[data-states~="removed"]')).to_have_count(8)
    expect(word(editor, phone)).to_have_css("text-decoration-line", "line-through")
    expect(word(editor, phone)).to_have_accessible_name("phone, cut out")
    expect(editor.locator("#facts")).not_to_contain_text("11.8 s")
    assert len(draft(editor)["words"]["removed"]) == 8
    button(editor, "Put back").click()
    expect(editor.locator("#facts")).to_contain_text("11.8 s")
    assert draft(editor) == {}, "nothing is left to keep"


def test_words_are_hidden_and_corrected_by_keyboard(editor):
    phone = place("phone")
    word(editor, phone - 2).click()
    editor.keyboard.press("Shift+ArrowRight")
    editor.keyboard.press("h")
    assert draft(editor)["words"]["hidden"] == [phone - 2, phone - 1]
    expect(word(editor, phone - 1)).to_have_accessible_name("a, hidden in the captions")
    editor.keyboard.press("ArrowRight")
    editor.keyboard.press("Enter")
    editor.keyboard.type("  smart phone ")
    editor.keyboard.press("Enter")
    expect(word(editor, phone)).to_have_text("smart phone")
    expect(word(editor, phone)).to_be_focused()
    expect(word(editor, phone)).to_have_accessible_name("smart phone, corrected from phone")
    assert draft(editor)["words"]["corrected"] == [{"index": phone, "text": "smart phone"}]
    editor.keyboard.press("Enter")
    button(editor, "Use what was heard").click()
    assert draft(editor)["words"]["corrected"] == []


@pytest.mark.soak
def test_a_correction_of_several_words_keeps_their_number(editor):
    phone = place("phone")
    select(editor, phone, phone + 1)
    button(editor, "Correct").click()
    editor.keyboard.type("one two three")
    editor.keyboard.press("Enter")
    expect(editor.get_by_role("alert").filter(has_text="Keep 2 words")).to_be_visible()
    editor.get_by_label("Written in captions").fill("flip fone")
    editor.keyboard.press("Enter")
    assert [entry["text"] for entry in draft(editor)["words"]["corrected"]] == ["flip", "fone"]


def test_texts_and_picture_are_changed(editor):
    editor.get_by_label("Title", exact=True).fill("A new title")
    expect(editor.get_by_role("heading", level=1)).to_have_text("A new title")
    editor.get_by_label("Hashtags").fill("#repair #own it")
    editor.get_by_role("radio", name="1:1").check()
    editor.get_by_role("radio", name="Punch").check()
    editor.get_by_role("checkbox", name="Captions in the picture").uncheck()
    editor.get_by_role("radio", name="Fixed").check()
    kept = draft(editor)
    assert (kept["title"], kept["ratio"], kept["hashtags"]) == ("A new title", "1:1", ["repair", "own", "it"])
    assert (kept["captions"]["preset"], kept["captions"]["shown"]) == ("punch", False)
    crop = editor.get_by_role("slider", name="Middle of the crop")
    crop.focus()
    editor.keyboard.press("Shift+ArrowRight")
    assert draft(editor)["segments"][0]["framing"] == {"kind": "crop", "at": pytest.approx(0.6)}
    editor.locator("#stage").hover()
    stage = editor.locator("#stage").bounding_box()
    editor.mouse.down()
    editor.mouse.move(stage["x"] + stage["width"] / 2 + 40, stage["y"] + stage["height"] / 2, steps=3)
    editor.mouse.up()
    assert draft(editor)["segments"][0]["framing"]["at"] < 0.6, "the picture follows the pointer"
    width, height = editor.locator("#stage").evaluate("stage => [stage.clientWidth, stage.clientHeight]")
    assert width == pytest.approx(height, abs=1)


def test_a_fixed_picture_is_zoomed_and_moved_both_ways(editor):
    editor.get_by_role("radio", name="Whole").check()
    expect(editor.locator("#zoom")).to_be_hidden()
    editor.get_by_role("radio", name="Fixed").check()
    zoom = editor.get_by_role("slider", name="Zoom")
    zoom.fill("2")
    crop = editor.get_by_role("slider", name="Middle of the crop")
    crop.press("ArrowDown")
    crop.press("Shift+ArrowRight")
    framing = {"kind": "crop", "zoom": 2, "at": pytest.approx(0.6), "cross": pytest.approx(0.51)}
    assert draft(editor)["segments"][0]["framing"] == framing
    expect(editor.locator("#stage")).to_have_attribute("data-framing", "zoomed")
    shown, whole = crop.bounding_box(), editor.locator(".cropper").bounding_box()
    assert shown["height"] == pytest.approx(whole["height"] / 2, abs=2)
    editor.locator("#stage").hover()
    stage = editor.locator("#stage").bounding_box()
    editor.mouse.down()
    editor.mouse.move(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2 + 60, steps=3)
    editor.mouse.up()
    moved = draft(editor)["segments"][0]["framing"]
    assert moved["at"] == pytest.approx(0.6)
    assert moved["cross"] < 0.5, "the picture follows the pointer"
    screenshot(editor, "editor-zoomed")
    zoom.fill("1")
    assert "zoom" not in draft(editor)["segments"][0]["framing"]
    button(editor, "Undo").click()
    assert draft(editor)["segments"][0]["framing"] == moved


def test_the_preview_follows_as_the_rendered_clip_does_and_says_where_that_is_not_known(page, served, talk):
    """The camera of the rendered clip has shown the left edge until 10 s, and then the right one."""
    job_id = finished(served, talk)
    crop = {"layout": "still", "crop_width": 406, "crop_height": 720}
    shots = [
        crop | {"start": start, "end": end, "keys": [{"t": start, "x": x, "y": 0}]}
        for start, end, x in ((5.2, 10.0, 0), (10.0, 17.0, 874))
    ]
    served.bucket.put_json(job_key(job_id, "face_log.json"), {"clips": [{"index": 1, "shots": shots}]})
    edit(page, job_id)
    source, stage, hint = (page.locator(f"#{name}") for name in ("source", "stage", "preview-hint"))
    expect(source).to_have_js_property("readyState", 4)
    expect(stage).to_have_attribute("data-framing", "followed")
    expect(hint).to_have_text("")
    assert unlike(stage, 5.2, 0) < 12 < unlike(stage, 5.2, 874)
    page.locator("#clock").fill("8")
    for _ in range(100):
        if source.evaluate("video => video.currentTime > 13 && !video.seeking"):
            break
        page.wait_for_timeout(100)
    page.wait_for_timeout(300)
    assert unlike(stage, 13.2, 874) < 12 < unlike(stage, 13.2, 0)
    button(page, "End one word later").click()
    expect(hint).to_contain_text("where nothing has been rendered yet")
    page.get_by_role("radio", name="1:1").check()
    expect(hint).to_have_text("The preview shows the middle. The rendered clip follows whoever speaks.")
    expect(stage).to_have_attribute("data-framing", "auto")


@pytest.mark.parametrize("part", [{}, {"crop_width": 900, "crop_height": 720, "keys": [{"t": 5.2, "x": 100, "y": 0}]}])
def test_the_preview_fits_in_the_part_of_the_picture_that_was_fitted_in(page, served, talk, part):
    job_id = finished(served, talk)
    shot = {"layout": "fit", "start": 5.2, "end": 17.0} | part
    served.bucket.put_json(job_key(job_id, "face_log.json"), {"clips": [{"index": 1, "shots": [shot]}]})
    edit(page, job_id)
    stage = page.locator("#stage")
    expect(page.locator("#source")).to_have_js_property("readyState", 4)
    expect(stage).to_have_attribute("data-framing", "fitted" if part else "fit")
    page.wait_for_timeout(300)
    shown = cv2.imdecode(np.frombuffer(stage.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    width, left = (900, 100) if part else (1280, 0)
    high = round(shown.shape[1] * 720 / width)
    top = (shown.shape[0] - high) // 2
    inside = shown[top : top + high]
    wanted = frame_of(5.2)[:, left : left + width]
    other = frame_of(5.2)[:, 1280 - width :] if part else np.roll(wanted, 300, axis=1)
    assert distance(inside, wanted) < 12 < distance(inside, other)
    assert shown[: top - 8].std() < wanted.std(), "a blurred and darkened copy is above it"


def test_the_preview_shows_a_screen_above_its_face_where_that_was_rendered(page, served, talk):
    job_id = finished(served, talk)
    document = served.bucket.get_json(job_key(job_id, "edit.json"))
    for part in document["clips"][0]["segments"]:
        part["framing"] = {"kind": "screen"}
    served.bucket.put_json(job_key(job_id, "edit.json"), document)
    crop = {"crop_width": 296, "crop_height": 360, "keys": [{"t": 5.2, "x": 260, "y": 60}]}
    shot = {"layout": "screen", "start": 5.2, "end": 17.0} | crop
    served.bucket.put_json(job_key(job_id, "face_log.json"), {"clips": [{"index": 1, "shots": [shot]}]})
    edit(page, job_id)
    stage = page.locator("#stage")
    expect(page.locator("#source")).to_have_js_property("readyState", 4)
    expect(stage).to_have_attribute("data-framing", "followed")
    expect(page.locator("#preview-hint")).to_be_empty()
    page.wait_for_timeout(300)
    shown = cv2.imdecode(np.frombuffer(stage.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    edge = round(shown.shape[1] * 720 / 1280)
    whole, face = frame_of(5.2), frame_of(5.2)[60:420, 260:556]
    assert distance(shown[:edge], whole) < 12 < distance(shown[:edge], face)
    assert distance(shown[edge:], face) < 12 < distance(shown[edge:], whole)
    screenshot(page, "editor-screen", whole=False)
    page.get_by_role("radio", name="4:5").check()
    expect(stage).to_have_attribute("data-framing", "fit")
    expect(page.locator("#preview-hint")).to_contain_text("if it is 9:16")


def frame_of(seconds: float) -> np.ndarray:
    source = cv2.VideoCapture(str(SHORT))
    source.set(cv2.CAP_PROP_POS_MSEC, 1000 * seconds)
    return source.read()[1]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean difference in grey levels, without what captions may cover."""
    small = [cv2.resize(each, (48, 48)).astype(int)[2:30] for each in (one, other)]
    return float(np.abs(small[0] - small[1]).mean())


def unlike(stage: Locator, seconds: float, left: int) -> float:
    """Mean difference, in grey levels, of the preview's upper half from a column of the source's picture."""
    shown = cv2.imdecode(np.frombuffer(stage.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    source = cv2.VideoCapture(str(SHORT))
    source.set(cv2.CAP_PROP_POS_MSEC, 1000 * seconds)
    _, frame = source.read()
    small = [cv2.resize(one, (36, 64)).astype(int)[4:32, 4:32] for one in (shown, frame[:, left : left + 406])]
    return float(np.abs(small[0] - small[1]).mean())


@pytest.mark.soak
def test_two_people_are_shown_one_above_the_other(editor):
    expect(editor.locator("#source")).to_have_js_property("readyState", 4)
    editor.get_by_role("radio", name="Two").check()
    upper = editor.get_by_role("slider", name="Middle of the upper part")
    upper.press("Shift+ArrowRight")
    assert draft(editor)["segments"][0]["framing"] == {"kind": "split", "upper": pytest.approx(0.35), "lower": 0.75}
    box = upper.bounding_box()
    editor.mouse.move(box["x"] + 10, box["y"] + 10)
    editor.mouse.down()
    editor.mouse.move(box["x"] - 20, box["y"] + 10, steps=3)
    editor.mouse.up()
    assert draft(editor)["segments"][0]["framing"]["upper"] < 0.35
    halves = editor.locator("#halves")
    expect(halves).to_have_css("visibility", "visible")
    assert halves.evaluate("one => [one.width, one.height]") == [360, 640]


def test_each_part_of_a_clip_has_its_own_ends_and_framing(page, job_id):
    edit(page, job_id, clip=2)
    page.get_by_role("radio", name="Part 2").check()
    expect(page.get_by_role("slider", name="Start of part 2")).to_have_text("0:05.20")
    page.get_by_role("radio", name="Whole").check()
    assert [part["framing"]["kind"] for part in draft(page)["segments"]] == ["auto", "fit"]
    button(page, "End one word later").click()
    assert draft(page)["segments"][0]["end"] == 29.0
    assert draft(page)["segments"][1]["end"] > 9.0


def test_the_preview_plays_the_source_without_what_is_cut(editor):
    """The picture's clock jumps over the removed words, and stops at the end."""
    source = editor.locator("#source")
    expect(source).to_have_js_property("readyState", 4)
    assert source.evaluate("video => video.currentTime") == pytest.approx(5.2, abs=0.05)
    select(editor, place("You"), place("open.", place("You")))
    button(editor, "Cut out").click()
    gone = [WORDS[place("carry")].start, WORDS[place("cannot")].end]
    editor.evaluate("""() => {
        window.seen = [];
        const video = document.getElementById("source");
        const look = () => { if (!video.seeking) window.seen.push(video.currentTime); requestAnimationFrame(look); };
        look();
    }""")
    button(editor, "Play").click()
    expect(editor.locator("#caption")).to_contain_text("drive")
    heard = editor.evaluate("window.seen")
    assert not [at for at in heard if gone[0] + 0.1 < at < gone[1] - 0.1]
    slider = editor.get_by_role("slider", name="Position in the clip")
    slider.evaluate("one => { one.value = one.max - 0.4; one.dispatchEvent(new Event('input')); }")
    expect(button(editor, "Play")).to_be_visible()
    assert source.evaluate("video => video.currentTime") == pytest.approx(17.0, abs=0.15)


def test_captions_are_drawn_over_the_preview(editor):
    editor.get_by_role("slider", name="Position in the clip").evaluate(
        "one => { one.value = 1.95; one.dispatchEvent(new Event('input')); }"
    )
    caption = editor.locator("#caption")
    expect(caption).to_have_text(re.compile("You carry a phone"))
    editor.get_by_role("checkbox", name="Show the hook").check()
    expect(editor.locator("#card")).to_have_text("You carry a phone that you cannot open.")
    assert draft(editor)["hook_overlay"] is True
    word(editor, place("phone")).click()
    editor.keyboard.press("h")
    expect(caption).not_to_contain_text("phone")
    editor.get_by_role("checkbox", name="Captions in the picture").uncheck()
    expect(caption).to_be_empty()


def test_what_the_browser_cannot_play_is_said_and_the_rest_works(page, job_id):
    page.route("**/source", lambda route: route.fulfill(status=200, content_type="video/mp4", body="not a film"))
    edit(page, job_id)
    expect(page.locator("#unplayable")).to_contain_text("This browser cannot play the source video.")
    page.unroute("**/source")
    page.route("**/source", lambda route: route.fulfill(status=404, json={"detail": "source is gone"}))
    edit(page, job_id)
    expect(page.locator("#unplayable")).to_contain_text("The source video is no longer stored.")
    button(page, "End one word later").click()
    assert draft(page)["segments"][0]["end"] > 17.0


def test_undo_and_redo_by_keyboard_and_button(editor):
    title = editor.get_by_label("Title", exact=True)
    title.fill("Another")
    word(editor, place("phone")).click()
    button(editor, "Cut out").click()
    editor.keyboard.press("Control+z")
    expect(editor.locator("#announcement")).to_have_text("Undone: Cut out: 1 word.")
    expect(editor.locator('.word[data-states~="removed"]')).to_have_count(0)
    title.focus()
    editor.keyboard.press("Control+z")
    expect(title).to_have_value("Open it")
    expect(button(editor, "Undo")).to_have_attribute("aria-disabled", "true")
    editor.keyboard.press("Control+Shift+z")
    button(editor, "Redo").click()
    expect(title).to_have_value("Another")
    expect(editor.locator('.word[data-states~="removed"]')).to_have_count(1)
    editor.get_by_role("button", name="Undo all changes").click()
    expect(title).to_have_value("Open it")
    button(editor, "Undo").click()
    expect(title).to_have_value("Another")


def test_a_reload_keeps_everything(editor):
    editor.get_by_label("Title", exact=True).fill("Kept")
    word(editor, place("phone")).click()
    button(editor, "Cut out").click()
    button(editor, "End one word later").click()
    before = draft(editor)
    editor.reload()
    expect(editor.get_by_role("heading", level=1)).to_have_text("Kept")
    expect(editor.locator('.word[data-states~="removed"]')).to_have_count(1)
    expect(editor.locator("#announcement")).to_contain_text("still here")
    assert draft(editor) == before
    button(editor, "Undo").click()
    expect(editor.get_by_role("heading", level=1)).to_have_text("Open it")


def test_faults_appear_at_their_controls_while_one_edits(editor):
    title = editor.get_by_label("Title", exact=True)
    title.fill("hidden \u202e mark")
    summary = editor.locator("#faults")
    expect(summary).to_have_text(re.compile(r"^One thing to fix .* Title: must not contain U\+202E\.$"))
    expect(title).to_have_attribute("aria-invalid", "true")
    expect(editor.locator("#text-title-error")).to_have_text("This must not contain U+202E.")
    title.fill("Fine")
    expect(summary).to_be_empty()
    expect(title).not_to_have_attribute("aria-invalid", "true")
    select(editor, inside(editor)[0], inside(editor)[-1])
    button(editor, "Cut out").click()
    expect(summary).to_contain_text("Clip: plays 0.")
    expect(editor.get_by_role("group", name="End")).to_contain_text("the shortest clip lasts 1 s")
    editor.keyboard.press("Control+z")
    expect(summary).to_be_empty()


def test_a_job_that_cannot_be_edited_says_why(page, served, job_id):
    for path, reason in [
        (f"/jobs/{served.new_job()}/edit", "has not finished"),
        (f"/jobs/{job_id}/edit?clip=9", "This job has no clip 9."),
        ("/jobs/nonsense/edit", "does not exist"),
    ]:
        page.goto(path)
        expect(page.get_by_role("alert").filter(has_text=reason)).to_be_visible()
        expect(page.get_by_role("heading", level=1)).to_have_text("This clip cannot be edited")


@pytest.mark.parametrize(("width", "viewport", "scheme"), LOOKS)
def test_the_editor_is_accessible(browser, served, job_id, width, viewport, scheme):
    touch = width == "phone"
    look = {"viewport": viewport, "has_touch": touch, "color_scheme": scheme, "reduced_motion": "reduce"}
    with window(browser, url=served.url, **look) as page:
        edit(page, job_id)
        expect(page.locator("#source")).to_have_js_property("readyState", 4)
        page.get_by_role("radio", name="Fixed").check()
        (word(page, place("phone")).tap if touch else word(page, place("phone")).click)()
        button(page, "Whole sentence").click()
        button(page, "Cut out").click()
        word(page, place("future.")).click()
        button(page, "Correct").click()
        screenshot(page, f"editor-{width}-{scheme}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it is cut off"
        found = Axe().run(page).response
        grave = [
            (item["id"], [node["html"] for node in item["nodes"]])
            for item in found["violations"]
            if item["impact"] in SEVERE_IMPACTS
        ]
        assert not grave, grave


def test_nothing_is_cut_off_in_a_narrow_window_with_large_text(browser, served, job_id):
    with window(browser, url=served.url, viewport={"width": 320, "height": 640}) as page:
        edit(page, job_id, clip=2)
        word(page, place("phone")).click()
        page.evaluate("document.documentElement.style.fontSize = '24px'")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.skipif(os.environ.get("KANGKLIP_DRAW_DOCS") != "1", reason="draws docs/img only when asked to")
def test_draw_the_readmes_picture(browser, served, job_id):
    with window(browser, url=served.url, viewport={"width": 1280, "height": 900}, reduced_motion="reduce") as page:
        edit(page, job_id)
        expect(page.locator("#source")).to_have_js_property("readyState", 4)
        page.get_by_role("radio", name="Fixed").check()
        page.get_by_role("slider", name="Middle of the crop").press("Shift+ArrowLeft")
        page.get_by_role("slider", name="Middle of the crop").press("Shift+ArrowLeft")
        word(page, place("phone")).click()
        button(page, "Whole sentence").click()
        button(page, "Cut out").click()
        word(page, place("future.")).click()
        page.get_by_role("slider", name="Position in the clip").evaluate(
            "one => { one.value = 2.6; one.dispatchEvent(new Event('input')); }"
        )
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(500)  # until the frame is drawn
        target = ROOT / "docs" / "img" / "page-editor.png"
        reduce_colours(screenshot(page, "page-editor", whole=False), target)
        assert target.stat().st_size < 150_000
