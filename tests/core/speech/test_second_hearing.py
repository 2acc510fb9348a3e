"""What a second, better recogniser heard, as corrections of the first one's words."""

import pytest

from tasks.core.speech.second_hearing import LONGEST_CHANGE, SecondHearing, corrections
from tasks.core.transcript import Word


def said(text: str, start: float = 0.0, pace: float = 0.4) -> list[Word]:
    return [
        Word(word=word, start=start + i * pace, end=start + (i + 0.9) * pace) for i, word in enumerate(text.split())
    ]


FIRST = "So the elegance walked home. Nobody new why, not even Jon."
CASES = {
    "nothing is different": (FIRST, {}),
    "only marks and case are different": ("so, the Elegance walked home! Nobody new why not even jon", {}),
    "one word": ("So the elephants walked home. Nobody new why, not even Jon.", {2: "elephants"}),
    "marks stay": ("So the elegance walked away. Nobody new why, not even Jean?", {4: "away.", 10: "Jean."}),
    "two words for two": ("So the elegance walked home. Nobody knew who, not even Jon.", {6: "knew", 7: "who,"}),
    "a word more": ("So the old elegance walked home. Nobody new why, not even Jon.", {1: "the old"}),
    "two for one": ("So the elegance walked home. Nobody ever knew why, not even Jon.", {6: "ever knew"}),
    "the beginning of a sentence": ("So the elegance walked home. somebody new why, not even Jon.", {5: "Somebody"}),
    "a word less": ("So the elegance home. Nobody new why, not even Jon.", {}),
    "one for two": ("So the elegance walked home. Nobody newest, not even Jon.", {}),
    "more before and after": ("And then So the elegance walked home. Nobody new why, not even Jon. Yes.", {}),
}


@pytest.mark.parametrize("name", CASES)
def test_words_that_sound_different_are_corrected_in_place(name: str):
    again, expected = CASES[name]
    first, heard = said(FIRST), again.split()
    step = 0.4 * len(first) / len(heard)
    before = heard.index("So") * step if "So" in heard else 0.0
    assert corrections(first, said(again, -before, step)) == expected


def test_what_is_mostly_different_was_made_up():
    assert corrections(said(FIRST), said("Thanks for watching and see you next time, not even Jon.")) == {}
    assert corrections(said(FIRST), []) == {}
    assert corrections([], said(FIRST)) == {}


def test_long_runs_of_new_words_are_left_out():
    more = " ".join(["again"] * (LONGEST_CHANGE + 1))
    heard = said(f"So the {more} elegance walked home. Nobody new why, not even Jon.", pace=0.28)
    assert corrections(said(FIRST), heard) == {}


def test_a_word_at_another_time_is_another_word():
    far = said("So the elephants walked home. Nobody new why, not even Jon.", start=3.0)
    assert corrections(said(FIRST), far) == {}


def test_no_word_appears_or_vanishes():
    """Whatever was heard, places are those of the first words, and no text is empty."""
    for again in (FIRST.upper(), FIRST[::-1], "… — !", "So so so the the elegance walked home home why even Jon"):
        found = corrections(said(FIRST), said(again, pace=0.3))
        assert set(found) <= set(range(len(FIRST.split())))
        assert all(text.strip() for text in found.values())


def test_all_parts_together():
    assert SecondHearing([{1: "a"}, {}, {7: "b"}], "base").changed == {1: "a", 7: "b"}
