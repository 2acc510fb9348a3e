"""Every module uses the same sentence-final marks."""

import pytest

from tasks.core.captions.ass import Typeface, ass
from tasks.core.choice.signals import opening_scores
from tasks.core.speech.asr import segments_of
from tasks.core.speech.punctuation import CLAUSE_FINAL, QUESTION_MARKS, SENTENCE_FINAL, ends_question, ends_sentence
from tasks.core.speech.sentences import sentences
from tasks.core.speech.terms import Line
from tasks.core.speech.writing_systems import clusters
from tasks.core.titles.headline import headline, shorten
from tasks.core.transcript import Segment, Sentence, Word


def words(*texts: str) -> list[Word]:
    return [Word(word=text, start=i * 0.3, end=(i + 1) * 0.3) for i, text in enumerate(texts)]


ENDINGS = [mark + closers for mark in SENTENCE_FINAL for closers in ("", "\u201d", "\u300d)", "]")]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_final_mark_ends_a_sentence_in_every_module(ending: str) -> None:
    spoken = words("Alles", f"gut{ending}", "Dann", "weiter")
    assert ends_sentence(spoken[1].word)
    assert not ends_sentence("gut")
    first, *_ = sentences([Segment(text="", start=0, duration=2, words=spoken)])
    assert first.words[-1].word == spoken[1].word
    spaced = [word.model_copy(update={"word": f" {word.word}"}) for word in spoken]
    assert [segment.words[-1].word for segment in segments_of(spaced)] == [spoken[1].word, "weiter"]
    script = ass(spoken, (1080, 1920), "de", Typeface("F"))
    assert not any("gut" in line and "Dann" in line for line in script.splitlines())


@pytest.mark.parametrize("mark", QUESTION_MARKS)
def test_every_question_mark_makes_a_question(mark: str) -> None:
    assert mark in SENTENCE_FINAL
    assert ends_question(f"gut{mark}")
    assert ends_question(f"gut{mark}!\u201d ")
    assert not ends_question(f"gut{mark} nein.")
    question, statement = (
        opening_scores([Line.of(Sentence(text=text, start=0, end=1, words=[]), None)])[0]
        for text in (f"Was ist das{mark}", "Was ist das.")
    )
    assert question - statement == pytest.approx(1.0)
    assert headline(["So fing es an.", f"Was ist das denn{mark}"], ["Anderes."], "de").endswith(mark)


@pytest.mark.parametrize("mark", [mark for mark in SENTENCE_FINAL + CLAUSE_FINAL if mark not in QUESTION_MARKS])
def test_no_shortened_title_ends_in_a_mark(mark: str) -> None:
    assert shorten(f"Alles ist gut{mark} und weiter", 16) == "Alles ist gut\u2026"


@pytest.mark.parametrize("mark", SENTENCE_FINAL + CLAUSE_FINAL)
def test_no_line_begins_with_a_mark(mark: str) -> None:
    assert clusters(f"ក{mark}ខ") == [f"ក{mark}", "ខ"]
