import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.core.titles.grounding import unspoken_words
from tasks.core.titles.headline import headline, hook

SAID = (
    "My grandmother's dog, re\u0301ally old, cost 1,000 dollars in Paris. "
    "\u201cWe don\u2019t sell word-by-word.\u201d ISI"
)


@pytest.mark.parametrize(
    ("text", "strange"),
    [
        ("", []),
        ("GRANDMOTHER: the dog!", ["the"]),
        ("Grandmother\u2019s old dog's", []),
        ("R\u00e9ally old", []),
        ("Don't sell a word by word", ["a"]),
        ("Is\u0131", []),
        ("We don\u2019t sell wo\u2026", []),
        ("We don\u2019t sell cats\u2026", ["cats"]),
        ("Wo sells", ["wo", "sells"]),
    ],
)
def test_words_are_compared_without_case_accents_and_possessives(text, strange):
    assert unspoken_words(text, SAID) == strange


def test_scripts_without_spaces_are_compared_letter_for_letter():
    assert unspoken_words("\u6c34\u3092\u6016\u304c\u308b", "\u732b\u306f\u6c34\u3092\u6016\u304c\u308b\u3002") == []
    assert unspoken_words("\u72ac\u3092\u6016\u304c\u308b", "\u732b\u306f\u6c34\u3092\u6016\u304c\u308b\u3002") != []


@settings(max_examples=150)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=80), min_size=1, max_size=4),
    st.sampled_from(["en", "xx"]),
)
def test_headline_and_hook_use_only_spoken_words(lines, language):
    lines = [unicodedata.normalize("NFC", line) for line in lines]
    title = headline(lines, lines, language)
    for text in (title, hook(lines, language, title)):
        assert unspoken_words(text, " ".join(lines)) == []


def test_a_headline_never_cuts_a_number_at_its_comma():
    line = "In the spring, there were 1,000 people who wanted to know what happens next, and nobody told them."
    for length in range(8, len(line)):
        said = line[:length].rsplit(" ", 1)[0]
        assert "000" not in headline([said], [said], "en").replace("1,000", "")
