"""Cleans untrusted text: titles, messages, logs, recognised words, file names.

Hostile characters control a terminal (control characters), reorder a line (direction marks) or cannot be encoded
(lone surrogates). This module imports none of our code, so every package may use it.
"""

import re
import unicodedata

JOINERS = "\u200c\u200d"
"""Invisible characters that correct spelling needs in Persian, Indic scripts and emoji."""
WORD_BREAK = "\u200b"
"""An invisible character that separates words in scripts without spaces, such as Khmer."""

_SEPARATORS = {"Cc", "Zl", "Zp"}
_UNDRAWN = {"Cf", "Cs", "Co", "Cn"}


def one_line(text: object, most: int | None = None) -> str:
    """The text as one line of at most `most` characters, white space collapsed; "" if it has no visible text.

    Control characters and line ends become spaces. Direction marks, other invisible characters and unassigned code
    points are removed. Characters are composed (NFC).
    """
    if not isinstance(text, str):
        return ""
    folded = " ".join(harmless(text if most is None else text[: 4 * most]).split())
    return folded[:most].rstrip() if folded.strip(" " + JOINERS) else ""


def several_lines(text: object, most: int) -> str:
    """The text cleaned like `one_line`, but with its line breaks; at most `most` characters in all."""
    if not isinstance(text, str):
        return ""
    lines = [one_line(line, most) for line in re.split(r"\r\n|\r|\n", text[: 4 * most])]
    return "\n".join(lines)[:most].strip()


def log_line(text: str, most: int) -> str:
    """A line of a program's output, cleaned like `one_line`, but with its indentation and columns."""
    return harmless(text[: 4 * most])[:most].rstrip()


def harmless(text: str, keep: str = JOINERS) -> str:
    """The whole text without hostile characters, except those in `keep`. White space is not collapsed."""
    return "".join(_replaced(c, keep) for c in unicodedata.normalize("NFC", text))


def has_controls(text: str) -> bool:
    """Whether the text contains a control character."""
    return any(unicodedata.category(c) == "Cc" for c in text)


def _replaced(c: str, keep: str) -> str:
    category = unicodedata.category(c)
    if category in _SEPARATORS:
        return " "
    return c if category not in _UNDRAWN or c in keep else ""
