"""Clips about a topic that was asked for."""

import pytest

from tasks.core.choice.selection import Talk, Wanted, select_windows
from tasks.core.choice.topic_match import is_form_of, match_topic, mentions, plain, topic_terms
from tasks.core.speech.terms import Line
from tasks.core.transcript import Sentence
from tests.core.choice.test_selection import FIRE, PIANO, dull_lines, spoken


@pytest.mark.parametrize(
    ("one", "other"),
    [("piano", "pianos"), ("child", "children"), ("repair", "repairing"), ("car", "cars"), ("cafe", "cafe"),
     ("stadt", "stadte"), ("организация", "организации")],
)  # fmt: skip
def test_forms_of_a_word_are_one(one: str, other: str):
    assert is_form_of(plain(one), plain(other))


@pytest.mark.parametrize(
    ("one", "other"), [("car", "card"), ("house", "horse"), ("piano", "pig"), ("inter", "international"), ("a", "as")]
)
def test_other_words_are_not(one: str, other: str):
    assert not is_form_of(one, other)


def test_words_without_meaning_and_accents_do_not_count():
    assert topic_terms("The story of the Café, and the piano!", ["en"]) == ["story", "cafe", "piano"]
    assert topic_terms("about this", ["en"]) == ["about", "this"]


def line(text: str) -> Line:
    return Line.of(Sentence(text=text, start=0, end=1, words=[]), None)


def test_mentions_are_counted_in_every_script():
    assert mentions(line("Two cafés, one Café."), "cafe") == 2
    assert mentions(line("私はピアノを弾く"), plain("ピアノ")) == 1
    assert mentions(line("nothing of it"), "cafe") == 0


TALK = [*dull_lines(20), *PIANO, *dull_lines(20, 1), *FIRE, *dull_lines(20, 2)]


@pytest.mark.parametrize(
    ("topic", "word"), [("the PIANOS", "piano"), ("my teacher", "teacher"), ("infrastructures", "infrastructure")]
)
def test_windows_about_the_topic_come_first(topic: str, word: str):
    chosen = select_windows(Talk(spoken(TALK), "en"), Wanted((10, 15), 1, topic=topic)).clips[0]
    assert word in chosen.text.lower()
    assert chosen.signals["asked_topic"] > 1


def test_without_a_topic_nothing_changes():
    with_none = select_windows(Talk(spoken(TALK), "en"), Wanted((10, 15), 3))
    assert all("asked_topic" not in clip.signals for clip in with_none.clips)
    elsewhere = select_windows(Talk(spoken(TALK), "en"), Wanted((10, 15), 3, topic="submarines"))
    assert [clip.start for clip in elsewhere.clips] == [clip.start for clip in with_none.clips]


def test_a_match_tells_how_often_each_word_is_said():
    match = match_topic("the piano", [line("A piano."), line("Pianos, pianos."), line("Fire.")], ["piano"])
    assert (match.terms, match.is_found) == ({"piano": 2}, True)
