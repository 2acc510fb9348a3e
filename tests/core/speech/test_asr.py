import json
from itertools import pairwise

import numpy as np
import pytest
from faster_whisper.tokenizer import _LANGUAGE_CODES
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.languages import LANGUAGES
from tasks.core.speech import asr
from tasks.core.speech.asr import SAMPLE_RATE, DecodedWindow, Stretch
from tasks.core.transcript import Word
from tests.folders import TESTS

TEXTS = json.loads((TESTS / "declaration.json").read_text())
"""Parts of articles 1 and 2 of the Universal Declaration of Human Rights: ordinary text in many scripts."""


def heard(text: str, avg_logprob: float = -0.3, no_speech_prob: float = 0.05) -> DecodedWindow:
    words = [Word(word=f" {word}", start=i / 3, end=(i + 1) / 3) for i, word in enumerate(text.split())]
    return DecodedWindow(window=Stretch(0, 30), words=words, avg_logprob=avg_logprob, no_speech_prob=no_speech_prob)


def tone(seconds: float, level: float = 0.3) -> np.ndarray:
    return (level * np.sin(np.arange(round(seconds * SAMPLE_RATE)) * 0.2)).astype(np.float32)


def test_languages_are_those_of_whisper() -> None:
    assert set(_LANGUAGE_CODES) == LANGUAGES


def test_the_quietest_point_is_inside_the_pause() -> None:
    samples = np.concatenate((tone(5), tone(0.4, 0.001), tone(3)))
    assert 5.0 < asr.quietest_time(samples, earliest=3.0) < 5.4


def test_the_quietest_point_is_not_before_the_earliest() -> None:
    samples = np.concatenate((tone(1), tone(0.5, 0), tone(4), tone(0.5, 0.01), tone(1)))
    assert 5.5 < asr.quietest_time(samples, earliest=2.0) < 6.0


def test_the_quietest_point_of_a_too_short_tail_is_its_end() -> None:
    assert asr.quietest_time(tone(1), earliest=0.95) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("speech", "windows"),
    [
        ([], []),
        ([(1, 3), (4, 6)], [(1, 6)]),
        ([(1, 3), (6, 8)], [(1, 3), (6, 8)]),
        ([(0, 20), (20.5, 29), (29.5, 40)], [(0, 29), (29.5, 40)]),
        ([(0, 45)], [(0, 22.5), (22.5, 45)]),
    ],
)
def test_speech_is_grouped_into_windows(speech: list[tuple[float, float]], windows: list[tuple[float, float]]) -> None:
    assert asr.plan_windows([Stretch(*one) for one in speech]) == windows


@given(st.lists(st.tuples(st.floats(0, 8), st.floats(0.05, 70)), max_size=30))
def test_windows_cover_all_speech_and_are_never_too_long(steps: list[tuple[float, float]]) -> None:
    clock, speech = 0.0, []
    for gap, length in steps:
        speech.append(Stretch(clock + gap, clock + gap + length))
        clock += gap + length
    windows = asr.plan_windows(speech)
    assert all(0 < window.duration <= asr.WINDOW_SECONDS + 1e-6 for window in windows)
    assert all(a.end <= b.start + 1e-6 for a, b in pairwise(windows))
    for stretch in speech:
        covered = sum(max(0, min(w.end, stretch.end) - max(w.start, stretch.start)) for w in windows)
        assert covered == pytest.approx(stretch.duration, abs=1e-6)


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (heard("so we open the back room every thursday and people bring us broken things"), ""),
        (heard("No. No, no, no!"), ""),
        (heard(""), "no words"),
        (heard(". . . . . . . ."), "no words"),
        (heard("you", -1.35, 0.62), "no speech"),
        (heard("a quiet voice in a loud room", -1.2, 0.3), ""),
        (heard("1-2-3", -1.41, 0.56), "no speech"),
        (heard("banana", -1.03, 0.2), ""),
        (heard("I don't know", -1.7, 0.3), "low confidence"),
        (heard("1 cm x " + "2 cm x " * 30, -0.1, 0.9), "repetition"),
        (heard("thank you " * 7, -0.2, 0.1), "repetition"),
        (heard("音が" * 80), "repetition"),
    ],
)
def test_doubtful_windows_are_rejected_with_a_reason(what: DecodedWindow, why: str) -> None:
    assert asr.rejection_reason(what) == why


