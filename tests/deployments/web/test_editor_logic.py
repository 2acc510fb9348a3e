"""The editor's pure modules, in the browser: what is played, captions, geometry, undo, drafts and faults."""

import json
import random

import pytest
from playwright.sync_api import Page

from tasks.core.captions.presets import PRESETS
from tasks.core.edit.cuts import SourceWords, played
from tasks.core.edit.document import EditSegment, edit_schema
from tasks.core.transcript import Word
from tests.deployments.web.browser import window

MODULES = (
    "spoken",
    "changes",
    "playing",
    "captions",
    "crop",
    "history",
    "merge",
    "faults",
    "schema",
    "clock",
    "camera",
)


@pytest.fixture(scope="module")
def logic(browser, stand_in):
    """A page in which the modules are globals."""
    stand_in.reset()
    if not stand_in.is_up:
        stand_in.start()
    with window(browser, url=stand_in.url) as page:
        page.goto("/")
        for name in MODULES:
            page.evaluate(f"import('/static/app/editor/{name}.js').then((all) => Object.assign(window, all))")
        yield page


def run(page: Page, script: str, **values: object) -> object:
    """The value of a script's expression with `values` in scope."""
    return page.evaluate(f"({{{', '.join(values)}}}) => {script}", values)


def words(*said: tuple[str, float, float]) -> list[dict[str, object]]:
    return [{"text": text, "start": start, "end": end} for text, start, end in said]


def clip(*segments: tuple[float, float], **changes: object) -> dict[str, object]:
    listed = [{"start": start, "end": end, "framing": {"kind": "auto"}} for start, end in segments]
    lists = {"corrected": [], "hidden": [], "removed": []}
    return {"id": "clip-1", "segments": listed, "words": lists, "captions": {"shown": True}} | changes


FOUR = words(("One", 1.0, 1.4), ("two.", 1.45, 2.0), ("Three", 3.0, 3.4), ("four.", 3.42, 4.0))


def test_the_preview_plays_what_the_server_draws(logic):
    """For random words, segments and cuts, the plan is that of tasks/core/edit/cuts.py."""
    chance = random.Random(11)  # noqa: S311 - the same cases on every run
    cases = []
    for _ in range(60):
        at, said = 0.0, []
        for index in range(40):
            at += chance.choice([-0.05, 0.0, 0.02, 0.3, 1.5]) if index else 0.5
            start, at = max(at, 0.0), max(at, 0.0) + chance.uniform(0.05, 0.6)
            said.append((start, at))
        bounds = sorted(chance.uniform(0, at) for _ in range(4))
        segments = [(bounds[2], bounds[3] + 0.2), (bounds[0], bounds[1] + 0.05)][: chance.choice([1, 2])]
        cases.append((said, segments, sorted(chance.sample(range(40), chance.choice([0, 1, 5, 20])))))
    expected = []
    for said, segments, removed in cases:
        source = SourceWords([Word(word="w", start=start, end=end) for start, end in said])
        parts = played([EditSegment(start=start, end=end) for start, end in segments], set(removed), source)
        expected.append([[part.start, part.end] for part in parts])
    found = run(
        logic,
        """cases.map(([said, segments, removed]) => {
            const spoken = new Spoken();
            spoken.add(0, said.map(([start, end]) => ({ text: "w", start, end })));
            const clip = { segments: segments.map(([start, end]) => ({ start, end })), words: { removed } };
            return playingPlan(clip, spoken).map(({ start, end }) => [start, end]);
        })""",
        cases=cases,
    )
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert len(one) == len(other)
        for ours, theirs in zip(one, other, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-5)


def test_clip_time_and_source_time_are_inverse(logic):
    plan = [{"start": 10, "end": 12, "at": 0, "part": 0}, {"start": 3, "end": 4, "at": 2, "part": 1}]
    assert run(logic, "[0, 1.5, 2, 2.9].map((clock) => sourceTime(plan, clock).seconds)", plan=plan) == [
        10,
        11.5,
        3,
        3.9,
    ]
    assert run(logic, "[10, 11.5, 3, 3.9].map((at) => clipTime(plan, at))", plan=plan) == pytest.approx(
        [0, 1.5, 2, 2.9]
    )
    assert run(logic, "sourceTime(plan, 99)", plan=plan) == {"index": 1, "seconds": 4}
    assert run(logic, "[clipTime(plan, 5), clipTime(plan, 50)]", plan=plan) == [0, 3], "to the next part, or the end"


