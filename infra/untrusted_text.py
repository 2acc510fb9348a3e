"""Text from strangers made harmless: titles, messages, logs, recognised words, names of files.

Hostile characters steer a terminal (controls), reorder a line (direction marks) or cannot be written (halves of
surrogates). This module imports nothing of ours, so that every folder may use it.
"""

import re
import unicodedata

JOINERS = "\u200c\u200d"
"""Format characters that spelling needs: Persian, Indic scripts, emoji."""
WORD_BREAK = "\u200b"
"""Draws nothing and parts words in scripts without spaces, such as Khmer."""

_SEPARATORS = {"Cc", "Zl", "Zp"}
_UNDRAWN = {"Cf", "Cs", "Co", "Cn"}


def one_line(text: object, most: int | None = None) -> str:
    """A line of at most `most` characters, white space folded; "" for what is no text or draws nothing.

    Controls and line ends become spaces; direction marks, other invisible characters and what Unicode does not
    assign are left out. Letters are composed (NFC).
    """
    if not isinstance(text, str):
        return ""
    folded = " ".join(harmless(text if most is None else text[: 4 * most]).split())
    return folded[:most].rstrip() if folded.strip(" " + JOINERS) else ""


def several_lines(text: object, most: int) -> str:
    """Text as `one_line` has it, but on as many lines as before; `most` characters in all."""
    if not isinstance(text, str):
        return ""
    lines = [one_line(line, most) for line in re.split(r"\r\n|\r|\n", text[: 4 * most])]
    return "\n".join(lines)[:most].strip()


def log_line(text: str, most: int) -> str:
    """A line of a program's output: as `one_line` has it, with its indentation and columns."""
    return harmless(text[: 4 * most])[:most].rstrip()


def harmless(text: str, keep: str = JOINERS) -> str:
    """The whole text without hostile characters, white space and length as they are; `keep` names invisible ones."""
    return "".join(_replaced(c, keep) for c in unicodedata.normalize("NFC", text))


def has_controls(text: str) -> bool:
    """Whether there is a control character in the text."""
    return any(unicodedata.category(c) == "Cc" for c in text)


def _replaced(c: str, keep: str) -> str:
    category = unicodedata.category(c)
    if category in _SEPARATORS:
        return " "
    return c if category not in _UNDRAWN or c in keep else ""
