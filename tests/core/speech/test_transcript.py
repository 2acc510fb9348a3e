"""The language of the words in a stretch."""

from tasks.core.transcript import Segment, Speech, Word


def segment(start: float, count: int, language: str | None) -> Segment:
    words = [Word(word="w", start=start + i, end=start + i + 0.5) for i in range(count)]
    return Segment(text="", start=start, duration=count, words=words, language=language)


def test_the_language_is_that_of_most_words_in_the_stretches():
    segments = [segment(0, 10, "en"), segment(10, 4, "es"), segment(14, 3, None)]
    assert Speech(segments, "en").language_of([(0, 17)]) == "en"
    assert Speech(segments, "en").language_of([(8, 14)]) == "es"
    assert Speech(segments, "de").language_of([(9, 12), (14, 15)]) == "es"
    assert Speech(segments, "de").language_of([(14, 17)]) == "de"
    assert Speech(segments, "de").language_of([(20, 30)]) == "de"
    assert Speech([], "de").language_of([(0, 1)]) == "de"
