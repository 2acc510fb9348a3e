"""The meaning of colours in files with all, some or no colour tags."""

import pytest

from tasks.core.media import MediaInfo
from tasks.core.picture.colour import Colours, colours


def colours_of(height: int = 1080, **tags: str) -> Colours:
    return colours(MediaInfo(duration=1, size_bytes=1, container="mp4", width=2 * height, height=height, **tags))


def test_an_untagged_file_gets_the_colours_of_its_size():
    assert colours_of() == Colours("bt709", "bt709", "bt709")
    assert colours_of(576).matrix == "smpte170m"
    assert colours_of().is_close_to_bt709


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize("more", [{}, {"color_primaries": "bt2020"}, {"color_matrix": "bt2020nc"}])
def test_missing_tags_with_pq_or_hlg_are_bt2020(transfer: str, more: dict[str, str]):
    assert colours_of(360, color_transfer=transfer, **more) == Colours("bt2020nc", "bt2020", transfer)


def test_missing_tags_with_a_bt2020_matrix_are_bt2020_in_standard_range():
    assert colours_of(color_matrix="bt2020c") == Colours("bt2020c", "bt2020", "bt2020-10")
    assert colours_of(color_primaries="bt2020") == Colours("bt2020nc", "bt2020", "bt2020-10")


def test_a_matrix_that_does_not_fit_the_transfer_is_replaced():
    assert colours_of(color_matrix="bt2020c", color_transfer="smpte2084").matrix == "bt2020nc"
    assert colours_of(color_matrix="ictcp", color_primaries="bt2020").matrix == "bt2020nc"
    assert colours_of(color_matrix="ictcp", color_transfer="smpte2084").matrix == "ictcp"


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
def test_colours_that_need_more_than_a_new_matrix_are_unusual(tags: dict[str, str]):
    assert not colours_of(**tags).is_close_to_bt709
