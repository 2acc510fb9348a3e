"""Parses the documents: pages, code, tables and the commands for readers to type."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tests.folders import ROOT

README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
OPERATORS = ("|", "||", "&&", ";", ">", "<")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def section(page: Path, title: str) -> str:
    """The text under a heading of the second level."""
    return read(page).split(f"\n## {title}\n")[1].split("\n## ")[0]


def blocks(text: str, language: str = "sh") -> list[str]:
    """The code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def inline(text: str) -> list[str]:
    """Text between backticks, outside code blocks."""
    return re.findall(r"`([^`\n]+)`", prose(text))


def prose(text: str) -> str:
    """The text without its code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code(text: str) -> str:
    """Text in code blocks and between backticks."""
    return "\n".join([*re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL), *inline(text)])


def table(text: str) -> dict[str, list[str]]:
    """The rows of the text's tables by their first cell, without its backticks."""
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in re.findall(r"^\|.+\|$", text, re.MULTILINE)
    ]
    return {row[0].strip("`| "): row[1:] for row in rows if not row[0].strip().startswith("---")}


def typed(text: str) -> Iterator[list[str]]:
    """Each command to type, as words, from shell blocks and between backticks."""
    lines = [line for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *inline(text)]:
        words: list[str] = []
        for word in _split(line):
            if word in OPERATORS:
                yield words
                words = []
            else:
                words.append(word)
        yield words


def _split(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:  # not a command: an unbalanced quotation mark
        return []


def calls(text: str, program: str) -> Iterator[list[str]]:
    """The arguments of each command that calls the program; `JOB` stands for what xargs adds."""
    for words in typed(text):
        for at, word in enumerate(words):
            if word == program or word.endswith(f"/bin/{program}"):
                yield [*words[at + 1 :], *(["JOB"] if words[0] == "xargs" else [])]
                break