@pytest.mark.parametrize("language", TEXTS)
def test_ordinary_speech_is_not_a_loop_in_any_script(language: str) -> None:
    assert asr.compression_ratio(TEXTS[language]) < 1.8
    assert asr.rejection_reason(heard(TEXTS[language])) == ""


@pytest.mark.parametrize(
    "phrase", ["और मैं आपको बताता हूँ कि ", "ขอบคุณครับ ", "நன்றி வணக்கம் ", "ご視聴ありがとうございました。"]
)
def test_a_loop_is_detected_in_any_script(phrase: str) -> None:
    assert asr.compression_ratio(phrase * 12) > 2.4
    assert asr.rejection_reason(heard(phrase * 12)) == "repetition"


def test_words_with_combining_marks_are_counted_whole() -> None:
    assert asr._share_of_commonest("मैं हिन्दी में बोलता हूँ और वह हिन्दी में लिखता है क्योंकि हिन्दी में सब है") < 0.3


def test_a_loop_or_an_uncertain_text_needs_a_wider_search() -> None:
    assert asr.needs_wider_search(heard("the same again and " * 20))
    assert asr.needs_wider_search(heard("who knows", -1.1))
    assert not asr.needs_wider_search(heard("this is plain"))
    assert not asr.needs_wider_search(heard("you", -1.3, 0.7))


def test_segments_end_with_sentences_and_at_pauses() -> None:
    spoken = [
        ("Good", 0.0, 0.4),
        (" evening.", 0.4, 1.0),
        (" We", 1.1, 1.3),
        (" mend", 1.3, 2.0),
        (" things", 4.0, 4.5),
    ]
    segments = asr.segments_of([Word(word=word, start=start, end=end) for word, start, end in spoken])
    assert [segment.text for segment in segments] == ["Good evening.", "We mend", "things"]
    assert segments[1].start == 1.1
    assert segments[1].end == pytest.approx(2.0)
    assert [word.word for word in segments[0].words] == ["Good", "evening."]


def test_scripts_without_spaces_are_joined_without_them() -> None:
    words = [Word(word=word, start=i, end=i + 1) for i, word in enumerate(("今日", "は", "晴れ。"))]
    assert [segment.text for segment in asr.segments_of(words)] == ["今日は晴れ。"]


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ((" a", " self", "-starter", " by", " 14."), ["a", "self-starter", "by", "14."]),
        ((" $3", ".50", " or", " 20", "%"), ["$3.50", "or", "20%"]),
        ((" the", " U", ".S.", " economy"), ["the", "U.S.", "economy"]),
        (("「", "今日", "」", "は"), ["「", "今日", "」", "は"]),
    ],
)
def test_a_word_keeps_its_signs_and_suffixes(pieces: tuple[str, ...], words: list[str]) -> None:
    spoken = [Word(word=piece, start=i, end=i + 1) for i, piece in enumerate(pieces)]
    joined = [word for segment in asr.segments_of(spoken) for word in segment.words]
    assert [word.word for word in joined] == words
    assert (joined[0].start, joined[-1].end) == (0, len(pieces))
    assert all(a.end == b.start for a, b in pairwise(joined))


def test_no_word_begins_with_a_mark_of_the_previous_letter() -> None:
    pieces = ["วัน", "นี", "้", "อา", "กา", "ศ", "ด", "ี", " ທຳ", " မြန", "်မာ"]
    spoken = [Word(word=piece, start=i / 4, end=(i + 1) / 4) for i, piece in enumerate(pieces)]
    (segment,) = asr.segments_of(spoken)
    assert [word.word for word in segment.words] == ["วัน", "นี้", "อา", "กา", "ศ", "ดี", "ທຳ", "မြန်မာ"]
    assert segment.text == "".join(pieces)


