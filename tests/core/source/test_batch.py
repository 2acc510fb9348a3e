from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import ValidationError

from tasks.core.source.batch import (
    MAX_ATTEMPTS,
    BatchItem,
    BatchReport,
    BatchRequest,
    Outcome,
    is_worth_retrying,
    item_report,
    list_entries,
    list_urls,
    literal,
    markdown,
    refusal,
)

TALK = "https://example.org/talk.mp4"
FEED = "https://example.org/feed.xml"


def entry(url: str, **more: Any) -> dict[str, Any]:
    return {"url": url, **more}


def urls(entries: list[dict[str, Any]], depth: int = 50) -> list[str]:
    return [item.url for item in list_entries(entries, depth=depth, allow_private=False).items]


def test_a_batch_request_names_either_videos_or_a_feed() -> None:
    assert BatchRequest(urls=[TALK]).max_new == 1
    assert BatchRequest(feed=FEED).max_new == 5
    assert BatchRequest(feed=FEED, newest=3).max_new == 3
    for fields in ({}, {"urls": [TALK], "feed": FEED}, {"urls": []}):
        with pytest.raises(ValidationError, match="give either urls or a feed"):
            BatchRequest.model_validate(fields)


@pytest.mark.parametrize(
    "wrong",
    [
        {"feed": "file:///etc/passwd"},
        {"feed": "ytsearch10:cats"},
        {"feed": "https://user:word@example.org/feed"},
        {"feed": FEED, "newest": 0},
        {"feed": FEED, "concurrency": 0},
        {"feed": FEED, "language": "xx"},
        {"feed": FEED, "name": "Night/ly"},
        {"feed": FEED, "deployment": "clip"},
        {"feed": FEED, "wait_hours": 0},
        {"feed": FEED, "clips": 3},
    ],
)
def test_an_invalid_batch_request_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BatchRequest.model_validate(wrong)


def test_every_field_has_a_description() -> None:
    assert all(field.description for field in BatchRequest.model_fields.values())


def test_a_batchs_name_is_derived_from_the_addresses_unless_set() -> None:
    assert BatchRequest(feed=FEED).memory_name == BatchRequest(feed=FEED, clip_count=1).memory_name
    assert BatchRequest(feed=FEED).memory_name != BatchRequest(feed=FEED + "?2").memory_name
    assert BatchRequest(urls=[TALK, FEED]).memory_name == BatchRequest(urls=[FEED, TALK]).memory_name
    assert BatchRequest(feed=FEED, name="nightly").memory_name == "nightly"


def test_each_videos_request_has_the_batchs_options() -> None:
    request = BatchRequest(feed=FEED, clip_duration_seconds=30, clip_count=2, language="id").clip_request(TALK)
    assert (request.video_url, request.bounds, request.clip_count, request.language) == (TALK, (24, 30), 2, "id")


def test_items_are_newest_first_with_undated_ones_in_feed_order() -> None:
    a, b, c, d = (f"https://example.org/{name}" for name in "abcd")
    entries = [entry(a), entry(b, timestamp=1), entry(c, timestamp=2), entry(d, timestamp=float("nan"))]
    assert urls(entries) == [c, b, a, d]
    assert urls(entries, depth=3) == [c, b, a]


def test_the_same_video_counts_once() -> None:
    watch = "https://www.youtube.com/watch?v=aaaaaaaaaaa"
    assert urls(
        [entry(watch), entry("https://youtu.be/aaaaaaaaaaa?t=3"), entry("http://m.youtube.com/shorts/aaaaaaaaaaa")]
    ) == [watch]
    assert urls([entry(TALK), entry("HTTPS://EXAMPLE.org/talk.mp4#t=10"), entry("http://example.org/talk.mp4")]) == [
        TALK
    ]
    assert urls([entry(TALK, guid="1"), entry(TALK + "?token=2", guid="1")]) == [TALK]
    assert urls([entry(TALK, guid="1"), entry(TALK, guid="2")]) == [TALK]
    assert len(urls([entry(TALK + "?id=1"), entry(TALK + "?id=2")])) == 2


def test_a_video_is_recognised_by_guid_or_id_after_its_address_changes() -> None:
    def key(**more: Any) -> str:
        return list_entries([more], depth=1, allow_private=False).items[0].key

    assert key(url=TALK, guid="g") == key(url=TALK + "?signature=2", guid="g")
    assert key(url=TALK, site="Vimeo", id="7") == key(url=TALK + "?2", site="Vimeo", id="7")
    assert key(url="https://youtu.be/aaaaaaaaaaa", guid="g") == key(url="https://www.youtube.com/embed/aaaaaaaaaaa")
    assert key(url=TALK, guid="g") != key(url=TALK)


