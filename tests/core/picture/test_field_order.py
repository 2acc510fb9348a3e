import pytest

from tasks.core.picture.field_order import FieldCounts, Scan, classify_scan


@pytest.mark.parametrize(
    ("counts", "scan"),
    [
        (None, Scan(kind="interlaced")),
        (FieldCounts(frames=50), Scan(kind="interlaced")),
        (FieldCounts(frames=50, top_first=30), Scan(kind="interlaced", top_first=True)),
        (FieldCounts(frames=50, bottom_first=30, top_first=1), Scan(kind="interlaced", top_first=False)),
        (FieldCounts(frames=50, progressive=45, top_first=1), Scan(kind="progressive")),
        (FieldCounts(frames=50, progressive=20, top_first=25, repeated=9), Scan(kind="telecined", top_first=True)),
        (FieldCounts(frames=50, progressive=20, top_first=9, bottom_first=8), Scan(kind="interlaced")),
    ],
    ids=["not counted", "no motion", "top", "bottom", "whole frames", "film", "mixed"],
)
def test_the_scan_type_follows_from_the_field_counts(counts: FieldCounts | None, scan: Scan):
    assert classify_scan(counts) == scan