def test_a_cut_is_in_the_silence_beside_a_word(logic):
    make = "(() => { const s = new Spoken(10); s.add(7, four); return s; })()"
    cuts = run(logic, f"[7, 8, 9, 10].map((i) => [{make}.cutBefore(i), {make}.cutAfter(i)])", four=FOUR)
    assert cuts == [[0.9, 1.425], [1.425, 2.25], [2.9, 3.41], [3.41, 4.25]]
    assert run(logic, f"{make}.sentence(9).map((word) => word.index)", four=FOUR) == [9, 10]
    assert run(logic, f"{make}.run(9, 7).map((word) => word.index)", four=FOUR) == [7, 8, 9]


def test_ends_stay_within_the_source_and_out_of_other_segments(logic):
    two = clip((2, 4), (6, 8))
    assert run(logic, "withStart(clip, 1, 1).segments[1].start", clip=two) == 4
    assert run(logic, "withEnd(clip, 0, 7).segments[0].end", clip=two) == 6
    assert run(logic, "withStart(clip, 0, -3).segments[0].start", clip=two) == 0
    assert run(logic, "withEnd(clip, 1, 99, 10).segments[1].end", clip=two) == 10
    assert run(logic, "withStart(clip, 0, 5).segments[0].start", clip=two) == 3.9
    assert run(logic, "partNear(clip, 5.6)", clip=two) == 1


def test_words_are_named_by_index_once_and_corrections_are_taken_back(logic):
    assert run(logic, "withWords(clip, 'removed', [9, 4, 4], true).words.removed", clip=clip((0, 5))) == [4, 9]
    cut = clip((0, 5), words={"corrected": [], "hidden": [], "removed": [4, 9]})
    assert run(logic, "withWords(clip, 'removed', [9], false).words.removed", clip=cut) == [4]
    word = {"index": 3, "text": "Konas"}
    corrected = run(logic, "withCorrection(clip, word, '  Kaunas ')", clip=clip((0, 5)), word=word)
    assert corrected["words"]["corrected"] == [{"index": 3, "text": "Kaunas"}]
    assert run(logic, "withCorrection(clip, word, 'Konas').words.corrected", clip=corrected, word=word) == []


def test_a_spoken_word_pops_in_the_preview_as_in_the_clip(logic):
    short, long, none = run(logic, "[popOf(60, 30), popOf(300, 30), popOf(0, 30)]")
    assert (short, long, none) == pytest.approx((1.12, 1.04, 1.12))
    pops = [preset.pop for preset in PRESETS.values() if preset.pop]
    assert pops == pytest.approx([short - 1] * len(pops))


def test_captions_end_at_sentences_pauses_and_their_length(logic):
    text = "A thing that you um cannot open is not really yours. You rent"
    said = [
        {"index": i, "text": text, "start": i * 0.3, "end": i * 0.3 + 0.25, "hidden": text == "um"}
        for i, text in enumerate(text.split())
    ]
    texts = "captionGroups(said, preset).map(({ words }) => words.map((word) => word.text).join(' '))"
    classic = run(logic, texts, said=said, preset="classic")
    assert classic == ["A thing that you cannot", "open is not really yours.", "You rent"]
    assert run(logic, texts, said=said, preset="word")[:3] == ["A", "thing", "that"]
    shown = run(logic, "captionAt(captionGroups(said), 0.7)", said=said)
    assert (shown["words"][shown["spoken"]]["text"], len(shown["words"])) == ("that", 5)
    assert run(logic, "captionAt(captionGroups(said), 99)", said=said) is None


def test_the_crop_touches_the_edge_and_moves_along_the_long_side(logic):
    wide, tall = 16 / 9, 9 / 16
    assert run(logic, "cropWindow(p, c, 0)", p=wide, c=tall)["x"] == 0
    middle = run(logic, "cropWindow(p, c, 0.5)", p=wide, c=tall)
    assert middle["x"] + middle["width"] / 2 == pytest.approx(0.5)
    assert (middle["y"], middle["height"]) == (0, 1)
    assert run(logic, "objectPosition(p, c, 1)", p=wide, c=tall) == {"x": pytest.approx(100), "y": 50}
    upright = run(logic, "cropWindow(p, c, 1)", p=tall, c=1)
    assert (upright["width"], upright["y"] + upright["height"]) == (1, pytest.approx(1))


