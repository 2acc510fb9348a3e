"""Whether captions would cover faces."""

import pytest

from tasks.core.captions.presets import Band, Look
from tasks.core.output.faces_shown import covers_faces

SIZE = (1080, 1920)
ROWS = Look().rows(SIZE)
HIGH, LOW = Band(0.2, 0.5), Band(0.3, 0.62)


@pytest.mark.parametrize(
    ("faces", "covers"),
    [
        ([], False),
        ([HIGH] * 20, False),
        ([LOW] * 20, True),
        ([HIGH] * 18 + [LOW] * 2, False),
        ([HIGH] * 17 + [LOW] * 3, True),
        ([Band(0.8, 0.9)] * 5, False),
        ([Band(0.0, 1.0)] * 5, True),
    ],
)
def test_captions_may_touch_a_tenth_of_the_faces(faces, covers):
    assert covers_faces(faces, ROWS) == covers


def test_rows_hold_two_lines_and_lie_in_those_that_are_searched():
    for size in (SIZE, (720, 1280), (1080, 1080)):
        rows, band = Look().rows(size), Look().band(size)
        assert band.top < rows.top < rows.bottom < band.bottom
        assert rows.bottom - rows.top > 2 * Look().em(size) / size[1]
