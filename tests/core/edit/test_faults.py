"""What is wrong with a document, by path and reason: hostile ones, and all that SELECT writes."""

import copy
import json
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.edit.document import EditDocument, edit_schema, first_revision
from tasks.core.edit.faults import MOST_FAULTS, SourceFacts, faults
from tasks.core.edl import EdlClip, Span
from tasks.core.transcript import Word

WORDS = [Word(word=f"word{i}", start=i / 2, end=i / 2 + 0.4) for i in range(1200)]
SOURCE = SourceFacts(video="a" * 64, duration=600.1, words=WORDS)
CLIPS = [EdlClip(index=i, title="t", hook="h", segments=[Span(start=50 * i, end=50 * i + 30)]) for i in (1, 2)]
GOOD = first_revision(CLIPS, SOURCE.video, WORDS).model_dump(mode="json")


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good document with one value replaced or added."""
    document: Any = copy.deepcopy(GOOD)
    *way, last = [int(step) if step.isdigit() else step for step in path.split("/")]
    at = document
    for step in way:
        at = at[step]
    at[last] = value
    return document


def without(path: str) -> dict[str, Any]:
    document = changed(path, None)
    *way, last = path.split("/")
    at: Any = document
    for step in way:
        at = at[int(step) if step.isdigit() else step]
    del at[last]
    return document


CLIP = "clips/0"
SEGMENT = f"{CLIP}/segments/0"
FULL = {"start": 50.0, "end": 80.0}
NOT_NUMBERS = [None, "5", True, [], {}, float("nan"), float("inf"), -float("inf"), -0.5, 10**400, "NaN"]
NOT_INDICES = [-1, 1200, 10**30, 1.5, "5", True, None, [1], float("nan"), "word5"]
NOT_TEXT = [None, 5, [], {"text": "x"}, "a\x00b", "a\x1b[31m", "\u202eabc", "a\nb", "\ud800", "\uffff", "x" * 5001]
NOT_SPOKEN = ["", "  ", "\u200d", "{\\an8}", "a\\Nb", "{\\p1}m 0 0", "a}", "x" * 101]
NOT_IDS = ["", "../../etc/passwd", "A", "a/b", "-x", ".", "clip 1", "clip\n", "é", "x" * 33, 1, None]
NOT_FRAMINGS = [
    None,
    "fit",
    {},
    {"kind": "zoom"},
    {"kind": "crop"},
    {"kind": "crop", "at": 2},
    {"kind": "crop", "at": 0.5, "zoom": 0.5},
    {"kind": "crop", "at": 0.5, "zoom": 3.1},
    {"kind": "crop", "at": 0.5, "zoom": float("inf")},
    {"kind": "crop", "at": 0.5, "zoom": 2, "cross": -0.1},
    {"kind": "fit", "at": 0},
    {"kind": "split", "upper": 0.2},
    {"kind": "people", "upper": 0.2, "lower": 0.8},
    {"kind": "screen", "at": 0.5},
    {"kind": "split", "upper": 0.2, "lower": 1.2},
    {"kind": "split", "upper": float("nan"), "lower": 1},
]
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    *((SEGMENT.replace("/0", "[0]").replace("/", ".") + f".{end}", changed(f"{SEGMENT}/{end}", value))
      for end in ("start", "end") for value in NOT_NUMBERS),
    *(("clips[0].words.removed[0]", changed(f"{CLIP}/words/removed", [value])) for value in NOT_INDICES),
    *(("clips[0].words.hidden[0]", changed(f"{CLIP}/words/hidden", [value])) for value in NOT_INDICES[:3]),
    *(("clips[0].words.corrected[0].index", changed(f"{CLIP}/words/corrected", [{"index": value, "text": "x"}]))
      for value in NOT_INDICES),
    *(("clips[0].words.corrected[0].text", changed(f"{CLIP}/words/corrected", [{"index": 1, "text": value}]))
      for value in (*NOT_TEXT[:-1], *NOT_SPOKEN) if value != "a\nb"),
    *((f"clips[0].{field}", changed(f"{CLIP}/{field}", value))
      for field in ("title", "hook", "description") for value in NOT_TEXT),
    *(("clips[0].hashtags[0]", changed(f"{CLIP}/hashtags", [value])) for value in NOT_TEXT[:5]),
    *(("clips[0].id", changed(f"{CLIP}/id", value)) for value in NOT_IDS),
    *(("clips[0].segments[0].framing", changed(f"{SEGMENT}/framing", value)) for value in NOT_FRAMINGS),
    *(("clips[0].ratio", changed(f"{CLIP}/ratio", value)) for value in ("16/9", "2:1", 1.5, "", [])),
    *(("clips[0].captions", changed(f"{CLIP}/captions", value)) for value in (False, "off", None, [])),
    *(("clips[0].captions", changed(f"{CLIP}/captions", {"shown": value})) for value in ("no", 0, None)),
    *(("clips[0].captions.preset", changed(f"{CLIP}/captions", {"preset": value}))
      for value in ("", "Classic", "../classic", None, 1, ["box"], "{\\an8}")),
    *(("clips[0].captions.position", changed(f"{CLIP}/captions", {"position": value}))
      for value in ("", "top", 0.5, True, {"y": 1}, float("nan"))),
    *((f"clips[0].{switch}", changed(f"{CLIP}/{switch}", value))
      for switch in ("hook_overlay", "tighten") for value in ("yes", 1, None, [True])),
    *(("version", changed("version", value)) for value in (0, 2, "1", None, True)),
    *(("revision", changed("revision", value)) for value in (0, -1, 10**9, 1.5, "1", None)),
    *(("source.video", changed("source/video", value)) for value in ("b" * 64, "A" * 64, "../x", "", None)),
    ("source.words", changed("source/words", "b" * 64)),
    *(("source", changed("source", value)) for value in (None, "x", [], 5)),
    *(("clips", changed("clips", value)) for value in (None, "x", {}, 5, [])),
    ("clips", changed("clips", [{**GOOD["clips"][0], "id": f"c{i}"} for i in range(11)])),
    ("clips[1].id", changed("clips/1/id", "clip-1")),
    *(("clips[0].segments", changed(f"{CLIP}/segments", value)) for value in (None, {}, [], "x", [FULL] * 31)),
    *(("clips[0].segments[0]", changed(SEGMENT, value)) for value in (None, [1, 2], "1-2", 5)),
    ("clips[0].segments[0].end", changed(f"{SEGMENT}/end", 812.4)),
    ("clips[0].segments[0].end", changed(f"{SEGMENT}/end", 50.0)),
    ("clips[0].segments[0].end", changed(f"{SEGMENT}/end", 1.0)),
    ("clips[0].segments[0]", changed(f"{SEGMENT}/end", 50.05)),
    ("clips[0].segments[1]", changed(f"{CLIP}/segments", [FULL, {"start": 79.9, "end": 90}])),
    ("clips[0].segments[2]", changed(f"{CLIP}/segments", [FULL, {"start": 90, "end": 93}, {"start": 60, "end": 61}])),
    ("clips[0]", changed(f"{CLIP}/segments", [{"start": 0, "end": 200}])),
    ("clips[0]", changed(f"{CLIP}/segments", [{"start": 0, "end": 0.9}])),
    ("clips[0]", changed(f"{CLIP}/words/removed", list(range(100, 160)))),
    ("clips[0].words.removed[1]", changed(f"{CLIP}/words/removed", [120, 120])),
    ("clips[0].words.corrected[1].index", changed(f"{CLIP}/words/corrected", [{"index": 5, "text": "x"}] * 2)),
    ("clips[0].words", changed(f"{CLIP}/words", [])),
    ("clips[0].words.said", changed(f"{CLIP}/words/said", [])),
    ("clips[0].path", changed(f"{CLIP}/path", "/etc/passwd")),
    ("job_id", changed("job_id", "kk_1")),
    *((path.replace("/0", "[0]").replace("/", "."), without(path))
      for path in ("version", "revision", "source", "clips", "source/words", f"{CLIP}/id", f"{CLIP}/segments",
                   f"{SEGMENT}/start", f"{SEGMENT}/end")),
]  # fmt: skip


def test_what_select_writes_has_no_fault():
    assert faults(GOOD, SOURCE) == []
    jsonschema.validate(GOOD, edit_schema())


@pytest.mark.parametrize(("path", "document"), HOSTILE, ids=[f"{i}-{path}" for i, (path, _) in enumerate(HOSTILE)])
def test_a_hostile_document_is_refused_by_path_and_reason(path: str, document: dict[str, Any]):
    found = faults(document, SOURCE)
    assert found
    for fault in found:
        at, _, reason = fault.partition(": ")
        assert at.startswith(path), fault
        assert 5 < len(reason) < 250
        assert fault.isprintable()


def test_there_are_a_hundred_hostile_documents():
    assert len(HOSTILE) >= 100


@pytest.mark.parametrize("content", [None, 5, "x", [], [GOOD], float("nan"), {}, {"clips": [[]]}, json.dumps(GOOD)])
def test_what_is_no_document_is_refused(content: object):
    assert faults(content, SOURCE)


def test_everything_is_answered_at_once_with_path_and_reason():
    document = changed("clips/1/segments", [{"start": 5, "end": 812.4}, {"start": -1, "end": 3}])
    document["clips"][0]["segments"][0]["end"] = 812.4
    document["clips"][0]["words"]["removed"] = [99999]
    document["source"]["words"] = "0" * 64
    assert faults(document, SOURCE) == [
        "clips[1].segments[1].start: must be at least 0",
        "source.words: is not the digest of this job's words, so their indices may mean others",
        "clips[0].segments[0].end: 812.4 lies after the source's end, 600.1",
        "clips[0].words.removed[0]: there is no word 99999; the source has 1200",
    ]


def test_a_clip_may_not_fall_into_more_parts_than_can_be_drawn():
    document = changed(f"{CLIP}/segments", [{"start": 50, "end": 90}])
    document["clips"][0]["words"]["removed"] = list(range(101, 159, 2))
    assert faults(document, SOURCE) == []
    document["clips"][0]["words"]["removed"] = list(range(101, 161, 2))
    assert faults(document, SOURCE) == ["clips[0]: falls into 31 parts without the removed words; at most 30"]


VAST = {
    "segments": changed(f"{CLIP}/segments", [FULL] * 1_000_000),
    "clips": changed("clips", [{}] * 1_000_000),
    "unknown fields": changed("source", {str(i): i for i in range(100_000)}),
    "long names": changed("a" * 1_000_000, 1),
    "long text": changed(f"{CLIP}/title", "\x00" * 1_000_000),
    "words": changed(f"{CLIP}/words/removed", [7] * 5000),
    "numbers": changed(f"{SEGMENT}/end", int("9" * 4000)),
    "deep": changed(f"{CLIP}/title", json.loads("[" * 900 + "]" * 900)),
}


@pytest.mark.parametrize("name", VAST)
def test_a_vast_document_is_refused_quickly_and_briefly(name: str):
    began = time.process_time()
    found = faults(VAST[name], SOURCE)
    assert 0 < len(found) <= MOST_FAULTS + 1
    assert sum(map(len, found)) < 30_000
    assert time.process_time() - began < 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
PLACES = [
    *("version", "revision", "source", "source/video", "clips", "clips/0", "clips/1", f"{CLIP}/id", f"{CLIP}/title"),
    *(f"{CLIP}/hashtags", f"{CLIP}/segments", SEGMENT, f"{SEGMENT}/start", f"{SEGMENT}/framing", f"{CLIP}/words"),
    *(f"{CLIP}/words/removed", f"{CLIP}/words/corrected", f"{CLIP}/ratio", f"{CLIP}/captions", f"{CLIP}/new"),
]  # fmt: skip


@settings(max_examples=100)
@given(st.sampled_from(PLACES), JSON)
def test_any_value_anywhere_is_refused_or_valid_but_never_an_error(place: str, value: Any):
    document = changed(place, value)
    found = faults(document, SOURCE)
    if not found:
        EditDocument.model_validate(document)
        jsonschema.validate(document, edit_schema())
