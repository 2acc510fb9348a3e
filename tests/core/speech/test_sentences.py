import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.speech.sentences import PART_SECONDS, join, ordered_words, sentences
from tasks.core.transcript import Segment, Word


def timed(text: str, pace: float = 0.3, gap: float = 0.0, start: float = 0.0) -> list[Word]:
    words = []
    for token in text.split():
        words.append(Word(word=token, start=start, end=start + pace))
        start += pace + gap
    return words


def segment(words: list[Word]) -> Segment:
    return Segment(
        text=join(w.word for w in words), start=words[0].start, duration=words[-1].end - words[0].start, words=words
    )


def texts(text: str, **timing) -> list[str]:
    return [s.text for s in sentences([segment(timed(text, **timing))])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One here. Two there! Three? Four…", ["One here.", "Two there!", "Three?", "Four…"]),
        ("Dr. Smith met J. R. Tolkien. They talked.", ["Dr. Smith met J. R. Tolkien.", "They talked."]),
        ("It costs 3.5 dollars. Or 3. 5 today.", ["It costs 3.5 dollars.", "Or 3. 5 today."]),
        ("He left at 5 p.m. and slept. At 6 a.m. He woke.", ["He left at 5 p.m. and slept.", "At 6 a.m.", "He woke."]),
        ('"Is it so?" he asked. "It is."', ['"Is it so?" he asked.', '"It is."']),
        ("Well... maybe. Well... Maybe.", ["Well... maybe.", "Well...", "Maybe."]),
        ("So do I. And you said no. Fine.", ["So do I.", "And you said no.", "Fine."]),
        ("See no. 5 there. Bpk. Joko datang.", ["See no. 5 there.", "Bpk. Joko datang."]),
        ("你好。 我是学生！ 你呢？", ["你好。", "我是学生！", "你呢？"]),  # noqa: RUF001 full-width marks are the point
        ("مرحبا؟ نعم.", ["مرحبا؟", "نعم."]),
        ("नमस्ते। ठीक है।", ["नमस्ते।", "ठीक है।"]),
    ],
)
def test_sentences_end_at_punctuation(text, expected):
    assert texts(text) == expected


def test_pauses_end_sentences_without_punctuation():
    words = timed("so this is one thing") + timed("and this another", start=2.2)
    assert [s.text for s in sentences([segment(words)])] == ["so this is one thing", "and this another"]


def test_short_pauses_do_not_end_a_punctuated_sentence_but_long_ones_do():
    words = timed("It was") + timed("dark.", start=1.8) + timed("Then nothing", start=3.0) + timed("more.", start=9.0)
    assert [s.text for s in sentences([segment(words)])] == ["It was dark.", "Then nothing", "more."]


@pytest.mark.parametrize(
    ("before", "pause", "expected"),
    [("there", 0.3, 2), ("there,", 0.0, 2), ("there", 0.05, 1)],
    ids=["after a pause", "after a comma", "in the middle of a phrase"],
)
def test_a_sentence_is_one_speakers_unless_the_voice_was_misjudged(before, pause, expected):
    said = [Word(word=text, start=i * 0.3, end=i * 0.3 + 0.3, speaker=1) for i, text in enumerate(("Is", "he", before))]
    said += [
        Word(word=t, start=0.9 + pause + i * 0.3, end=1.2 + pause + i * 0.3, speaker=2)
        for i, t in enumerate(["yes", "he", "is"])
    ]
    found = sentences([Segment(text="", start=0, duration=3, words=said)])
    assert len(found) == expected


def test_a_vowel_sign_is_no_mark():
    texts = ["मेरी", "किताब", "यहाँ"]
    said = [Word(word=t, start=i * 0.3, end=i * 0.3 + 0.3, speaker=1 + (i > 0)) for i, t in enumerate(texts)]
    assert len(sentences([Segment(text="", start=0, duration=1, words=said)])) == 1


def test_speech_without_pauses_is_cut_into_parts():
    found = sentences([segment(timed("word " * 500))])
    assert all(s.end - s.start <= PART_SECONDS for s in found)
    assert sum(len(s.words) for s in found) == 500


def test_a_segment_without_words_is_spread_evenly():
    (only,) = sentences([Segment(text="aa bbbb aa.", start=10, duration=9)])
    assert [(w.word, round(w.start, 3), round(w.end, 3)) for w in only.words] == [
        ("aa", 10, 12),
        ("bbbb", 12, 16),
        ("aa.", 16, 19),
    ]


def test_chinese_without_words_is_spread_by_character_and_joined_without_spaces():
    found = sentences([Segment(text="你好吗？我很好。", start=0, duration=8)])  # noqa: RUF001
    assert [s.text for s in found] == ["你好吗？", "我很好。"]  # noqa: RUF001
    assert len(found[0].words) == 3


def test_punctuation_alone_belongs_to_the_word_before():
    words = [Word(word=w, start=i, end=i + 0.9) for i, w in enumerate(["Yes", ".", "No", "!"])]
    assert [s.text for s in sentences([segment(words)])] == ["Yes.", "No!"]


def test_no_words_give_no_sentences():
    assert sentences([]) == []
    assert sentences([Segment(text="  ", start=0, duration=3)]) == []


TIMES = st.floats(-10, 100) | st.just(math.nan) | st.just(math.inf)
WORDS = st.builds(Word, word=st.text(max_size=8), start=TIMES, end=TIMES)
SEGMENTS = st.builds(
    Segment, text=st.text(max_size=40), start=TIMES, duration=TIMES, words=st.lists(WORDS, max_size=12)
)


@settings(max_examples=200)
@given(st.lists(SEGMENTS, max_size=6))
def test_hostile_words_come_out_ordered_without_overlap(segments):
    words = ordered_words(segments)
    found = sentences(segments)
    assert [w for s in found for w in s.words] == words
    assert all(0 <= w.start <= w.end < math.inf and w.word.strip() for w in words)
    assert all(a.end <= b.start for a, b in itertools.pairwise(words))
    assert all(s.start == s.words[0].start and s.end == s.words[-1].end for s in found)


def test_a_sentence_has_the_language_of_its_segment():
    lines = [("We sang a song.", "en"), ("Kami menyanyi.", "id"), ("And home we went.", "en")]
    segments = [Segment(text=text, start=3.0 * i, duration=2.0, language=code) for i, (text, code) in enumerate(lines)]
    found = sentences([segments[2], *segments[:2]])
    assert [(sentence.text, sentence.language) for sentence in found] == lines
