"""Bars around pictures whose place is known, and dark scenes that have none."""

import numpy as np
import pytest

from tasks.core.picture.bars import picture_within
from tasks.core.picture.camera import Picture


def brightest(left=0, top=0, right=0, bottom=0, noise=3):
    """The brightest of each pixel of a 480x270 copy with bars of so many pixels."""
    random = np.random.default_rng(5)
    luma = random.integers(30, 255, (270, 480)).astype(np.uint8)
    mask = np.ones(luma.shape, bool)
    mask[top : 270 - bottom, left : 480 - right] = False
    luma[mask] = 16 + random.integers(0, noise + 1, int(mask.sum()))
    return luma


def test_a_picture_that_fills_the_frame_has_no_bars():
    assert picture_within(brightest(), 1920, 1080) is None


@pytest.mark.parametrize(
    ("bars", "found"),
    [
        ({"top": 34, "bottom": 34}, Picture(left=0, top=138, width=1920, height=804)),
        ({"left": 164, "right": 164}, Picture(left=658, top=0, width=604, height=1080)),
        ({"left": 60, "right": 60, "top": 34, "bottom": 33}, Picture(left=242, top=138, width=1436, height=808)),
    ],
)
def test_bars_are_left_out_to_even_pixels_inside_the_picture(bars, found):
    assert picture_within(brightest(**bars), 1920, 1080) == found


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
def test_bars_of_any_share_are_left_out(bars):
    found = picture_within(brightest(**bars), 1920, 1080)
    for side, last in (("left", found.left), ("right", 1920 - found.left - found.width)):
        assert bars.get(side, 0) * 4 <= last <= bars.get(side, 0) * 4 + 6
    for side, last in (("top", found.top), ("bottom", 1080 - found.top - found.height)):
        assert bars.get(side, 0) * 4 <= last <= bars.get(side, 0) * 4 + 6


def test_dark_that_is_not_black_stays():
    assert picture_within(brightest(left=200, right=200, noise=40), 1920, 1080) is None


def test_a_dark_wall_at_one_side_is_no_bar():
    luma = brightest()
    edge = 150 + (np.arange(270) * 0.3).astype(int)
    luma[np.arange(480)[None, :] < edge[:, None]] = 17
    assert picture_within(luma, 1920, 1080) is None


def test_somebody_before_a_black_wall_is_no_picture_with_bars():
    y, x = np.mgrid[:270, :480]
    person = np.where(np.hypot((x - 240) / 60, (y - 135) / 110) < 1, 180, 16).astype(np.uint8)
    assert picture_within(person, 1920, 1080) is None


def test_a_frame_that_is_black_throughout_has_no_picture_to_keep():
    assert picture_within(np.full((270, 480), 16, np.uint8), 1920, 1080) is None


def test_letters_in_a_bar_make_it_part_of_the_picture():
    luma = brightest(top=34, bottom=34)
    luma[250:258, 150:330] = 235
    found = picture_within(luma, 1920, 1080)
    assert (found.top, found.top + found.height > 1000) == (138, True)
