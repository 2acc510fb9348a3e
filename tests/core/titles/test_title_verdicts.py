"""Titles of 80 windows of invented speech, judged by a reader who knew the rule, the words and the titles, and no code.

- good: could be posted as it is. A whole clause that a stranger understands and that fits, or makes curious; or a label
  of key phrases that says what the clip is about.
- borderline: whole and not wrong, but vague, flat, or about a minor thing; a label that says little; "Clip 1".
- bad: a fragment; refers to something that it does not name; garbled; misleading; a label with a phrase that is none.

Of the windows, every second one has hardly a sentence that stands alone. Those of `held_back.json` were not looked at
while the rules were made. Whoever changes a title has it judged again, and writes the verdict down.
"""

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tasks.core.titles.headline import fallback_title, headline

FOLDER = Path(__file__).parent / "title_windows"
HALVES = ("seen", "held_back")


@cache
def read(name: str):
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def titles(half: str) -> list[str]:
    found = []
    for recording in read(half):
        talk = [sentence for window in recording["windows"] for sentence in window["sentences"]]
        found += [headline(window["sentences"], talk, "en") or fallback_title(1) for window in recording["windows"]]
    return found


@pytest.mark.parametrize("half", HALVES)
def test_every_title_has_been_judged(half: str) -> None:
    assert titles(half) == [one["title"] for one in read("verdicts")[half]]


def test_titles_of_windows_that_were_not_looked_at_are_as_good_as_they_have_been() -> None:
    """Measured; wanted are at least 60 % good and at most 10 % bad.

    The two readers of these titles saw them mixed with those of the rules before, which they found good in 13 windows
    and bad in 11. Readers differ: an earlier one had found the same old titles good in 17 and bad in 8.
    """
    verdicts = Counter(one["verdict"] for one in read("verdicts")["held_back"])
    assert verdicts["good"] >= 15
    assert verdicts["bad"] <= 5
    assert verdicts.total() == 40
