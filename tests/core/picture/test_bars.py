"""Detection of bars around pictures of known position, and of walls, slides and dark scenes without bars."""

import numpy as np
import pytest

from tasks.core.picture.bars import picture_within
from tasks.core.picture.camera import Picture


def picture_in(brightest):
    """The picture found in a grey video of which this is the maximum of each pixel; the minimum is black."""
    return picture_within(planes(np.full_like(brightest, 16)), planes(brightest), 1920, 1080)


def planes(luma, cb=128, cr=128):
    chroma = np.repeat(np.array([[cb], [cr]], np.uint8), luma.size // 4, axis=1)
    return np.vstack((luma, chroma.reshape(-1, luma.shape[1])))


def brightest_pixels(left=0, top=0, right=0, bottom=0, noise=3):
    """The maximum of each pixel over a 480x270 video with bars of so many pixels."""
    random = np.random.default_rng(5)
    luma = random.integers(30, 255, (270, 480)).astype(np.uint8)
    mask = np.ones(luma.shape, bool)
    mask[top : 270 - bottom, left : 480 - right] = False
    luma[mask] = 16 + random.integers(0, noise + 1, int(mask.sum()))
    return luma


def test_a_picture_that_fills_the_frame_has_no_bars():
    assert picture_in(brightest_pixels()) is None


@pytest.mark.parametrize(
    ("bars", "found"),
    [
        ({"top": 34, "bottom": 34}, Picture(left=0, top=138, width=1920, height=804)),
        ({"left": 164, "right": 164}, Picture(left=658, top=0, width=604, height=1080)),
        ({"left": 60, "right": 60, "top": 34, "bottom": 33}, Picture(left=242, top=138, width=1436, height=808)),
    ],
)
def test_bars_are_cropped_to_even_pixels(bars, found):
    assert picture_in(brightest_pixels(**bars)) == found


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
    found = picture_in(brightest_pixels(**bars))
    for side, last in (("left", found.left), ("right", 1920 - found.left - found.width)):
        assert bars.get(side, 0) * 4 <= last <= bars.get(side, 0) * 4 + 6
    for side, last in (("top", found.top), ("bottom", 1080 - found.top - found.height)):
        assert bars.get(side, 0) * 4 <= last <= bars.get(side, 0) * 4 + 6


def test_dark_areas_that_are_not_black_are_kept():
    assert picture_in(brightest_pixels(left=200, right=200, noise=40)) is None


def test_a_dark_wall_on_one_side_is_not_a_bar():
    luma = brightest_pixels()
    edge = 150 + (np.arange(270) * 0.3).astype(int)
    luma[np.arange(480)[None, :] < edge[:, None]] = 17
    assert picture_in(luma) is None


def test_a_person_before_a_black_wall_has_no_bars():
    y, x = np.mgrid[:270, :480]
    person = np.where(np.hypot((x - 240) / 60, (y - 135) / 110) < 1, 180, 16).astype(np.uint8)
    assert picture_in(person) is None


def test_a_completely_black_frame_has_no_bars():
    assert picture_in(np.full((270, 480), 16, np.uint8)) is None


def test_a_bar_with_text_is_part_of_the_picture():
    luma = brightest_pixels(top=34, bottom=34)
    luma[250:258, 150:330] = 235
    found = picture_in(luma)
    assert (found.top, found.top + found.height > 1000) == (138, True)


def extremes(luma, noise=0):
    """The extremes over a video whose pixels stay at `luma`, where it is not -1, and change where it is."""
    random = np.random.default_rng(6)
    spread = random.integers(0, noise + 1, luma.shape)
    lowest = np.where(luma < 0, random.integers(16, 120, luma.shape), luma - spread)
    highest = np.where(luma < 0, random.integers(140, 255, luma.shape), luma + spread)
    return lowest.clip(0, 255).astype(np.uint8), highest.clip(0, 255).astype(np.uint8)


def between_bars(colour, left=0, top=0, right=0, bottom=0):
    """A moving picture between bars of so many pixels, 480x270."""
    luma = np.full((270, 480), colour)
    luma[top : 270 - bottom, left : 480 - right] = -1
    return luma


def found_in(luma, noise=0, **chroma):
    lowest, highest = extremes(luma, noise)
    return picture_within(planes(lowest, **chroma), planes(highest, **chroma), 1920, 1080)


@pytest.mark.parametrize("colour", [35, 52, 128, 235])
@pytest.mark.parametrize(
    ("bars", "found"),
    [
        ({"top": 34, "bottom": 34}, Picture(left=0, top=138, width=1920, height=804)),
        ({"left": 164, "right": 164}, Picture(left=658, top=0, width=604, height=1080)),
        ({"left": 60, "right": 60, "top": 34, "bottom": 33}, Picture(left=242, top=138, width=1436, height=808)),
    ],
)
def test_bars_of_one_colour_are_cropped(colour, bars, found):
    assert found_in(between_bars(colour, **bars), noise=3) == found


@pytest.mark.parametrize(
    "bars",
    [
        {"left": 100},
        {"left": 100, "right": 60},
        {"top": 60, "bottom": 20},
        {"left": 180, "right": 180},
        {"top": 3, "bottom": 3},
    ],
    ids=["on one side", "uneven", "uneven rows", "a stamp", "a window's border"],
)
def test_a_plain_area_that_may_be_part_of_the_picture_is_kept(bars):
    assert found_in(between_bars(200, **bars)) is None


def test_bars_of_different_colours_are_kept():
    luma = between_bars(200, left=100, right=100)
    luma[:, 240:][luma[:, 240:] > 0] = 180
    assert found_in(luma) is None


def test_a_person_before_a_plain_backdrop_has_no_bars():
    y, x = np.mgrid[:270, :480]
    person = (np.hypot((x - 240) / 60, (y - 80) / 70) < 1) | ((abs(x - 240) < 110) & (y > 140))
    assert found_in(np.where(person, -1, 225)) is None


def test_a_backdrop_lit_unevenly_has_no_bars():
    luma = between_bars(200, left=100, right=100)
    luma = np.where(luma < 0, -1, 180 + np.mgrid[:270, :480][0] // 8)
    assert found_in(luma) is None


def test_a_still_slide_with_margins_is_kept():
    slide = between_bars(235, left=100, right=100, top=40, bottom=40)
    slide[slide < 0] = 90
    slide[60:70, 120:300] = -1  # a line of text that appears
    assert found_in(slide) is None


def test_a_margin_that_changes_is_part_of_the_picture():
    assert found_in(between_bars(128, left=100, right=100), noise=30) is None