@pytest.mark.parametrize(("picture", "clip"), [(16 / 9, 9 / 16), (9 / 16, 16 / 9), (1, 1)])
def test_a_crop_with_a_zoom_is_smaller_and_moves_along_both_sides(logic, picture, clip):
    """Along `at` from left to right in a source of the clip's shape too, as the camera does."""
    places = {"p": picture, "c": clip, "at": 0.2, "cross": 0.7}
    box = run(logic, "cropWindow(p, c, at, 2, cross)", **places)
    whole = run(logic, "cropWindow(p, c, at)", **places)
    assert [box["width"], box["height"]] == [whole["width"] / 2, whole["height"] / 2]
    x, y = (0.2, 0.7) if clip <= picture else (0.7, 0.2)
    assert box["x"] == pytest.approx(min(max(x - box["width"] / 2, 0), 1 - box["width"]))
    assert box["y"] == pytest.approx(min(max(y - box["height"] / 2, 0), 1 - box["height"]))
    assert run(logic, "nearestAt(p, c, 0, 2)", **places) == pytest.approx(
        min(box["width"], box["height"]) / 2, abs=1e-3
    )
    assert run(logic, "nearestCross(1, 2)", **places) == 0.75


def test_undo_and_redo_join_quick_changes_of_a_field(logic):
    script = """(() => {
        const history = new History(0);
        history.push(1, "Type", "title", 1000);
        history.push(2, "Type", "title", 1500);
        history.push(3, "Cut", "", 1600);
        const back = [history.undo(), history.state, history.undo(), history.state, history.undo()];
        const seen = [...back, history.redo(), history.state];
        history.push(9, "Other");
        return [...seen, history.canRedo, history.state];
    })()"""
    assert run(logic, script) == ["Cut", 2, "Type", 0, None, "Type", 2, False, 9]


def test_a_draft_is_put_onto_a_newer_revision_field_by_field(logic):
    base = clip((0, 5), title="a", hook="h")
    draft = clip((0, 4), title="a", hook="mine")
    newer = clip((0, 5), title="theirs", hook="h", ratio="1:1")
    found = run(logic, "merged(base, draft, newer)", base=base, draft=draft, newer=newer)
    assert found == clip((0, 4), title="theirs", hook="mine", ratio="1:1")
    assert run(logic, "equal({ a: [1], b: 2 }, { b: 2, a: [1] })")
    assert not run(logic, "equal({ a: [1, 2] }, { a: [1] })")


def test_a_fault_belongs_to_its_control(logic):
    one = clip((0, 5), words={"corrected": [{"index": 57, "text": "{"}], "hidden": [], "removed": [99]})
    faults = [
        {"path": "clips[1].segments[0].end", "reason": "late"},
        {"path": "clips[1].segments[0]", "reason": "short"},
        {"path": "clips[1].words.corrected[0].text", "reason": "brace"},
        {"path": "clips[1].words.removed[0]", "reason": "unknown"},
        {"path": "clips[1].hashtags[4]", "reason": "long"},
        {"path": "clips[1].segments[0].framing.at", "reason": "far"},
        {"path": "clips[1]", "reason": "plays long"},
        {"path": "clips[0].title", "reason": "wrong"},
        {"path": "source.video", "reason": "other"},
    ]
    found = run(
        logic, "(({ own, others }) => ({ own: [...own], others }))(placed(faults, 1, one))", faults=faults, one=one
    )
    assert dict(found["own"]) == {
        "segments[0].end": ["late", "short"],
        "word 57": ["brace"],
        "word 99": ["unknown"],
        "hashtags": ["long"],
        "segments[0].framing": ["far"],
        "clip": ["plays long"],
    }
    assert found["others"] == ["Clip 1: wrong", "other"]


def test_fields_that_the_page_does_not_know_come_from_the_schema(logic):
    schema = json.loads(json.dumps(edit_schema()))
    assert run(logic, "namesOf(schema, 'EditClip', 'ratio')", schema=schema) == ["9:16", "4:5", "1:1", "16:9"]
    assert run(logic, "rangeOf(schema, 'Crop', 'zoom')", schema=schema) == {"least": 1, "most": 3}
    assert run(logic, "rangeOf({}, 'Crop', 'zoom')", schema=schema) == {"least": 1, "most": 1}
    kinds = [kind["kind"] for kind in run(logic, "framings(schema, ['auto', 'fit', 'crop'])", schema=schema)]
    assert {"auto", "fit", "crop"} <= set(kinds)
    extra = {"type": "boolean", "default": False, "description": "Cut pauses."}
    level = {"anyOf": [{"enum": ["low", "high"], "type": "string"}, {"type": "null"}], "default": None}
    schema["$defs"]["EditClip"]["properties"] |= {"cut_pauses": extra, "level": level}
    schema["$defs"]["Spin"] = {"properties": {"kind": {"const": "spin"}}, "required": ["kind"], "description": "Turns."}
    mapping = schema["$defs"]["EditSegment"]["properties"]["framing"]["discriminator"]["mapping"]
    mapping["spin"] = "#/$defs/Spin"
    fields = {field["name"]: field for field in run(logic, "otherFields(schema)", schema=schema)}
    assert (fields["Cut pauses"]["kind"], fields["Cut pauses"]["hint"]) == ("flag", "Cut pauses.")
    assert fields["Level"]["options"] == [None, "low", "high"]
    assert "spin" in [kind["kind"] for kind in run(logic, "framings(schema, ['auto'])", schema=schema)]


