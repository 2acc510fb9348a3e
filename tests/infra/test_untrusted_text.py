"""Untrusted text is cleaned by one set of rules in one module."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.untrusted_text import JOINERS, WORD_BREAK, harmless, has_controls, log_line, one_line, several_lines
from tests.folders import ROOT

HOSTILE = "\x1b\x07\x9b\u202e\u2066\u200f\ufeff\ue000\ud800"


@pytest.mark.parametrize(
    ("hostile", "plain"),
    [
        ("\x1b[31mred\x1b[0m", "[31mred [0m"),
        ("right \u202eto left\u2066", "right to left"),
        ("two\r\nlines\u2028more", "two lines more"),
        ("nul\x00 and \ud800 half", "nul and half"),
        ("  folded \t white  space ", "folded white space"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("مرحبا بالعالم", "مرحبا بالعالم"),
        ("👩\u200d🚀 family", "👩\u200d🚀 family"),
        ("Cafe\u0301", "Café"),
        ("", ""),
        ("\x00\u202e", ""),
        ("\u200d \u200c", ""),
        (None, ""),
        (["a"], ""),
    ],
)
def test_one_line_removes_controls_and_folds_white_space(hostile: object, plain: str) -> None:
    assert one_line(hostile, 300) == plain


@given(st.text(max_size=2000))
def test_one_line_is_always_one_short_encodable_line(hostile: str) -> None:
    plain = one_line(hostile, 300)
    assert len(plain) <= 300
    assert len(plain.splitlines()) <= 1
    assert plain.encode().decode() == plain


@given(st.text(max_size=60))
def test_every_cleaner_removes_hostile_characters(text: str) -> None:
    hostile = HOSTILE + text + HOSTILE
    cleaned = [one_line(hostile), several_lines(hostile, 300).replace("\n", ""), log_line(hostile, 300)]
    for plain in [*cleaned, harmless(hostile)]:
        assert not has_controls(plain)
        assert not set(HOSTILE) & set(plain)


def test_a_letter_composed_of_two_characters_is_kept_whole() -> None:
    assert one_line("\u0958" * 9) == "\u0915\u093c" * 9  # NFC writes this letter as two


def test_several_lines_keeps_line_breaks() -> None:
    assert several_lines("a\x1b\r\n  b\u202e\rc\n\n", 300) == "a\nb\nc"
    assert several_lines("ab\n" * 50, 7) == "ab\nab\na"
    assert several_lines(None, 7) == ""


def test_log_line_keeps_indentation() -> None:
    assert log_line("    raise \x1b[1mError\u202e\tof it  \n" + " " * 9, 500) == "    raise  [1mError of it"
    assert len(log_line("x" * 900, 500)) == 500


def test_harmless_can_keep_invisible_word_breaks() -> None:
    assert harmless("ក\u200bខ\u202e\u200d", JOINERS + WORD_BREAK) == "ក\u200bខ\u200d"


def test_no_other_module_has_rules_for_untrusted_text() -> None:
    rules = re.compile(r"unicodedata\.category\(|\.isprintable\(|\"Cc\"|\\x1f|\\u202[a-e]")
    files = [path for folder in ("tasks", "flows", "infra", "deployments") for path in (ROOT / folder).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if rules.search(path.read_text(encoding="utf-8"))}
    assert found == {
        "infra/untrusted_text.py",
        "infra/bucket/request_rules.py",  # object keys are refused, not cleaned
        "deployments/api/job_request.py",  # as are addresses
        "tasks/core/captions/ass.py",  # marks have no width
        "tasks/core/captions/subtitles.py",  # nor here
        "tasks/engines/captions/fonts.py",  # which characters need a glyph
    }
