"""A title as the name of a file that any system can keep."""

from infra.untrusted_text import one_line

NAME_BYTES = 120
"""Longest name without its ending: systems take 255, and browsers add to it."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
"""Names that Windows keeps for devices, whatever their ending."""


def named_by_title(title: object, file: str) -> str:
    """`It begins.mp4` for a title and `clip_01.mp4`; the file's own name where nothing of the title is left.

    What is a path, a wildcard or an option to some system is left out, and so is what changes how a name reads.
    """
    stem, dot, ending = file.rpartition(".")
    words = one_line(title, 2 * NAME_BYTES).translate(str.maketrans(dict.fromkeys('\\/:*?"<>|', " ")))
    short = " ".join(words.split()).encode()[:NAME_BYTES].decode(errors="ignore").strip(" .-~")
    if not short:
        return file
    if short.partition(".")[0].strip().lower() in _RESERVED:
        short = f"{stem} {short}"
    return f"{short}{dot}{ending}"
