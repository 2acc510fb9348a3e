"""Bars around pictures whose place is known, and dark scenes that have none."""

import numpy as np
import pytest

from tasks.core.bars import picture_within
from tasks.core.camera import Picture


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
    [{"top": 60}, {"top": 60, "bottom": 20}, {"top": 1, "bottom": 1}, {"left": 200, "right": 200, "noise": 40}],
    ids=["on one side", "uneven", "thin", "not black"],
)
def test_dark_that_is_no_bar_stays(bars):
    assert picture_within(brightest(**bars), 1920, 1080) is None


def test_somebody_before_a_black_wall_is_no_picture_with_bars():
    y, x = np.mgrid[:270, :480]
    person = np.where(np.hypot((x - 240) / 60, (y - 135) / 110) < 1, 180, 16).astype(np.uint8)
    assert picture_within(person, 1920, 1080) is None


def test_a_frame_that_is_black_throughout_has_no_picture_to_keep():
    assert picture_within(np.full((270, 480), 16, np.uint8), 1920, 1080) is None


def test_letters_in_a_bar_make_it_part_of_the_picture():
    luma = brightest(top=34, bottom=34)
    luma[250:258, 150:330] = 235
    assert picture_within(luma, 1920, 1080) is None