def test_hashtags_and_times_are_read_as_people_write_them(logic):
    assert run(logic, "readHashtags(' #one, two  ##three ')") == ["one", "two", "three"]
    assert run(logic, "[5.2, 62.345, 3723.4, -1].map(formatClock)") == ["0:05.20", "1:02.35", "1:02:03.40", "0:00.00"]


PORTRAIT = 9 / 16
VIEWS = [
    {"start": 0, "end": 4, "kind": "auto", "layout": "still", "ratio": PORTRAIT, "width": 0.3, "height": 1,
     "keys": [{"t": 0, "x": 0.2, "y": 0}]},
    {"start": 4, "end": 8, "kind": "auto", "layout": "pan", "ratio": PORTRAIT, "width": 0.3, "height": 1,
     "keys": [{"t": 4, "x": 0.1, "y": 0}, {"t": 6, "x": 0.5, "y": 0}, {"t": 8, "x": 0.5, "y": 0}]},
    {"start": 8, "end": 9, "kind": "auto", "layout": "fit", "ratio": 0, "width": 1, "height": 1, "keys": []},
    {"start": 20, "end": 21, "kind": "auto", "layout": "fit", "ratio": 1.2, "width": 0.7, "height": 1,
     "keys": [{"t": 20, "x": 0.25, "y": 0}]},
    {"start": 9, "end": 12, "kind": "people", "layout": "split", "ratio": 1.125, "width": 0.5, "height": 0.8,
     "keys": [{"t": 9, "x": 0, "y": 0.1}, {"t": 9, "x": 0.5, "y": 0.1}]},
    {"start": 40, "end": 42, "kind": "screen", "layout": "screen", "ratio": 0.8229, "width": 0.1, "height": 0.216,
     "keys": [{"t": 40, "x": 0.8, "y": 0.7}]},
    {"start": 30, "end": 31, "kind": "auto", "layout": "cover", "ratio": 0, "width": 1, "height": 1, "keys": []},
]  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "kind", "ratio", "layout", "corners"),
    [
        (1, "auto", PORTRAIT, "still", [[0.2, 0]]),
        (4, "auto", PORTRAIT, "pan", [[0.1, 0]]),
        (5, "auto", PORTRAIT, "pan", [[0.3, 0]]),
        (7.5, "auto", PORTRAIT, "pan", [[0.5, 0]]),
        (8.5, "auto", PORTRAIT, "fit", []),
        (8.5, "auto", 1, "fit", []),
        (30.5, "auto", 1, "cover", []),
        (20.5, "auto", PORTRAIT, "fit", [[0.25, 0]]),
        (10, "people", PORTRAIT, "split", [[0, 0.1], [0.5, 0.1]]),
        (41, "screen", PORTRAIT, "screen", [[0, 0], [0.8, 0.7]]),
    ],
)
def test_the_preview_shows_what_the_camera_showed(logic, seconds, kind, ratio, layout, corners):
    view = run(logic, "viewAt(views, kind, ratio, seconds)", views=VIEWS, kind=kind, ratio=ratio, seconds=seconds)
    assert view["layout"] == layout
    assert [[pytest.approx(box["x"]), pytest.approx(box["y"])] for box in view["windows"]] == corners


@pytest.mark.parametrize(
    ("seconds", "kind", "ratio"),
    [(12, "people", PORTRAIT), (-1, "auto", PORTRAIT), (1, "auto", 1), (10, "people", 1), (10, "auto", PORTRAIT),
     (1, "people", PORTRAIT), (1, "fit", PORTRAIT), (41, "screen", 4 / 5)],
)  # fmt: skip
def test_seconds_shapes_and_framings_that_were_not_rendered_are_not_known(logic, seconds, kind, ratio):
    values = {"views": VIEWS, "kind": kind, "ratio": ratio, "seconds": seconds}
    assert run(logic, "viewAt(views, kind, ratio, seconds)", **values) is None


def test_how_much_of_a_clip_is_known(logic):
    def known(kind, ratio, *parts):
        listed = [{"start": start, "end": end} for start, end in parts]
        return run(logic, "coverage(views, kind, ratio, parts)", views=VIEWS, kind=kind, ratio=ratio, parts=listed)

    assert known("auto", PORTRAIT, (0, 3), (5, 9)) == "all"
    assert known("auto", PORTRAIT, (7, 10)) == "some"
    assert known("auto", PORTRAIT, (40, 50)) == known("auto", 1, (0, 3)) == known("people", PORTRAIT, (0, 9)) == "none"
