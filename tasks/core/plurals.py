"""Counts, sizes, positions, durations and ages as people read and write them."""

import re

_POSITION = re.compile(r"\d{1,6}(:\d{1,2}){0,2}(\.\d{1,3})?", re.ASCII)


def pluralize(count: int, noun: str, plural: str = "") -> str:
    """The count with its noun: 1 clip, 2 clips, 0 clips. Pass `plural` if it is not the noun plus s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def megabytes(size: int) -> str:
    """A size in bytes as megabytes: 12.3 MB."""
    return f"{size / 1e6:.1f} MB"


def clock(seconds: float) -> str:
    """A position or duration: 0:07, 12:30, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


def seconds_of(text: str) -> float:
    """The position that is written as 754, 12:34 or 0:12:34, in seconds; the last part may have a fraction.

    Raises:
        ValueError: it is not written like that.
    """
    if not _POSITION.fullmatch(text):
        raise ValueError("must be a position such as 90, 12:30 or 1:02:03")
    parts = [float(part) for part in text.split(":")]
    if any(part >= 60 for part in parts[1:]):
        raise ValueError("must have minutes and seconds below 60")
    return sum(part * 60**power for power, part in enumerate(reversed(parts)))


def age(seconds: float) -> str:
    """An age in its largest unit: 5 s, 3 min, 2 h, 4 days."""
    for unit, size in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            whole = int(seconds // size)
            return pluralize(whole, unit) if unit == "day" else f"{whole} {unit}"
    return f"{max(int(seconds), 0)} s"
