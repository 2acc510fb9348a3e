"""The word lists of each language, in files that a translator can contribute."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tasks.core.speech.terms import tokens
from tasks.core.speech.wordlists import FOLDER, SECTIONS, WordFileError, abbreviations, fillers, parse, word_lists
from tests.folders import ROOT

FILES = sorted(file.name for file in FOLDER.iterdir())
ENGLISH = (FOLDER / "en.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_every_file_is_valid(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    abbreviated, lists, sounds, slips = parse(name, text)
    assert sounds
    assert slips
    assert [word for word in sounds | slips if tokens(word) != [word]] == []
    for key in SECTIONS["abbreviations"]:
        assert all(re.fullmatch(r"[^\W\d_]+(\.[^\W\d_]+)*", word) for word in getattr(abbreviated, key))
    if lists is None:
        assert any(getattr(abbreviated, key) for key in SECTIONS["abbreviations"])
        return
    for key in SECTIONS["words"]:
        assert [word for word in getattr(lists, key) if tokens(word) != [word]] == []
    for key in SECTIONS["phrases"]:
        assert [phrase for phrase in getattr(lists, key) if " ".join(tokens(phrase)) != phrase] == []


@pytest.mark.parametrize("name", FILES)
def test_every_section_and_list_has_a_comment(name: str) -> None:
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    heads = [i for i, line in enumerate(lines) if re.match(r"\[|\w+ = ", line)]
    assert heads
    assert [lines[i] for i in heads if not lines[i - 1].startswith("# ")] == []


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("english.toml", ENGLISH, "english.toml: name the file after Whisper's language code"),
        ("en.toml", ENGLISH + "[jokes]\n", "en.toml: unknown section jokes"),
        ("en.toml", ENGLISH.replace("story = ", "tale = "), "en.toml, phrases.tale: unknown list"),
        (
            "en.toml",
            re.sub(r'second_person = """.*?"""', "", ENGLISH, flags=re.DOTALL),
            "en.toml: second_person missing",
        ),
        ("en.toml", '[words]\nstop = "a"\n', "en.toml: first_person, .* missing"),
        ("en.toml", '[abbreviations]\nnever_last = "mr mr"\n', "never_last: mr appears twice"),
        ("en.toml", '[abbreviations]\nnever_last = "Mr"\n', "never_last: Mr must be in lower case"),
        ("en.toml", '[abbreviations]\nnever_last = ["mr"]\n', "never_last: must be quoted text"),
        ("en.toml", "words = 1\n", "en.toml: words must be a section"),
        ("en.toml", "words", "en.toml: Expected"),
        ("en.toml", ENGLISH.replace("one day\n", "one day\none  day\n"), "phrases.story: one day appears twice"),
    ],
)
def test_a_malformed_file_is_reported(name: str, text: str, fault: str) -> None:
    with pytest.raises(WordFileError, match=fault):
        parse(name, text)


def test_word_lists_are_found_by_language() -> None:
    english = word_lists("en")
    assert english is not None
    assert english is word_lists("en-GB")
    assert word_lists("id") not in (None, english)
    assert word_lists("de") is None  # abbreviations alone
    assert word_lists("xx") is None
    assert "i'll never forget" in english.story


def test_fillers_are_those_of_their_language() -> None:
    assert "um" in fillers("en")
    assert "um" not in fillers("de")
    assert "er" in fillers("en-GB")
    assert "er" not in fillers("de")
    assert fillers("xx") == frozenset()


def test_abbreviations_of_all_languages_are_combined() -> None:
    known = abbreviations()
    assert {"mr", "bpk", "sra", "mme"} <= known.never_last
    assert {"etc", "usw", "dll"} <= known.before_capital
    assert {"no", "nr", "jl"} <= known.before_number


def test_the_files_are_in_the_wheel(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.iterdir()
    assert {f"tasks/core/speech/words/{name}" for name in FILES} <= set(zipfile.ZipFile(wheel).namelist())
