"""Word lists that reveal the role of a sentence, one file per language in `words/`.

The English lists feed signals that were measured against audience reactions; the Indonesian ones are
their counterparts in spoken Indonesian. Other languages have none, and callers report that. The files
ship with the package and are read once.
"""

import functools
import tomllib
from collections import Counter
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, NamedTuple, cast

from tasks.core.languages import LANGUAGES

FOLDER = resources.files("tasks.core.speech") / "words"


class WordFileError(ValueError):
    """A word file violates the rules in CONTRIBUTING.md; the message names the file, section and word."""


@dataclass(frozen=True)
class Abbreviations:
    """Abbreviations without their full stop, grouped by when that full stop also ends a sentence.

    `never_last`: never. `before_capital`: only before a capital letter. `before_number`: except before a number.
    """

    never_last: frozenset[str] = frozenset()
    before_capital: frozenset[str] = frozenset()
    before_number: frozenset[str] = frozenset()


class Language(NamedTuple):
    """What a file says. `lists` is None if it has none; `fillers` are sounds between words, such as "um".

    `slips` are words that nobody says twice in a row on purpose.
    """

    abbreviations: Abbreviations
    lists: "WordLists | None"
    fillers: frozenset[str]
    slips: frozenset[str]


@dataclass(frozen=True)
class WordLists:
    """A language's words in lower case, without punctuation. Phrases are sequences of whole words.

    The comments in `words/en.toml` explain each list.
    """

    stop: frozenset[str]
    first_person: frozenset[str]
    second_person: frozenset[str]
    said: frozenset[str]
    discourse: frozenset[str]
    unscripted: frozenset[str]
    replies: frozenset[str]
    openers: frozenset[str]
    asides: frozenset[str]
    question: frozenset[str]
    positive: frozenset[str]
    contrast: frozenset[str]
    claim: frozenset[str]
    conjunctions: frozenset[str]
    backward: frozenset[str]
    finite: frozenset[str]
    joining: frozenset[str]
    tails: frozenset[str]
    reasons: frozenset[str]
    subordinators: frozenset[str]
    conditions: frozenset[str]
    halves: frozenset[str]
    leads_on: frozenset[str]
    prepositions: frozenset[str]
    lead_ins: frozenset[str]
    determiners: frozenset[str]
    articles: frozenset[str]
    subjects: frozenset[str]
    relatives: frozenset[str]
    pointing: frozenset[str]
    commands: frozenset[str]
    auxiliaries: frozenset[str]
    linking: frozenset[str]
    adjuncts: frozenset[str]
    negations: frozenset[str]
    before_verbs: frozenset[str]
    refers_to_persons: frozenset[str]
    vague: frozenset[str]
    past_endings: frozenset[str]
    present_endings: frozenset[str]
    number_words: frozenset[str]
    kept_openings: tuple[str, ...]
    opening_phrases: tuple[str, ...]
    frames: tuple[str, ...]
    backward_phrases: tuple[str, ...]
    empty_subjects: tuple[str, ...]
    claim_phrases: tuple[str, ...]
    story: tuple[str, ...]
    promotion: tuple[str, ...]
    courtesies: tuple[str, ...]
    asides_between: tuple[str, ...]
    announcing: tuple[str, ...]
    insisting: tuple[str, ...]
    sounds: frozenset[str] = frozenset()
    """Fillers, from the section of that name."""

    @functools.cached_property
    def meaningless(self) -> frozenset[str]:
        """Words that say nothing by themselves."""
        return self.stop | self.determiners

    @functools.cached_property
    def referring(self) -> frozenset[str]:
        """Words that refer to what was named before."""
        return self.backward | self.refers_to_persons

    @functools.cached_property
    def outside_phrases(self) -> frozenset[str]:
        """Words that are no part of a key phrase."""
        said_of_things = self.finite | self.said | self.vague
        joining = self.prepositions | self.subordinators
        return self.meaningless | self.subjects | self.openers | self.asides | said_of_things | joining

    @functools.cached_property
    def function_words(self) -> frozenset[str]:
        """Words that lead on to the next one: articles, prepositions, conjunctions, pronouns, auxiliary verbs."""
        auxiliaries, pronouns = self.finite & self.stop, self.subjects & self.stop
        joining = self.joining | self.conjunctions | self.subordinators | self.relatives
        return self.leads_on | self.determiners | self.prepositions | joining | auxiliaries | pronouns


