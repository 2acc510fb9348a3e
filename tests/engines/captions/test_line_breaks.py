import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.transcript import Word
from tasks.engines.captions.line_breaks import reading_phrases


def timed_words(*texts: str, each: float = 0.3) -> list[Word]:
    return [Word(word=text, start=i * each, end=(i + 1) * each) for i, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("tokens", "phrases"),
    [
        (["อา", "กา", "ศ", "ดี", "มา", "ก"], ["อากาศ", "ดี", "มาก"]),
        (["นี", "้", "เพ", "ื่อน", "ๆ"], ["นี้", "เพื่อนๆ"]),
        (["今日", "は", "天", "気", "が", "いい"], ["今日は", "天気が", "いい"]),
        (["我们", "今", "天讨", "论", "问", "题。"], ["我们", "今天", "讨论", "问题。"]),
        (["我们", "讨", "论", "big", "data"], ["我们", "讨论", "big", "data"]),
        (["plain", "English", "words."], ["plain", "English", "words."]),
        (["नमस्ते", "दुनिया।"], ["नमस्ते", "दुनिया।"]),
        ([], []),
    ],
)
def test_tokens_become_readable_phrases(tokens: list[str], phrases: list[str]):
    read = reading_phrases(timed_words(*tokens))
    assert [word.word for word in read] == phrases


def test_a_phrase_spans_its_letters_and_ends_at_a_pause():
    words = timed_words("我", "们今", "天")
    assert [(w.word, round(w.start, 2), round(w.end, 2)) for w in reading_phrases(words)] == [
        ("我们", 0.0, 0.45),
        ("今天", 0.45, 0.9),
    ]
    late = [words[0], *(w.model_copy(update={"start": w.start + 2, "end": w.end + 2}) for w in words[1:])]
    assert next(w.word for w in reading_phrases(late)) == "我"


@given(st.lists(st.text(alphabet="วันนี้กำ今天はabc 。ー๋", min_size=1, max_size=4), max_size=10))
def test_no_letter_is_lost_or_reordered(texts: list[str]):
    read = reading_phrases(timed_words(*texts))
    assert "".join(word.word for word in read) == "".join(texts)
    assert all(a.end <= b.start + 1e-9 for a, b in itertools.pairwise(read))
