"""The chosen seconds heard again, by real weights, where the transcript has errors."""

import json
from pathlib import Path

import pytest

from tasks.core.edit.document import first_revision, transcript_words
from tasks.core.edit.drawing import derived_edl, drawings
from tasks.core.media import SourceMeta
from tasks.core.request import ClipRequest
from tasks.core.speech.second_hearing import SecondHearing
from tasks.core.titles.grounding import unspoken_words
from tasks.core.transcript import Segment, Speech, Word
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.hardware import AsrOptions
from tasks.stages.hear_again import hear_again
from tasks.stages.select import select_clips
from tests.folders import MEDIA

SAMPLE = MEDIA / "sample.mp4"
SPAN = (63.9, 105.8)
"""The sample's story of Walter and his toaster."""
MISHEARD = {"toaster": "coaster", "Walter": "Water", "bread": "breath", "slice": "slide", "burned.": "learned."}
REQUEST = ClipRequest(video_url="https://example.com/a.mp4", clip_duration_seconds=45, clip_count=2)
META = SourceMeta(source_id="x", kind="file_url", title="A talk")


@pytest.fixture(scope="module")
def truth() -> list[Word]:
    return [Word(**word) for word in json.loads((MEDIA / "sample.json").read_text())["words"]]


@pytest.fixture(scope="module")
def misheard(truth: list[Word]) -> Speech:
    """The sample's words with errors in the story, a sentence a segment."""
    segments: list[Segment] = []
    for sentence in json.loads((MEDIA / "sample.json").read_text())["sentences"]:
        inside = [word for word in truth if sentence["start"] - 1e-6 <= word.start < sentence["end"]]
        words = [word.model_copy(update={"word": _wrong(word)}) for word in inside]
        start, end = sentence["start"], sentence["end"]
        text = " ".join(word.word for word in words)
        segments.append(Segment(text=text, start=start, duration=end - start, words=words))
    return Speech(segments, "en")


def _wrong(word: Word) -> str:
    return MISHEARD.get(word.word, word.word) if SPAN[0] <= word.middle <= SPAN[1] else word.word


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> AsrOptions:
    return AsrOptions(cache=tmp_path_factory.mktemp("weights"), model="base", device="cpu")


@pytest.fixture(scope="module")
def heard(misheard: Speech, options: AsrOptions) -> SecondHearing:
    return hear_again([SPAN], misheard, SAMPLE, options)


def test_misheard_words_become_what_was_said(heard: SecondHearing, misheard: Speech, truth: list[Word]):
    first = transcript_words(misheard.segments)
    wrong = [place for place, word in enumerate(first) if word.word != truth[place].word]
    assert len(wrong) == 6
    put_right = [place for place in wrong if heard.changed.get(place) == truth[place].word]
    assert len(put_right) >= 0.8 * len(wrong), {truth[place].word: heard.changed.get(place) for place in wrong}
    assert all(SPAN[0] <= first[place].middle < SPAN[1] for place in heard.changed)
    assert (heard.model, heard.fault) == ("base", None)


def test_words_that_were_heard_well_stay(heard: SecondHearing, misheard: Speech, truth: list[Word]):
    """Weights of the same size make errors of their own: a few."""
    first = transcript_words(misheard.segments)
    right = [place for place, word in enumerate(first) if SPAN[0] <= word.middle <= SPAN[1] and word == truth[place]]
    spoiled = [place for place in right if place in heard.changed]
    assert len(spoiled) <= 0.05 * len(right), {first[place].word: heard.changed[place] for place in spoiled}


def test_without_the_weights_the_first_hearing_stands_and_the_reason_is_given(misheard: Speech, options: AsrOptions):
    missing = AsrOptions(cache=options.cache, model="/nowhere/whisper", device="cpu")
    heard = hear_again([SPAN], misheard, SAMPLE, missing)
    assert (heard.changed, heard.model) == ({}, "")
    assert heard.fault
    assert heard.fault.startswith("the clips were not heard again by /nowhere/whisper: ")


def test_unreadable_sound_is_no_reason_to_fail(misheard: Speech, options: AsrOptions, tmp_path: Path):
    broken = tmp_path / "a.m4a"
    broken.write_bytes(b"no sound")
    assert "cannot be decoded" in (hear_again([SPAN], misheard, broken, options).fault or "")


def test_titles_texts_and_captions_are_as_heard_again(heard: SecondHearing, misheard: Speech):
    """One of the two clips is the story."""

    def hear(spans: list[tuple[float, float]]) -> SecondHearing:
        return SecondHearing(
            [heard.changed if span[0] < SPAN[1] and span[1] > SPAN[0] else {} for span in spans], "base"
        )

    edl = select_clips("kk", REQUEST, misheard, None, META, None, ffmpeg_exe(), hear)
    story = next(clip for clip in edl.clips if clip.segments[0].start < SPAN[1])
    assert "toaster" in story.segments[0].text
    assert not set(MISHEARD.values()) & set(story.segments[0].text.split())
    assert unspoken_words(story.title, story.segments[0].text) == []
    assert edl.selection.heard_again
    assert edl.selection.heard_again.words_changed == len(heard.changed)

    words = transcript_words(misheard.segments)
    document = first_revision(edl.clips, "0" * 64, words, REQUEST, edl.corrected)
    drawn = drawings(document, derived_edl(document, edl.clips, misheard), misheard)
    captions = [word.word for word in drawn[story.index - 1].captioned]
    assert "toaster" in captions
    assert "coaster" not in captions


def test_without_a_second_model_nothing_changes(misheard: Speech):
    once = select_clips("kk", REQUEST, misheard, None, META, None, ffmpeg_exe())
    same = select_clips(
        "kk", REQUEST, misheard, None, META, None, ffmpeg_exe(), lambda spans: SecondHearing([{}] * len(spans))
    )
    assert once.model_dump_json() == same.model_dump_json()
    assert "heard_again" not in once.model_dump_json()
    assert "corrected" not in once.model_dump_json()
