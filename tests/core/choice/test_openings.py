"""What never begins a clip."""

import pytest

from tasks.core.choice.openings import is_empty, may_close, may_open
from tasks.core.choice.selection import Talk, Wanted, select_windows
from tasks.core.speech.terms import Line
from tasks.core.speech.wordlists import word_lists
from tasks.core.transcript import Sentence, Word
from tests.core.choice.test_selection import FIRE, dull_lines, spoken

EMPTY = {
    "en": [
        "Thank you.",
        "Thank you so much for having me.",
        "Thanks, everyone.",
        "So, yeah.",
        "Yeah, exactly.",
        "Right.",
        "Okay, great.",
        "Mm-hmm.",
        "Absolutely, of course.",
        "Hello, everybody, and welcome to the show.",
        "Hi, my name is Ann.",
        "Good morning!",
        "And, well, good evening, ladies and gentlemen.",
        "That's a great question.",
        "I mean, you know.",
        "So that's it.",
        "Welcome back to the garden.",
        "Really?",
        "Well, it's great to be here.",
    ],
    "id": [
        "Terima kasih.",
        "Halo semuanya, selamat datang di kanal ini.",
        "Iya, betul.",
        "Oke, siap.",
        "Nama saya Budi.",
    ],
    "de": ["Ja, genau.", "Danke."],
    "fr": ["Merci beaucoup."],
}
FULL = {
    "en": [
        "So I quit my job and bought a boat.",
        "Yeah, my father lost the farm that year.",
        "Why do we sleep?",
        "The best thanks I ever got was a potato.",
        "Right of way is the oldest law of the sea.",
        "Nobody told the pilot.",
        "Imagine a city without cars.",
        "You lost everything in one night.",
    ],
    "id": ["Jadi saya berhenti kerja dan membeli perahu.", "Kenapa kita tidur?"],
    "de": ["Mein Vater verlor den Hof.", "Warum?"],
    "ja": ["そうですね。"],
}


def line(text: str, language: str, at: float = 0.0) -> Line:
    return Line.of(Sentence(text=text, start=at, end=at + 2, words=[]), word_lists(language))


@pytest.mark.parametrize(("language", "text"), [(code, text) for code, texts in EMPTY.items() for text in texts])
def test_thanks_greetings_and_replies_are_empty(language, text):
    assert is_empty(line(text, language))


@pytest.mark.parametrize(("language", "text"), [(code, text) for code, texts in FULL.items() for text in texts])
def test_sentences_that_say_something_are_not(language, text):
    assert not is_empty(line(text, language))


@pytest.mark.parametrize(
    ("answer", "opens"),
    [
        ("Because it was cheaper.", False),
        ("They did it for the money.", False),
        ("The company had lost its only customer.", True),
        ("Did it rain?", True),
    ],
)
def test_an_answer_opens_a_clip_only_if_it_stands_alone(answer, opens):
    assert may_open([line("Why did they leave?", "en"), line(answer, "en", 2.3)])[1] == opens
    assert may_open([line("They left the town.", "en"), line(answer, "en", 2.3)])[1]


def said(text: str, at: float, speaker: int | None) -> Line:
    words = [
        Word(word=word, start=at + i / 2, end=at + i / 2 + 0.4, speaker=speaker) for i, word in enumerate(text.split())
    ]
    return Line.of(Sentence(text=text, start=at, end=words[-1].end, words=words), word_lists("en"))


@pytest.mark.parametrize(
    ("text", "asks", "answers", "pause", "closes"),
    [
        ("So why did you leave?", 2, 1, 0.5, False),
        ("So why did you leave?", 1, 1, 0.5, True),
        ("So why did you leave?", None, None, 0.5, True),
        ("So why did you leave?", 2, 1, 30.0, True),
        ("So you left.", 2, 1, 0.5, True),
    ],
    ids=["another answers", "rhetorical", "speakers not known", "nobody answers", "no question"],
)
def test_a_clip_does_not_end_with_a_question_that_another_answers(text, asks, answers, pause, closes):
    question = said(text, 0.0, asks)
    answer = said("I left because of the winters.", question.sentence.end + pause, answers)
    assert may_close([question, answer]).tolist() == [closes, True]
    assert may_close([answer, question])[1]
    assert len(may_close([])) == 0


def test_the_question_is_left_to_the_next_clip():
    host = "And what did your father say about it?"
    talk = spoken([*dull_lines(6, 1), *FIRE, host, *dull_lines(9, 4)])
    seconds = talk[6 + len(FIRE)].end - talk[6].start
    talk = [
        one.model_copy(
            update={"words": [w.model_copy(update={"speaker": 2 if one.text == host else 1}) for w in one.words]}
        )
        for one in talk
    ]
    choice = select_windows(Talk(talk, "en"), Wanted((seconds - 1, seconds + 1), 1))
    assert choice.clips
    assert host not in [talk[clip.last].text for clip in [*choice.clips, *choice.reserve]]


@pytest.mark.parametrize("empty", ["Thank you.", "So, yeah.", "Hello, everyone."])
def test_a_clip_begins_after_an_empty_opening(empty):
    talk = spoken([*dull_lines(12, 1), empty, *FIRE, *dull_lines(12, 2)])
    choice = select_windows(Talk(talk, "en"), Wanted((12.0, 15.0), 2))
    assert not any(talk[clip.first].text == empty for clip in [*choice.clips, *choice.reserve])
    assert any(FIRE[1] in clip.text for clip in choice.clips)


def test_where_nothing_else_fits_a_clip_begins_with_a_greeting_and_says_so():
    talk = spoken(["Hello, everyone.", *FIRE])
    seconds = talk[-1].end - talk[0].start
    choice = select_windows(Talk(talk, "en"), Wanted((seconds, seconds + 1), 1))
    assert choice.clips[0].first == 0
    assert any("greeting" in note for note in choice.notes)