def test_unusable_items_are_left_out_with_a_reason() -> None:
    found = list_entries(
        [
            entry("file:///etc/passwd"),
            entry("http://127.0.0.1/a.mp4"),
            entry("http://[fd00::1]/a.mp4"),
            entry("http://169.254.169.254/latest/meta-data"),
            entry("https://localhost/a.mp4"),
            entry("https://user:word@example.org/a.mp4"),
            entry("https://example.org/a.mp4#__youtubedl_smuggle=%7B%7D"),
            entry("https://example.org:22/a.mp4"),
            entry("//["),
            entry(""),
            {},
            {"url": None, "title": ["x"]},
            entry("https://example.org/live", live_status="is_live"),
            entry(TALK, title="\x1b[31mA\u202etalk\n", live_status="not_live"),
        ],
        depth=50,
        allow_private=False,
    )
    assert [(item.url, item.title) for item in found.items] == [(TALK, "[31mAtalk")]
    assert len(found.left_out) == 13
    assert not [reason for reason in found.left_out if ":word" in reason]
    assert found.left_out[-1] == "https://example.org/live: It is a live stream that has not ended."


def test_private_addresses_can_be_allowed() -> None:
    assert refusal("http://127.0.0.1:8000/a.mp4", allow_private=True) is None
    assert refusal("http://127.0.0.1:8000/a.mp4", allow_private=False) is not None
    assert refusal("http://93.184.216.34/a.mp4", allow_private=False) is None


def test_a_list_of_urls_keeps_its_order() -> None:
    found = list_urls([f" {TALK}?2 ", f"{TALK}?1", "no address", f"{TALK}?2"], allow_private=False)
    assert [item.url for item in found.items] == [f"{TALK}?2", f"{TALK}?1"]
    assert len(found.left_out) == 1


def test_new_items_are_the_unknown_ones_up_to_the_limit() -> None:
    found = list_urls([f"{TALK}?{n}" for n in range(6)], allow_private=False)
    known = {found.items[0].key, found.items[2].key}
    assert [item.url[-1] for item in found.new(known, 2)] == ["1", "3"]
    assert found.new({item.key for item in found.items}, 2) == []


@given(st.lists(st.fixed_dictionaries({}, optional={
    name: st.one_of(st.none(), st.text(max_size=40), st.floats(), st.integers(), st.lists(st.integers(), max_size=2))
    for name in ("url", "title", "site", "id", "guid", "timestamp", "live_status")
}), max_size=8))  # fmt: skip
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_no_entry_stops_the_others(entries: list[dict[str, Any]]) -> None:
    found = list_entries([*entries, entry(TALK, guid="mine", timestamp=1)], depth=50, allow_private=False)
    assert [item.url for item in found.items].count(TALK) == 1
    assert len({item.key for item in found.items}) == len(found.items)


@pytest.mark.parametrize(
    ("code", "attempt", "again"),
    [
        (None, 1, True),
        ("infrastructure", 2, True),
        ("stopped", 1, True),
        ("live", 1, True),
        ("infrastructure", MAX_ATTEMPTS, False),
        (None, MAX_ATTEMPTS, False),
        ("no_speech", 1, False),
        ("bug", 1, False),
    ],
)
def test_only_transient_failures_are_retried_up_to_a_limit(code: str | None, attempt: int, *, again: bool) -> None:
    assert is_worth_retrying(code, attempt) is again


HOSTILE = (
    "<img src=x onerror=alert(1)> ![a](https://evil.example/p.png) [go](javascript:x) | `code` <https://evil.example>"
)


def report(*items: Any, **more: Any) -> BatchReport:
    return BatchReport(batch_id="1", name="nightly", source=FEED, began_at=0, items=list(items), **more)


def report_line(outcome: Outcome, title: str = "A talk", **known: Any) -> Any:
    return item_report(BatchItem(key="k", url=TALK + "?key=secret", title=title), "kk_1", outcome, **known)


def test_the_report_shows_every_items_outcome() -> None:
    text = markdown(
        report(
            report_line(Outcome.SUCCEEDED, seconds=61.5, cost_usd=0.0125),
            report_line(Outcome.FAILED, "", error="The video has no sound."),
            done_before=4,
            for_later=2,
            left_out=["file:///etc: no"],
        )
    )
    assert "1 succeeded, 1 failed; 4 done before, 2 left for later runs; 0.01 dollars." in text
    assert "| A talk | SUCCEEDED | 62 | 0.013 | 1 | `kk_1` |  |" in text
    assert "https\\:\\/\\/example\\.org\\/talk\\.mp4 | FAILED" in text
    assert "Left out: 1" in text
    assert "secret" not in text
    assert "nothing new" in markdown(report())


def test_untrusted_text_is_not_rendered_as_markdown() -> None:
    text = markdown(report(report_line(Outcome.FAILED, HOSTILE, error=HOSTILE + "\n# head"), left_out=[HOSTILE] * 30))
    shown = MarkdownIt("commonmark").enable("table").render(text)
    for mark in ("<img", "<a ", "<script", "href", "<h1"):
        assert mark not in shown
    assert shown.count("<code>") == 1, "the job's id"
    assert shown.count("<td>") == 7
    assert shown.count("<li>") == 20


@given(st.text(max_size=80))
def test_literal_text_stays_one_line_of_plain_text(words: str) -> None:
    tokens = MarkdownIt("commonmark").enable("table").parse(f"x {literal(words)} x")
    assert [token.type for token in tokens] == ["paragraph_open", "inline", "paragraph_close"]
    assert {child.type for child in tokens[1].children or []} <= {"text"}
