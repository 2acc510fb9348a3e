"""Detection of bars around pictures of known position, and of dark scenes without bars."""

import numpy as np
import pytest

from tasks.core.picture.bars import picture_within
from tasks.core.picture.camera import Picture


def brightest_pixels(left=0, top=0, right=0, bottom=0, noise=3):
    """The maximum of each pixel over a 480x270 video with bars of so many pixels."""
    random = np.random.default_rng(5)
    luma = random.integers(30, 255, (270, 480)).astype(np.uint8)
    mask = np.ones(luma.shape, bool)
    mask[top : 270 - bottom, left : 480 - right] = False
    luma[mask] = 16 + random.integers(0, noise + 1, int(mask.sum()))
    return luma


def test_a_picture_that_fills_the_frame_has_no_bars():
    assert picture_within(brightest_pixels(), 1920, 1080) is None


@pytest.mark.parametrize(
    ("bars", "found"),
    [
        ({"top": 34, "bottom": 34}, Picture(left=0, top=138, width=1920, height=804)),
        ({"left": 164, "right": 164}, Picture(left=658, top=0, width=604, height=1080)),
        ({"left": 60, "right": 60, "top": 34, "bottom": 33}, Picture(left=242, top=138, width=1436, height=808)),
    ],
)
def test_bars_are_cropped_to_even_pixels(bars, found):
    assert picture_within(brightest_pixels(**bars), 1920, 1080) == found


@pytest.mark.parametrize(
    "bars",
    [
        {"top": 60},
        {"top": 60, "bottom": 20},
        {"left": 200, "right": 20},
        {"top": 1, "bottom": 1},
        {"left": 1},
        {"left": 186, "right": 187},
        {"left": 200, "right": 180, "top": 110, "bottom": 100},
    ],
    ids=["on one side", "uneven", "uneven sideways", "thin", "thin, on one side", "a tall phone's", "a stamp"],
)
def test_bars_of_any_size_are_cropped(bars):
    found = picture_within(brightest_pixels(**bars), 1920, 1080)
    for side, last in (("left", found.left), ("right", 1920 - found.left - found.width)):
        assert bars.get(side, 0) * 4 <= last <= bars.get(side, 0) * 4 + 6
    for side, last in (("top", found.top), ("bottom", 1080 - found.top - found.height)):
        assert bars.get(side, 0) * 4 <= last <= bars.get(side, 0) * 4 + 6


def test_dark_areas_that_are_not_black_are_kept():
    assert picture_within(brightest_pixels(left=200, right=200, noise=40), 1920, 1080) is None


def test_a_dark_wall_on_one_side_is_not_a_bar():
    luma = brightest_pixels()
    edge = 150 + (np.arange(270) * 0.3).astype(int)
    luma[np.arange(480)[None, :] < edge[:, None]] = 17
    assert picture_within(luma, 1920, 1080) is None


def test_a_person_before_a_black_wall_has_no_bars():
    y, x = np.mgrid[:270, :480]
    person = np.where(np.hypot((x - 240) / 60, (y - 135) / 110) < 1, 180, 16).astype(np.uint8)
    assert picture_within(person, 1920, 1080) is None


def test_a_completely_black_frame_has_no_bars():
    assert picture_within(np.full((270, 480), 16, np.uint8), 1920, 1080) is None


def test_a_bar_with_text_is_part_of_the_picture():
    luma = brightest_pixels(top=34, bottom=34)
    luma[250:258, 150:330] = 235
    found = picture_within(luma, 1920, 1080)
    assert (found.top, found.top + found.height > 1000) == (138, True)