@pytest.mark.parametrize("end", ["။", "។", "።", "։", "۔", "།", "？"])  # noqa: RUF001 a full-width mark is meant
def test_a_sentence_ends_with_the_mark_of_its_script(end: str) -> None:
    spoken = [Word(word="a" + end, start=0, end=1), Word(word=" b", start=1, end=2)]
    assert len(asr.segments_of(spoken)) == 2


def test_signs_after_a_pause_do_not_join_the_earlier_word() -> None:
    spoken = [Word(word=" well", start=0, end=1), Word(word="-yes", start=3, end=4)]
    assert [segment.text for segment in asr.segments_of(spoken)] == ["well", "-yes"]


def test_a_line_that_is_really_repeated_is_not_a_loop() -> None:
    line = "I have a dream that we will rise. "
    decoded = heard(line * 8)
    halves = [heard(line * 4).model_copy(update={"window": Stretch(0, 15)})] * 2
    assert asr.rejection_reason(decoded) == "repetition"
    assert asr.halves_agree(decoded, halves)
    assert asr.rejection_reason(decoded.model_copy(update={"is_confirmed": True})) == ""


def test_a_loop_that_continues_in_each_half_is_not_confirmed() -> None:
    loop = heard("oh " * 100)
    assert not asr.halves_agree(loop, [loop.model_copy(update={"window": Stretch(0, 15)})] * 2)
    fast = [heard("oh " * 50).model_copy(update={"window": Stretch(0, 4)})] * 2
    assert not asr.halves_agree(loop, fast)


def test_a_window_is_split_at_a_pause_near_its_middle() -> None:
    speech = [Stretch(0, 4), Stretch(4.2, 9), Stretch(9.4, 20)]
    assert asr.split_at_pause(Stretch(0, 20), speech) == [Stretch(0, 9.2), Stretch(9.2, 20)]
    assert asr.split_at_pause(Stretch(0, 4), speech) == []


def test_few_words_in_a_long_window_are_sparse_but_numbers_are_not() -> None:
    assert asr.is_sparse(heard("we want justice"))
    assert not asr.is_sparse(heard("1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18"))


def test_silences_and_joined_stretches_are_computed() -> None:
    assert asr.silences([Stretch(2, 3), Stretch(3.5, 6)], 8.0) == [Stretch(0, 2), Stretch(6, 8)]
    assert asr.merge_overlapping([Stretch(3, 5), Stretch(0, 1), Stretch(4, 6)]) == [Stretch(0, 1), Stretch(3, 6)]


def test_speech_without_words_is_found_between_words_and_at_both_ends() -> None:
    speech = [Stretch(0, 5), Stretch(10, 12), Stretch(12.5, 15), Stretch(20, 30), Stretch(40, 42)]
    words = [Word(word="a", start=4.5, end=5), Word(word="b", start=20, end=21), Word(word="c", start=29, end=30)]
    assert asr.unrecognised_speech(speech, words) == [Stretch(0, 4.5), Stretch(10, 15), Stretch(21, 29)]
    assert asr.unrecognised_speech(speech[:1], []) == [Stretch(0, 5)]
    assert asr.unrecognised_speech([], words) == []


def test_a_breath_or_a_laugh_is_not_missing_speech() -> None:
    words = [Word(word="a", start=0, end=5), Word(word="b", start=7.9, end=9)]
    assert asr.unrecognised_speech([Stretch(0, 9)], words) == []


def test_a_window_is_split_around_a_gap_between_its_words() -> None:
    words = [Word(word=w, start=t, end=t + 1) for w, t in (("a", 1), ("b", 2), ("c", 20))]
    whole = heard("").model_copy(update={"words": words})
    before, after = asr.split_around(whole, Stretch(4, 19))
    assert (before.window, before.words) == (Stretch(0, 4), words[:2])
    assert (after.window, after.words) == (Stretch(19, 30), words[2:])
    assert asr.split_around(whole, Stretch(22, 29))[1].words == []
