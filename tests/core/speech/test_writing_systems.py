import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.speech import writing_systems
from tasks.core.transcript import Word


@pytest.mark.parametrize(
    "pieces",
    [
        ["เกาะ", "น้ำ", "แข็", "ง"],
        ["မြန်", "မာ", "နိုင်", "ငံ"],
        ["ភា", "សា", "ខ្មែ", "រ"],
        ["ກຳ", "ເກົາ"],
        ["क्ष", "त्रि", "य"],
        ["שָׁ", "ל", "וֹ", "ם"],
        ["مُ", "حَ", "مَّ", "د"],
        ["c", "a", "f", "e\u0301"],
        ["👩\u200d👩\u200d👧", "👍🏽", "🇩🇪", "🇫🇷"],
        ["「う", "ん」", "で", "す。"],
        ["キュー"],
    ],
    ids=["thai", "burmese", "khmer", "lao", "hindi", "hebrew", "arabic", "latin", "emoji", "japanese", "katakana"],
)
def test_lines_break_between_letters_and_never_before_their_marks(pieces: list[str]):
    assert writing_systems.clusters("".join(pieces)) == pieces


@given(st.text())
def test_clusters_lose_no_text(text: str):
    assert "".join(writing_systems.clusters(text)) == text


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["นี", "้", "ก", "ำ"], ["นี้", "กำ"]),
        (["မြန", "်မာ"], ["မြန်မာ"]),
        (["ខ្", "មែរ"], ["ខ្មែរ"]),
        (["ש", "ָׁלוֹם"], ["שָׁלוֹם"]),
        (["مح", "َمد"], ["محَمد"]),
        (["cafe", "\u0301"], ["cafe\u0301"]),
        (["👩\u200d", "👧", "👍", "🏽"], ["👩\u200d👧", "👍🏽"]),
        (["🇩", "🇪", "🇫", "🇷"], ["🇩🇪", "🇫🇷"]),
        (["\u1112", "\u1161\u11ab"], ["한"]),
        (["one", "two"], ["one", "two"]),
        (["अर्थात्", "क"], ["अर्थात्", "क"]),
        (["", "a"], ["", "a"]),
    ],
)
def test_no_word_begins_inside_a_letter(tokens: list[str], words: list[str]):
    joined = writing_systems.whole_letters([Word(word=token, start=i, end=i + 1) for i, token in enumerate(tokens)])
    assert [unicodedata.normalize("NFC", w.word) for w in joined] == [unicodedata.normalize("NFC", w) for w in words]
    assert (joined[0].start, joined[-1].end) == (0, len(tokens))


def test_every_letter_becomes_one_byte():
    for text in ("plain text", "हिन्दी", "ภาษาไทย", "ქართული", "日本語", "😀"):
        assert len(writing_systems.one_byte_per_letter(text)) == len(text)
    assert writing_systems.one_byte_per_letter("plain") == b"plain"


@pytest.mark.parametrize(
    ("text", "language", "right"),
    [
        ("Google أعلنت عن هاتف", "ar", True),
        ("2024 كان عاما جيدا", "ar", True),
        ("Apple הודיעה", "he", True),
        ("Windows XP Service Pack 3 را", "fa", True),
        ("Service Pack 3", "ar", False),
        ("שלום is the Hebrew word", "en", False),
        ("he said שלום לכולם וברוכים הבאים", "en", True),
        ("plain", "en", False),
        ("1 2 3", "ar", False),
    ],
)
def test_a_line_runs_in_the_direction_of_its_language(text: str, language: str, *, right: bool):
    assert writing_systems.runs_right_to_left(text, language) == right


def test_a_line_gets_a_mark_if_its_first_letter_implies_the_wrong_direction():
    assert writing_systems.direction_mark("Google أعلنت", right_to_left=True) == "\u200f"
    assert writing_systems.direction_mark("12 Google", right_to_left=True) == "\u200f"
    assert writing_systems.direction_mark("أعلنت Google", right_to_left=True) == ""
    assert writing_systems.direction_mark("שלום is", right_to_left=False) == "\u200e"
    assert writing_systems.direction_mark("is שלום", right_to_left=False) == ""
    assert writing_systems.direction_mark("12 %", right_to_left=True) == ""


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8), st.data())
def test_letters_keep_their_times_when_words_are_split_differently(texts: list[str], data: st.DataObject):
    words = [Word(word=text, start=2 * i, end=2 * i + 1) for i, text in enumerate(texts)]
    joined = "".join(texts)
    edges = sorted(data.draw(st.sets(st.integers(1, max(len(joined) - 1, 1)), max_size=5)) & set(range(1, len(joined))))
    pieces = [joined[a:b] for a, b in zip([0, *edges], [*edges, len(joined)], strict=True)]
    cut = writing_systems.regroup(words, pieces)
    assert [word.word for word in cut] == pieces
    assert (cut[0].start, cut[-1].end) == (0, words[-1].end)
    assert all(a.end <= b.start and a.start <= a.end for a, b in itertools.pairwise(cut))
