"""Counts, sizes, durations and ages for display."""


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


def age(seconds: float) -> str:
    """An age in its largest unit: 5 s, 3 min, 2 h, 4 days."""
    for unit, size in (("day", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            whole = int(seconds // size)
            return pluralize(whole, unit) if unit == "day" else f"{whole} {unit}"
    return f"{max(int(seconds), 0)} s"