PHRASES = (
    "kept_openings",
    "opening_phrases",
    "frames",
    "backward_phrases",
    "empty_subjects",
    "claim_phrases",
    "story",
    "promotion",
    "courtesies",
    "asides_between",
    "announcing",
    "insisting",
)
"""Lists in the section `phrases`, with one phrase per line. All other lists are words separated by spaces."""
SECTIONS = {
    "abbreviations": tuple(field.name for field in fields(Abbreviations)),
    "words": tuple(field.name for field in fields(WordLists) if field.name not in (*PHRASES, "sounds")),
    "phrases": PHRASES,
    "fillers": ("sounds", "slips"),
}


def word_lists(language: str) -> WordLists | None:
    """The lists for a Whisper language code, or None if there are none."""
    found = _languages().get(_code(language))
    return found.lists if found else None


def fillers(language: str) -> frozenset[str]:
    """The sounds between words that a tight clip leaves out; empty if none are known for the language."""
    found = _languages().get(_code(language))
    return found.fillers if found else frozenset()


def slips(language: str) -> frozenset[str]:
    """The words that nobody says twice in a row on purpose; empty if none are known for the language."""
    found = _languages().get(_code(language))
    return found.slips if found else frozenset()


def _code(language: str) -> str:
    return language.casefold().split("-")[0]


@functools.cache
def abbreviations() -> Abbreviations:
    """The abbreviations of all languages combined, because sentences are split before the language is certain."""
    found = [language.abbreviations for language in _languages().values()]
    return Abbreviations(
        **{name: frozenset[str]().union(*(getattr(one, name) for one in found)) for name in SECTIONS["abbreviations"]}
    )


@functools.cache
def _languages() -> dict[str, Language]:
    files = [file for file in FOLDER.iterdir() if file.name.endswith(".toml")]
    return {file.name.removesuffix(".toml"): parse(file.name, file.read_text(encoding="utf-8")) for file in files}


def parse(name: str, text: str) -> Language:
    """Parse a word file. A file may have no word lists.

    Raises:
        WordFileError: it is not TOML, not named after a Whisper code, a section or list is missing or unknown,
            or a word is repeated or not in lower case.
    """
    if name.removesuffix(".toml") not in LANGUAGES:
        raise WordFileError(f"{name}: name the file after Whisper's language code, such as en.toml")
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WordFileError(f"{name}: {error}") from error
    if unknown := set(content) - set(SECTIONS):
        raise WordFileError(f"{name}: unknown section {', '.join(sorted(unknown))}")
    lists = {section: _section(name, section, content.get(section, {})) for section in SECTIONS}
    abbreviated = Abbreviations(**{key: frozenset(words) for key, words in lists["abbreviations"].items()})
    sounds, twice = (frozenset(lists["fillers"].get(key, ())) for key in SECTIONS["fillers"])
    if not lists["words"] and not lists["phrases"]:
        return Language(abbreviated, None, sounds, twice)
    if missing := [key for section in ("words", "phrases") for key in SECTIONS[section] if key not in lists[section]]:
        raise WordFileError(f"{name}: {', '.join(missing)} missing")
    words: dict[str, Any] = {key: frozenset(words) for key, words in lists["words"].items()}
    phrases: dict[str, Any] = {key: tuple(phrases) for key, phrases in lists["phrases"].items()}
    return Language(abbreviated, WordLists(**words, **phrases, sounds=sounds), sounds, twice)


def _section(name: str, section: str, lists: object) -> dict[str, list[str]]:
    """The lists of a section, checked."""
    if not isinstance(lists, dict):
        raise WordFileError(f"{name}: {section} must be a section")
    texts = cast("dict[str, object]", lists)
    return {key: _list(f"{name}, {section}.{key}", section, key, text) for key, text in texts.items()}


def _list(at: str, section: str, key: str, text: object) -> list[str]:
    if key not in SECTIONS[section]:
        raise WordFileError(f"{at}: unknown list")
    if not isinstance(text, str):
        raise WordFileError(f"{at}: must be quoted text")
    in_lines = section == "phrases"
    words = [" ".join(line.split()) for line in text.splitlines() if line.strip()] if in_lines else text.split()
    if bad := [word for word in words if word != word.lower()]:
        raise WordFileError(f"{at}: {bad[0]} must be in lower case")
    if twice := [word for word, times in Counter(words).items() if times > 1]:
        raise WordFileError(f"{at}: {twice[0]} appears twice")
    return words
