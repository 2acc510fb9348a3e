from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.media import SourceMeta
from tasks.core.source.page import source_meta


def meta(info: dict[str, Any]) -> SourceMeta:
    return source_meta(info, "site-1", "site", "https://example.com/1")


def test_valid_fields_are_kept() -> None:
    kept = meta(
        {
            "title": "A talk",
            "uploader": "Somebody",
            "duration": 61,
            "upload_date": "20260102",
            "heatmap": [{"start_time": 0, "end_time": 1.5, "value": 0.25}],
            "chapters": [{"start_time": 0, "end_time": 60, "title": "One"}],
            "tags": ["a", "b"],
            "view_count": 12,
            "formats": [{"url": "https://example.com/?sig=secret"}],
            "http_headers": {"Cookie": "secret"},
        }
    )
    assert (kept.title, kept.uploader, kept.duration, kept.upload_date) == ("A talk", "Somebody", 61.0, "20260102")
    assert [(p.start_time, p.end_time, p.value) for p in kept.heatmap] == [(0, 1.5, 0.25)]
    assert [(c.start_time, c.end_time, c.title) for c in kept.chapters] == [(0, 60, "One")]
    assert kept.extra == {"tags": ["a", "b"], "view_count": 12}


def test_invalid_fields_are_dropped() -> None:
    kept = meta(
        {
            "title": ["no", "text"],
            "duration": float("nan"),
            "upload_date": "../../..",
            "heatmap": [
                {"start_time": 2, "end_time": 1, "value": 0.5},
                {"start_time": 0, "end_time": 1, "value": 7},
                {"start_time": -1, "end_time": 1, "value": 0.5},
                {"start_time": "0", "end_time": 1, "value": 0.5},
                {"start_time": True, "end_time": 2, "value": 0.5},
                "point",
                None,
            ],
            "chapters": {"start_time": 0},
            "view_count": 10**400,
            "tags": "abc",
        }
    )
    assert kept == SourceMeta(source_id="site-1", kind="site", webpage_url="https://example.com/1")


@given(
    st.dictionaries(
        st.sampled_from(["title", "duration", "heatmap", "chapters", "tags", "upload_date"]),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["start_time", "end_time", "value", "title"]), inner, max_size=4)
            ),
            max_leaves=12,
        ),
    )
)
def test_any_info_becomes_valid_metadata(info: dict[str, Any]) -> None:
    kept = meta(info)
    assert SourceMeta.model_validate_json(kept.model_dump_json()) == kept
