"""Turn a title into a file name that is valid on every system."""

import unicodedata
from collections.abc import Iterable
from itertools import count

from infra.untrusted_text import one_line

NAME_BYTES = 120
"""Longest name without extension: systems allow 255 bytes, and browsers add some."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""Names that Windows reserves for devices, whatever their extension."""


def file_name_from_title(title: object, file: str) -> str:
    """`It begins.mp4` from a title and `clip_01.mp4`, or the original name if nothing of the title is left.

    Removes characters that form a path, wildcard or option on any system, or that change how a name reads.
    """
    stem, dot, ending = file.rpartition(".")
    words = one_line(title, 2 * NAME_BYTES).translate(str.maketrans(dict.fromkeys('\\/:*?"<>|', " ")))
    short = " ".join(words.split()).encode()[:NAME_BYTES].decode(errors="ignore").strip(" .-~")
    if not short:
        return file
    if short.partition(".")[0].strip().lower() in _RESERVED:
        short = f"{stem} {short}"
    return f"{short}{dot}{ending}"


def distinct_names(files: Iterable[tuple[object, str]]) -> list[str]:
    """A name for each title and file, as `file_name_from_title` makes it; those that are taken get a number.

    Names that differ only in case or in how accents are stored are the same file on some systems.
    """
    names: list[str] = []
    taken: set[str] = set()
    for title, file in files:
        stem, dot, ending = file_name_from_title(title, file).rpartition(".")
        numbered = (f"{stem} ({n}){dot}{ending}" if n > 1 else f"{stem}{dot}{ending}" for n in count(1))
        name = next(name for name in numbered if _folded(name) not in taken)
        names.append(name)
        taken.add(_folded(name))
    return names


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
