"""What is drawn, and `edl.json`, derived from a document."""

import json
from typing import Any

import pytest

from tasks.core.edit.document import EditDocument, first_revision
from tasks.core.edit.drawing import Drawing, asked_drawing, derived_edl, drawings, plain_drawing
from tasks.core.edl import EdlClip, Span
from tasks.core.picture.framing_choice import Crop, People, Screen
from tasks.core.request import ClipRequest
from tasks.core.transcript import Segment, Speech, Word
from tests.folders import MEDIA

SAYS = ["We", "went", "to", "Kovno", "by", "the", "um", "the", "night", "train"]
WORDS = [Word(word=word, start=10 + i, end=10.6 + i) for i, word in enumerate(SAYS)]
SPEECH = Speech(
    [Segment(text="", start=10, duration=4, words=WORDS[:4]), Segment(text="", start=14, duration=6, words=WORDS[4:])],
    "en",
)
CHOSEN = EdlClip(
    index=1,
    title="We went",
    hook="by train",
    description="D.",
    hashtags=["train"],
    segments=[Span(start=9.8, end=20, text=" ".join(SAYS))],
    score=1.5,
    signals={"questions": 0.5},
    why="Stands out.",
)


def edited(**changes: Any) -> tuple[EdlClip, Drawing]:
    """The only clip as `edl.json` has it and as it is drawn, after changes of its part of the document."""
    first = first_revision([CHOSEN], "a" * 64, WORDS).model_dump(mode="json")
    first["clips"][0] |= changes
    document = EditDocument.model_validate(first)
    (clip,) = derived_edl(document, [CHOSEN], SPEECH)
    (drawing,) = drawings(document, [clip], SPEECH)
    return clip, drawing


def said(drawing: Drawing) -> str:
    return " ".join(word.word for word in drawing.words)


def test_the_first_revision_gives_selects_clips_back_byte_by_byte():
    clip, drawing = edited()
    assert clip.model_dump_json() == CHOSEN.model_dump_json()
    assert drawing == plain_drawing(CHOSEN, SPEECH)
    assert drawing.captioned == drawing.words


def test_the_first_revision_has_the_looks_that_were_asked_for():
    looks = {"ratio": "4:5", "caption_preset": "punch", "framing": "centre", "tighten": True}
    request = ClipRequest.model_validate({"video_url": "https://example.org/v", **looks})
    (clip,) = first_revision([CHOSEN], "a" * 64, WORDS, request).clips
    assert (clip.ratio, clip.captions.preset, clip.tighten) == ("4:5", "punch", True)
    assert clip.segments[0].framing == Crop(kind="crop", at=0.5)
    for name, framing in (("split", People(kind="people")), ("screen", Screen(kind="screen"))):
        assert asked_drawing(CHOSEN, SPEECH, request.model_copy(update={"framing": name})).framing[0] == framing
    drawing = asked_drawing(CHOSEN.model_copy(update={"index": 3}), SPEECH, request)
    assert (drawing.ratio, drawing.captions.preset, drawing.clip.index) == ("4:5", "punch", 3)
    assert "um" not in said(drawing)
    assert asked_drawing(CHOSEN, SPEECH, ClipRequest(video_url="https://example.org/v")) == plain_drawing(
        CHOSEN, SPEECH
    )


def test_a_document_without_new_choices_is_written_as_before():
    (clip,) = json.loads(first_revision([CHOSEN], "a" * 64, WORDS).model_dump_json())["clips"]
    assert clip["captions"] == {"shown": True}
    assert not {"hook_overlay", "tighten"} & clip.keys()


def test_the_text_of_a_segment_is_what_is_said_in_it():
    sample = json.loads((MEDIA / "sample.json").read_text())
    words = [Word(**word) for word in sample["words"]]
    speech = Speech([Segment(text="", start=0, duration=words[-1].end, words=words)], "en")
    places = range(0, len(words) - 61, 60)
    chosen = [
        EdlClip(index=i, title="", hook="", segments=[Span(start=words[at].start, end=words[at + 60].end)])
        for i, at in enumerate(places, start=1)
    ]
    document = first_revision(chosen, "a" * 64, words)
    untold = [clip.model_copy(update={"segments": []}) for clip in chosen]
    for at, clip in zip(places, derived_edl(document, untold, speech), strict=True):
        assert clip.segments[0].text == " ".join(word.word for word in words[at : at + 61])


def test_a_corrected_word_is_written_in_captions_subtitles_and_edl():
    clip, drawing = edited(words={"corrected": [{"index": 3, "text": "Kaunas"}]})
    assert clip.segments[0].text == "We went to Kaunas by the um the night train"
    assert (clip.segments[0].start, clip.segments[0].end) == (9.8, 20)
    assert said(drawing) == clip.segments[0].text
    assert [word.word for word in drawing.captioned] == [word.word for word in drawing.words]


