"""Build `SourceMeta` from the valid parts of an untrusted page."""

import math
from typing import Any, Literal, cast

from infra.untrusted_text import one_line
from tasks.core.media import Chapter, HeatmapPoint, SourceMeta

MAX_TITLE_CHARS = 300
MAX_TEXT_CHARS = 2000
MAX_POINTS = 2000
MAX_TAGS = 30
_EXTRA_TEXTS = ("description", "channel", "language", "extractor_key", "format_id", "license", "availability")
_EXTRA_NUMBERS = ("view_count", "like_count", "comment_count", "age_limit")
_EXTRA_LISTS = ("tags", "categories")


def source_meta(
    info: dict[str, Any], source_id: str, kind: Literal["site", "file_url"], webpage_url: str
) -> SourceMeta:
    """Keep the known fields of yt-dlp's info dict and drop invalid values."""
    duration = number(info.get("duration"))
    return SourceMeta(
        source_id=source_id,
        kind=kind,
        title=one_line(info.get("title"), MAX_TITLE_CHARS),
        uploader=one_line(info.get("uploader"), MAX_TITLE_CHARS) or None,
        webpage_url=webpage_url,
        duration=duration if duration is not None and duration > 0 else None,
        upload_date=_date(info.get("upload_date")),
        heatmap=_heatmap(info.get("heatmap")),
        chapters=_chapters(info.get("chapters")),
        extra=_extra(info),
    )


def number(value: object) -> float | None:
    """The value as a finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        wide = float(value)
    except OverflowError:
        return None
    return wide if math.isfinite(wide) else None


def _items(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value)[:MAX_POINTS] if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _span(item: dict[str, Any]) -> tuple[float, float] | None:
    """Start and end in seconds, or None if they are missing or out of order."""
    start, end = number(item.get("start_time")), number(item.get("end_time"))
    return (start, end) if start is not None and end is not None and 0 <= start < end else None


def _heatmap(value: object) -> list[HeatmapPoint]:
    points = ((_span(item), number(item.get("value"))) for item in _items(value))
    return [
        HeatmapPoint(start_time=span[0], end_time=span[1], value=level)
        for span, level in points
        if span is not None and level is not None and 0 <= level <= 1
    ]


def _chapters(value: object) -> list[Chapter]:
    chapters = ((_span(item), one_line(item.get("title"), MAX_TITLE_CHARS)) for item in _items(value))
    return [Chapter(start_time=span[0], end_time=span[1], title=title) for span, title in chapters if span]


def _date(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) == 8 and value.isascii() and value.isdecimal() else None


def _extra(info: dict[str, Any]) -> dict[str, Any]:
    texts = {name: one_line(info.get(name), MAX_TEXT_CHARS) for name in _EXTRA_TEXTS}
    numbers = {name: number(info.get(name)) for name in _EXTRA_NUMBERS}
    lists = {name: _texts(info.get(name)) for name in _EXTRA_LISTS}
    return {name: value for name, value in {**texts, **numbers, **lists}.items() if value not in (None, "", [])}


def _texts(value: object) -> list[str]:
    items = cast("list[object]", value)[:MAX_TAGS] if isinstance(value, list) else []
    return [plain for item in items if (plain := one_line(item, 100))]
