import numpy as np
import pytest

from tasks.core.choice.signals import ending_scores, opening_scores, text_signals
from tasks.core.choice.topics import Topics
from tasks.core.choice.windows import Windows, z_scores
from tasks.core.speech.terms import Line, content_words, stem, tokens
from tasks.core.speech.wordlists import word_lists
from tasks.core.transcript import Sentence

ENGLISH = word_lists("en")


def lines_of(*lines: str, pause: float = 0.3) -> list[Line]:
    return [
        Line.of(Sentence(text=line, start=i * (2 + pause), end=i * (2 + pause) + 2, words=[]), ENGLISH)
        for i, line in enumerate(lines)
    ]


def one_line_windows(count: int) -> Windows:
    at = np.arange(count)
    return Windows(at, at, at.astype(float), at + 1.0)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("What would you do without water?", "The water is in the tank."),
        ("Never trust a quiet room.", "And the room was quiet."),
        ("You have to stop counting sheep.", "It was about counting the sheep."),
        ("Most people count sheep.", "He counted sheep then."),
    ],
)
def test_strong_openings_score_higher(better, worse):
    strength = opening_scores(lines_of("Fine.", better, "Fine.", worse, "Fine."))
    assert strength[1] > strength[3]


def test_an_answer_without_its_question_is_a_weak_opening():
    strength = opening_scores(lines_of("Why did it burn?", "Somebody left the oven on.", "Somebody left the oven on."))
    assert strength[2] > strength[1]


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (["We sang a song."], ["Did we sing?"]),
        (["We sang a song."], ["We sang a song,"]),
        (["We sang a song."], ["We sang a song.", "And so on."]),
        (["We sang a song."], ["We sang a song and a song and a song and a song."]),
    ],
)
def test_complete_endings_score_higher(better, worse):
    filler = ["We went to the sea.", "We had a fine day."]
    good = ending_scores(lines_of(*filler, *better, *filler))[2]
    bad = ending_scores(lines_of(*filler, *worse, *filler))[2]
    assert good > bad


def test_a_change_of_topic_is_the_deepest_boundary():
    cats = ["The cat sleeps on the sofa.", "A cat on a sofa purrs.", "That sofa belongs to the cat."] * 4
    boats = ["The boat sails the harbour.", "A harbour shelters the boat.", "Every boat needs a harbour."] * 4
    depth = Topics.of(content_words(lines_of(*cats, *boats))).boundaries()
    assert int(np.argmax(depth[1:-1])) + 1 == len(cats)


def test_each_signal_peaks_on_its_own_kind_of_line():
    lines = lines_of(
        "I said, you are late!", "Seven thousand two hundred forty.", "Extraordinary administrative proceedings."
    )
    found = text_signals(lines, Topics.of(content_words(lines)), one_line_windows(3))
    assert found["first_person"].argmax() == 0
    assert found["dialogue"].argmax() == 0
    assert found["second_person"].argmax() == 0
    assert found["numbers"].argmax() == 1
    assert found["word_length"].argmax() == 2


def test_promotion_is_detected():
    lines = lines_of("Use code KANG for ten percent off.", "The dog barked.")
    found = text_signals(lines, Topics.of(content_words(lines)), one_line_windows(2))
    assert list(found["promotion"]) == [1, 0]


def test_each_sentence_uses_the_word_lists_of_its_language():
    lines = lines_of("I said, you are!", "Aku bilang, kamu terlambat!", "Ich sagte, du bist spät!", "The dog barked.")
    lines[1:3] = [Line.of(lines[1].sentence, word_lists("id")), Line.of(lines[2].sentence, None)]
    found = text_signals(lines, Topics.of(content_words(lines)), one_line_windows(4))
    for name in ("first_person", "second_person", "dialogue"):
        assert found[name][1] == pytest.approx(found[name][0])
        assert np.isnan(found[name][2])
        assert z_scores(found[name])[2] == 0


def test_scores_are_standardised_within_the_talk():
    z = z_scores(np.array([1.0, 2.0, 3.0, 100.0]))
    assert z.max() <= 3
    assert z.mean() == pytest.approx(0, abs=1e-9)
    assert not z_scores(np.full(5, 7.0)).any()
    assert len(z_scores(np.zeros(0))) == 0


def test_tokens_and_stems_are_normalised():
    assert tokens("Don\u2019t \u201cstop\u201d, well-known 3.5!") == ["don't", "stop", "well-known", "3", "5"]
    assert stem("configuration's") == stem("configured") == "config"


def test_function_words_are_found_without_lists():
    lines = [Line.of(Sentence(text=f"der hund{i} und die katze{i}", start=i, end=i, words=[]), None) for i in range(40)]
    assert content_words(lines)[5] == ["hund5", "katze5"]