def test_a_hidden_word_is_heard_and_read_but_not_in_the_captions():
    clip, drawing = edited(words={"hidden": [6]})
    assert clip == CHOSEN
    assert "um" in said(drawing)
    assert [word.word for word in drawing.captioned] == [word for word in SAYS if word != "um"]


def test_without_captions_the_words_stay_for_the_subtitles():
    clip, drawing = edited(captions={"shown": False})
    assert clip == CHOSEN
    assert drawing.captioned == []
    assert said(drawing) == " ".join(SAYS)


def test_removed_words_split_the_segment_and_leave_the_text():
    clip, drawing = edited(words={"removed": [6, 7]})
    assert [(span.start, span.end) for span in clip.segments] == [(9.8, 15.9), (pytest.approx(17.7), 20)]
    assert [span.text for span in clip.segments] == ["We went to Kovno by the", "night train"]
    assert said(drawing) == "We went to Kovno by the night train"
    assert [framing.kind for framing in drawing.framing] == ["auto", "auto"]
    after = drawing.words[6]
    assert after.start == pytest.approx(18 - 17.7 + 15.9 - 9.8)


def test_a_tight_clip_leaves_out_fillers_and_long_pauses():
    clip, drawing = edited(tighten=True)
    assert said(drawing) == "We went to Kovno by the the night train"
    assert [span.text for span in clip.segments] == ["We went to Kovno by the", "the night train"]
    assert clip.duration == pytest.approx(10.2 - (16.85 - 15.75), abs=0.01)


def test_the_hook_is_a_card_only_where_it_is_asked_for():
    assert edited()[1].card == ""
    assert edited(hook_overlay=True)[1].card == "by train"
    assert "card" not in edited()[1].content


def test_presets_and_switches_are_part_of_what_is_drawn():
    plain = edited()[1].content
    for change in ({"captions": {"preset": "box"}}, {"captions": {"position": "upper"}}, {"hook_overlay": True}):
        assert edited(**change)[1].content != plain
    assert plain["captions"] == {"shown": True}


def test_segments_play_in_the_documents_order():
    clip, drawing = edited(
        segments=[{"start": 17.9, "end": 20, "framing": {"kind": "crop", "at": 0.2}}, {"start": 9.8, "end": 11.8}]
    )
    assert said(drawing) == "night train We went"
    assert [framing.kind for framing in drawing.framing] == ["crop", "auto"]
    assert [word.start for word in drawing.words] == pytest.approx([0.1, 1.1, 2.3, 3.3])
    assert clip.duration == pytest.approx(4.1)


def test_title_hook_and_post_are_the_documents_and_the_score_is_selects():
    clip, _ = edited(title="Kaunas by night", hook="h", description="", hashtags=[])
    assert clip == CHOSEN.model_copy(
        update={"title": "Kaunas by night", "hook": "h", "description": "", "hashtags": []}
    )


def test_sentences_begin_in_each_segment_at_the_sources_time():
    words = [
        ("One", 10.0),
        ("two.", 10.5),
        ("Three,", 11.0),
        ("Mr.", 11.5),
        ("Four.", 12.0),
        ("Five", 20.0),
        ("six?", 20.5),
    ]
    said = [Word(word=text, start=start, end=start + 0.4) for text, start in words]
    speech = Speech([Segment(text="", start=10, duration=12, words=said)], "en")
    clip = EdlClip(index=1, title="", hook="", segments=[Span(start=19.5, end=22), Span(start=9.5, end=12.7)])
    first, second = plain_drawing(clip, speech).said
    assert first.sentences == [pytest.approx(20.0)]
    assert second.sentences == [pytest.approx(10.0), pytest.approx(11.0)]


def test_turns_are_those_of_each_segment_at_the_sources_time():
    said = [Word(word="w", start=t / 2, end=t / 2 + 0.4, speaker=1 + (t // 4) % 2) for t in range(20, 44)]
    speech = Speech([Segment(text="", start=10, duration=12, words=said)], "en")
    clip = EdlClip(index=1, title="", hook="", segments=[Span(start=19.9, end=22), Span(start=9.9, end=13)])
    first, second = plain_drawing(clip, speech).said
    assert [turn.speaker for turn in first.turns] == [1]
    assert [turn.speaker for turn in second.turns] == [2, 1]
    edges = [edge for part in (first, second) for turn in part.turns for edge in (turn.start, turn.end)]
    assert edges == pytest.approx([20, 21.9, 10, 11.9, 12, 12.9])
