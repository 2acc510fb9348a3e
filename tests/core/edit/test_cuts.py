"""Removed words are cut out of segments; words that stay are not touched."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.edit.cuts import (
    LEFT_SILENT,
    LONGEST_PAUSE,
    MOST_TIGHT_PARTS,
    REACH,
    SHORTEST_PART,
    SourceWords,
    filler_words,
    played,
)
from tasks.core.edit.document import EditSegment
from tasks.core.picture.framing_choice import Fit
from tasks.core.transcript import Segment, Speech, Word

TALK = SourceWords([Word(word=f"w{i}", start=i, end=i + 0.6) for i in range(10)])
WHOLE = EditSegment(start=0.5, end=9.9, framing=Fit(kind="fit"))


def times(removed: set[int], *segments: EditSegment) -> list[tuple[float, float]]:
    return [(round(s.start, 3), round(s.end, 3)) for s in played(segments or [WHOLE], removed, TALK)]


def test_without_removed_words_segments_stay_as_they_are():
    backwards = [EditSegment(start=5, end=7), EditSegment(start=1.25, end=3)]
    assert played(backwards, {4, 8, 99}, TALK) == backwards


@pytest.mark.parametrize(
    ("removed", "left"),
    [
        ({4}, [(0.5, 3.9), (4.7, 9.9)]),
        ({4, 5}, [(0.5, 3.9), (5.7, 9.9)]),
        ({4, 6}, [(0.5, 3.9), (4.7, 5.9), (6.7, 9.9)]),
        ({1}, [(1.7, 9.9)]),
        ({9}, [(0.5, 8.9)]),
        ({0, 1, 9}, [(1.7, 8.9)]),
        (set(range(10)), []),
    ],
    ids=["one", "a run", "two apart", "the first", "the last", "both ends", "all"],
)
def test_a_cut_reaches_a_little_into_the_silence_beside_the_words(removed, left):
    assert times(removed) == left


def test_in_speech_without_pauses_a_cut_lies_between_the_words():
    talk = SourceWords([Word(word="w", start=i, end=i + 1) for i in range(5)])
    left = played([EditSegment(start=0, end=5)], {2}, talk)
    assert [(part.start, part.end) for part in left] == [(0, 2), (3, 5)]


def test_each_part_is_framed_as_its_segment():
    assert {part.framing.kind for part in played([WHOLE], {3, 5}, TALK)} == {"fit"}


def test_what_is_too_short_to_play_is_left_out():
    talk = SourceWords([Word(word="w", start=i / 20, end=(i + 1) / 20) for i in range(100)])
    assert played([EditSegment(start=0, end=1)], set(range(100)) - {10}, talk) == []


PAUSED = Speech(
    [
        Segment(
            text="",
            start=0,
            duration=9,
            words=[
                Word(word=word, start=start, end=start + 0.4)
                for word, start in [
                    ("So,", 0.5),
                    ("um,", 1.0),
                    ("we", 1.5),
                    ("went.", 3.0),
                    ("Then", 3.9),
                    ("Uh", 5.0),
                    ("home", 6.0),
                ]
            ],
        )
    ],
    "en",
)


def tight(removed: set[int] = frozenset()) -> list[tuple[float, float]]:
    parts = played([EditSegment(start=0.3, end=7)], set(removed), SourceWords.of(PAUSED), tight=True)
    return [(round(part.start, 3), round(part.end, 3)) for part in parts]


def test_a_tight_clip_has_no_filler_and_no_long_pause():
    assert tight() == [(0.3, 0.95), (1.45, 2.05), (2.85, 4.45), (5.85, 7)]


def test_what_a_person_removed_is_cut_out_of_a_tight_clip_too():
    assert tight(removed={3}) == [(0.3, 0.95), (1.45, 2.05), (3.75, 4.45), (5.85, 7)]


def test_fillers_are_words_of_their_language():
    german = Speech([segment.model_copy(update={"language": "de"}) for segment in PAUSED.segments], "en")
    assert filler_words(PAUSED) == {1, 5}
    assert filler_words(german) == frozenset()


def spoken(text: str, language: str = "en", pause: float = 0.1) -> Speech:
    words = [
        Word(word=word, start=i * (0.3 + pause), end=i * (0.3 + pause) + 0.3) for i, word in enumerate(text.split())
    ]
    return Speech([Segment(text=text, start=0, duration=words[-1].end, words=words)], language)


@pytest.mark.parametrize(
    ("text", "language", "kept"),
    [
        ("It was the, the best of all", "en", "It was the best of all"),
        ("I, I, I went and in the, in the morning", "en", "I went and in the morning"),
        ("He said, I, I can't", "en", "He said I can't"),
        ("and um and uh and then", "en", "and then"),
        ("y y entonces el, el tren", "es", "y entonces el tren"),
        ("No, no, no, it is very, very good", "en", None),
        ("I told you, you can't, that that is it", "en", None),
        ("Thank you, thank you. Never give up, never give up", "en", None),
        ("That is what I want of. Of course", "en", None),
        ("We're proud of, of course. I look forward to, to be honest", "en", None),
        ("It was World War I, I think, and vitamin A, a nutrient", "en", None),
        ("Sie kam von von der Leyen", "de", None),
        ("the the", "ja", None),
        ("nous nous sommes vous vous", "fr", None),
    ],
)
def test_what_is_said_again_by_mistake_is_a_filler(text: str, language: str, kept: str | None):
    said = spoken(text, language)
    words = [word.word for segment in said.segments for word in segment.words]
    left = " ".join(word for index, word in enumerate(words) if index not in filler_words(said))
    assert left.replace(",", "") == (text if kept is None else kept).replace(",", "")


def test_what_another_says_again_or_after_a_pause_is_no_slip():
    said = spoken("the the best")
    (segment,) = said.segments
    words = [word.model_copy(update={"speaker": n + 1}) for n, word in enumerate(segment.words)]
    assert filler_words(Speech([segment.model_copy(update={"words": words})], "en")) == frozenset()
    assert filler_words(spoken("the the best", pause=1.5)) == frozenset()


def test_a_tight_clip_falls_into_no_more_parts_than_can_be_drawn():
    talk = SourceWords([Word(word="w", start=i, end=i + 0.1 + (i % 2) * 0.1) for i in range(150)])
    parts = played([EditSegment(start=0, end=150)], set(), talk, tight=True)
    assert len(parts) == MOST_TIGHT_PARTS


WORDS = st.lists(st.tuples(st.floats(0, 60), st.floats(0, 2)), min_size=1, max_size=30).map(
    lambda found: [Word(word="w", start=start, end=start + length) for start, length in found]
)
SEGMENTS = st.lists(st.tuples(st.floats(0, 60), st.floats(0.1, 30)), min_size=1, max_size=4).map(
    lambda found: [EditSegment(start=start, end=start + length) for start, length in found]
)


@given(WORDS, SEGMENTS, st.sets(st.integers(0, 30)), st.booleans())
def test_parts_lie_in_their_segments_and_hold_no_removed_word(words, segments, removed, is_tight):
    """Whatever the words are: overlapping, without length, out of order."""
    source = SourceWords(words)
    for segment in segments:
        parts = played([segment], removed, source, tight=is_tight)
        edges = [edge for part in parts for edge in (part.start, part.end)]
        assert edges == sorted(edges)
        assert all(segment.start <= part.start <= part.end <= segment.end for part in parts)
        gone = {words[index].middle for index in removed if index < len(words)}
        left = {words[index].middle for part in parts for index in source.inside(part.start, part.end)}
        kept = {word.middle for index, word in enumerate(words) if index not in removed}
        assert not gone & left - kept
        if not is_tight and not removed & set(source.inside(segment.start, segment.end)):
            assert parts == [segment]


@given(
    st.lists(st.tuples(st.floats(0.2, 1), st.floats(0, 1)), min_size=1, max_size=20),
    st.sets(st.integers(0, 20)),
    st.booleans(),
)
def test_of_ordered_words_every_one_that_stays_is_played_whole(lengths, removed, is_tight):
    words, at = [], 0.0
    for length, pause in lengths:
        words.append(Word(word="w", start=at, end=at + length))
        at += length + pause
    parts = played([EditSegment(start=0, end=at + 0.2)], removed, SourceWords(words), tight=is_tight)
    for index, word in enumerate(words):
        whole = [part for part in parts if part.start <= word.start + 1e-9 and word.end <= part.end + 1e-9]
        assert len(whole) == (index not in removed)
        if index in removed:
            assert not [part for part in parts if part.start < word.end - 1e-9 and word.start < part.end - 1e-9]
    assert all(part.end - part.start >= SHORTEST_PART for part in parts)
    assert REACH < 0.2
    if is_tight:
        stay = [word for index, word in enumerate(words) if index not in removed]
        cut = [(a.end, b.start) for a, b in pairwise(stay) if b.start - a.end > LONGEST_PAUSE]
        silent = [sum(max(min(part.end, b) - max(part.start, a), 0) for part in parts) for a, b in cut]
        assert all(left <= 2 * LEFT_SILENT + 1e-9 for left in silent)
