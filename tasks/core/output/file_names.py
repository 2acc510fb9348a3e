"""Turn a title into a file name that is valid on every system."""

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
