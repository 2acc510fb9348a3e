import pytest

from tasks.core.speech.asr import Stretch
from tasks.core.speech.language_spans import (
    LanguageWindow,
    join_short_stretches,
    language_windows,
    most_likely_languages,
)

EN, ES = {"en": 0.96, "la": 0.02, "es": 0.01}, {"es": 0.95, "en": 0.02}
FIVE = [Stretch(5.0 * i, 5.0 * i + 4.5) for i in range(8)]


@pytest.mark.parametrize(
    ("guesses", "before", "languages"),
    [
        ([EN, EN, ES, ES], None, "en en es es"),
        ([EN, ES, ES, EN], None, "en es es en"),
        ([EN, {"cy": 0.5, "en": 0.3}, EN], None, "en en en"),
        ([{"la": 0.57, "es": 0.35}, ES], None, "es es"),
        ([{"ko": 0.4, "en": 0.2}], "en", "en"),
        ([ES], "en", "es"),
    ],
)
def test_languages_are_the_likeliest_sequence_with_rare_changes(guesses, before, languages):
    assert most_likely_languages(FIVE[: len(guesses)], guesses, before) == languages.split()


def test_half_a_second_of_another_language_is_ignored():
    short = [FIVE[0], Stretch(5.0, 5.5), Stretch(6.0, 10.0)]
    assert most_likely_languages(short, [EN, ES, EN], None) == ["en", "en", "en"]


def test_a_change_of_language_ends_a_window():
    found = language_windows(FIVE[:4], ["en", "en", "es", "es"])
    assert found == [LanguageWindow(Stretch(0, 9.5), "en"), LanguageWindow(Stretch(10, 19.5), "es")]


def test_pieces_are_long_enough_to_detect_a_language_and_end_at_pauses():
    speech = [Stretch(0, 1.5), Stretch(1.5, 3.5), Stretch(3.5, 6.0), Stretch(6.5, 12.2), Stretch(12.2, 13.0)]
    assert join_short_stretches(speech) == [Stretch(0, 3.5), Stretch(3.5, 6.0), Stretch(6.5, 13.0)]
    assert join_short_stretches([]) == []
