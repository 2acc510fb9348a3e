"""Subtitle files: what is on screen when, and that players and people can read it."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.core.captions.subtitles import (
    COLUMNS_PER_SECOND,
    LINE_COLUMNS,
    LINES,
    LONGEST_CUE,
    columns,
    cues,
    srt,
    vtt,
)
from tasks.core.transcript import Word

TALK = (
    "So here is the thing. When people tell you that they are bad with their hands, what they mean is that nobody "
    "ever let them try, and that is a shame, because hands learn faster than heads. Walter came in one night. "
    "He had a lamp under his arm, an old one, and he said: it does not work. Well, we opened it."
)


TEXT = "we opened it and looked at what was inside of the lamp"


def spoken(text, pace=0.3, pauses=True, start=0.5):
    """The words at `pace` seconds each, with a pause of half a second after each sentence."""
    words, now = [], start
    for word in text.split():
        words.append(Word(word=word, start=round(now, 3), end=round(now + pace * 0.9, 3)))
        now += pace + (0.5 if pauses and word.endswith((".", "?", "!")) else 0.0)
    return words


def flat(found):
    return " ".join(line for cue in found for line in cue.lines)


def test_a_talk_becomes_lines_that_people_can_read():
    words = spoken(TALK)
    found = cues(words, "en", words[-1].end + 1)
    assert flat(found) == TALK
    assert all(len(cue.lines) <= LINES and columns(line) <= LINE_COLUMNS for cue in found for line in cue.lines)
    assert all(sum(map(columns, cue.lines)) / (cue.end - cue.start) <= COLUMNS_PER_SECOND for cue in found)
    assert all(1.0 <= cue.end - cue.start <= LONGEST_CUE + 1.5 for cue in found)


def test_cues_end_with_sentences_and_clauses_where_there_is_room():
    words = spoken(TALK)
    ends = [cue.lines[-1][-1] for cue in cues(words, "en", words[-1].end + 1)]
    assert sum(end in ".,:" for end in ends) / len(ends) >= 0.8


def test_a_cue_begins_with_its_first_word_and_never_ends_before_its_last():
    words = spoken(TALK)
    found = cues(words, "en", words[-1].end + 1)
    starts = {word.start for word in words}
    assert all(cue.start in starts for cue in found)
    by_start = sorted(words, key=lambda word: word.start)
    for cue, following in zip(found, [*found[1:], None], strict=True):
        inside = [w for w in by_start if cue.start <= w.start and (following is None or w.start < following.start)]
        assert cue.end >= inside[-1].end - 1e-6


@pytest.mark.parametrize("place", range(1, 12))
def test_a_cue_is_one_speakers(place):
    one, other = TEXT.split()[:place], TEXT.split()[place:]
    words = [word.model_copy(update={"speaker": 1}) for word in spoken(" ".join(one), pauses=False)]
    later = spoken(" ".join(other), pauses=False, start=words[-1].end + 0.25)
    words += [word.model_copy(update={"speaker": 2}) for word in later]
    found = cues(words, "en", words[-1].end + 1)
    assert words[place].start in [cue.start for cue in found]
    assert flat(found) == TEXT


def test_a_change_of_speaker_in_the_middle_of_a_phrase_is_no_break():
    words = spoken(TEXT, pauses=False)
    misjudged = [word.model_copy(update={"speaker": 1 + (n == 3)}) for n, word in enumerate(words)]
    assert [cue.lines for cue in cues(misjudged, "en", 20)] == [cue.lines for cue in cues(words, "en", 20)]


def test_a_long_pause_clears_the_screen():
    words = [*spoken("One thing."), *spoken("Another thing.", start=10.0)]
    first, second = cues(words, "en", 12)
    assert first.end < 4
    assert second.start == 10.0


def test_speech_faster_than_anyone_reads_is_shown_as_long_as_it_is_spoken():
    words = spoken(TALK, pace=0.12, pauses=False)
    found = cues(words, "en", words[-1].end)
    assert flat(found) == TALK
    spare = [b.start - a.end for a, b in pairwise(found)]
    assert max(spare) <= 0.02  # no cue leaves early


@pytest.mark.parametrize(
    ("text", "language", "longest"),
    [
        (["今天", "我们", "来看", "一个", "很", "简单", "的", "例子，"] * 6, "zh", 21),  # noqa: RUF001
        (["สวัสดี", "ครับ", "วันนี้", "เรา"] * 10, "th", 42),
        (["привет,", "это", "проверка"] * 10, "ru", 42),
    ],
)
def test_other_scripts_keep_to_the_width(text, language, longest):
    words = [Word(word=word, start=i * 0.4, end=i * 0.4 + 0.35) for i, word in enumerate(text)]
    found = cues(words, language, len(text) * 0.4)
    assert flat(found).replace(" ", "") == "".join(text)
    assert max(len([c for c in line if columns(c)]) for cue in found for line in cue.lines) <= longest


def test_a_line_that_begins_with_a_foreign_word_runs_in_the_languages_direction():
    words = spoken("Python היא שפה טובה מאוד.")
    assert cues(words, "he", 5)[0].lines[0].startswith("\u200fPython")


def test_an_endless_word_is_divided():
    found = cues([Word(word="a" * 500, start=0.0, end=9.0)], "en", 10)
    assert "".join(line for cue in found for line in cue.lines) == "a" * 500
    assert all(columns(line) <= LINE_COLUMNS for cue in found for line in cue.lines)


def test_hostile_text_is_shown_as_text():
    words = spoken("<b>bold</b> {\\an8}up 1 --> 2 & <3 \u202eevil\x00\n\n2")
    found = cues(words, "en", 10)
    shown = srt(found)
    assert not re.search(r"<[/a-z]|\{\\", shown)
    assert len(re.findall(" --> ", shown)) == len(found)
    assert "\u202e" not in shown
    assert "\x00" not in shown
    web = vtt(found)
    assert "<" not in web.replace("-->", "")
    assert "&lt;b&gt;bold&lt;/b&gt;" in web
    assert web.count("-->") == len(found)


def test_cues_are_written_as_subrip_and_webvtt():
    words = [Word(word="Hello.", start=3599.5, end=3600.25)]
    found = cues(words, "en", 3700)
    assert srt(found) == "1\n00:59:59,500 --> 01:00:00,500\nHello.\n"
    assert vtt(found) == "WEBVTT\n\n00:59:59.500 --> 01:00:00.500\nHello.\n"


def test_a_clip_without_words_has_empty_files():
    assert srt(cues([], "en", 10)) == ""
    assert vtt(cues([], "en", 10)) == "WEBVTT\n"


TIMES = st.floats(min_value=-2, max_value=30, allow_nan=False)
WORDS = st.lists(st.builds(Word, word=st.text(max_size=60), start=TIMES, end=TIMES), max_size=40)


OVERLAPPING = [Word(word="0" * 43, start=0, end=10), Word(word="0", start=8, end=0)]
"""A word that is cut in two, the second part after the beginning of the next word."""


@given(WORDS, st.sampled_from(["en", "he", "ja"]))
@example(OVERLAPPING, "en")
def test_cues_of_any_words_are_in_order_apart_and_within_the_clip(words, language):
    found = cues(words, language, 20.0)
    assert all(0 <= cue.start <= cue.end <= 20.0 for cue in found)
    assert all(a.end <= b.start + 1e-9 for a, b in pairwise(found))
    assert all(line.strip() for cue in found for line in cue.lines)
    assert all(columns(line) <= LINE_COLUMNS for cue in found for line in cue.lines)


def test_a_clip_crammed_with_words_takes_no_time():
    crammed = [Word(word="a", start=i * 0.015, end=i * 0.015 + 0.01) for i in range(4000)]
    began = time.process_time()
    assert flat(cues(crammed, "en", 60.0)).split() == ["a"] * 4000
    assert time.process_time() - began < 10  # 0.8 measured; when every line break was joined anew, 2,000 words took 44
