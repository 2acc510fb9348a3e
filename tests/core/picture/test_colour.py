"""What colours mean where a file tells all, some or nothing of them."""

import pytest

from tasks.core.media import MediaInfo
from tasks.core.picture.colour import Colours, colours


def told(height: int = 1080, **tags: str) -> Colours:
    return colours(MediaInfo(duration=1, size_bytes=1, container="mp4", width=2 * height, height=height, **tags))


def test_a_file_that_tells_nothing_means_what_its_size_means():
    assert told() == Colours("bt709", "bt709", "bt709")
    assert told(576).matrix == "smpte170m"
    assert told().is_usual


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize("more", [{}, {"color_primaries": "bt2020"}, {"color_matrix": "bt2020nc"}])
def test_what_is_missing_beside_pq_and_hlg_is_bt2020(transfer: str, more: dict[str, str]):
    assert told(360, color_transfer=transfer, **more) == Colours("bt2020nc", "bt2020", transfer)


def test_what_is_missing_beside_a_wide_matrix_is_bt2020_in_standard_range():
    assert told(color_matrix="bt2020c") == Colours("bt2020c", "bt2020", "bt2020-10")
    assert told(color_primaries="bt2020") == Colours("bt2020nc", "bt2020", "bt2020-10")


def test_a_matrix_that_is_not_defined_with_the_transfer_is_not_believed():
    assert told(color_matrix="bt2020c", color_transfer="smpte2084").matrix == "bt2020nc"
    assert told(color_matrix="ictcp", color_primaries="bt2020").matrix == "bt2020nc"
    assert told(color_matrix="ictcp", color_transfer="smpte2084").matrix == "ictcp"


@pytest.mark.parametrize(
    "tags",
    [
        {"color_transfer": "arib-std-b67"},
        {"color_matrix": "bt2020nc"},
        {"color_matrix": "ycgco"},
        {"color_primaries": "smpte432"},
        {"color_transfer": "linear"},
    ],
)
def test_colours_that_a_change_of_the_matrix_does_not_mend_are_unusual(tags: dict[str, str]):
    assert not told(**tags).is_usual
