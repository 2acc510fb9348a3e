import re
from itertools import pairwise

import pytest

from tasks.core.captions.ass import Typeface, ass
from tasks.core.captions.backdrop import backdrop
from tasks.core.captions.presets import PRESETS, Look
from tasks.core.captions.waveform import BARS_PER_SECOND, SHOWN_SECONDS, heights, with_waveform

SIZE, FACE = (1000, 2000), Typeface("Poppins ExtraBold")
EVENT = re.compile(
    r"Dialogue: 0,0:(\d+):([\d.]+),0:(\d+):([\d.]+),Waveform,,0,0,0,,"
    r"\{\\an7\\move\(([-\d.]+),[-\d.]+,([-\d.]+),[-\d.]+\)\\p1\\clip\((\d+),\d+,(\d+),\d+\)"
)


def events(seconds: float) -> list[list[float]]:
    script = with_waveform(
        ass([], SIZE, "en", FACE), [0.5] * round(seconds * BARS_PER_SECOND), SIZE, FACE, Look().band(SIZE)
    )
    return [[float(value) for value in found] for found in EVENT.findall(script)]


def test_louder_sound_has_higher_bars_and_silence_the_lowest():
    bars = heights([-120.0] * 10 + [-40.0] * 10 + [-25.0] * 10 + [-15.0] * 10, 100)
    assert len(bars) == 4
    assert all(before < after for before, after in pairwise(bars[:1] + bars[2:]))
    assert bars[0] == pytest.approx(0.06)
    assert bars[-1] == 1


def test_silence_throughout_is_a_flat_line():
    assert len(set(heights([-120.0] * 100, 100))) == 1
    assert heights([], 100) == []


@pytest.mark.parametrize("seconds", [0.5, 3.0, 8.4, 61.0])
def test_each_bar_passes_the_middle_when_it_is_heard(seconds: float):
    """The left edge of a drawing's first bar is in the middle at that bar's time, and moves steadily to the left."""
    speed = (1 - 2 * 0.08) * SIZE[0] / SHOWN_SECONDS
    seen = events(seconds)
    for number, (a, b, c, d, first, last, left, right) in enumerate(seen):
        start, end, time = 60 * a + b, 60 * c + d, number // 2 * 3.0
        assert first == pytest.approx(500 + (time - start) * speed, abs=2)
        assert last == pytest.approx(500 + (time - end) * speed, abs=2)
        assert (left, right) == ((80, 500) if number % 2 == 0 else (500, 920))
        assert 0 <= start < end <= seconds + 0.01
    assert len(seen) == 2 * -(-seconds // 3)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("position", ["lower", "middle", "upper"])
@pytest.mark.parametrize("size", [(1080, 1920), (1080, 1350), (1080, 1080), (1920, 1080)])
def test_no_caption_lies_on_the_waveform(preset, position, size):
    look = Look(PRESETS[preset], position)
    script = with_waveform(ass([], size, "en", FACE), [0.5] * 20, size, FACE, look.band(size))
    (top, bottom), *_ = re.findall(r"\\clip\(\d+,(\d+),\d+,(\d+)\)", script)
    captions = look.rows(size)
    assert int(bottom) <= captions.top * size[1] + 1 or int(top) >= captions.bottom * size[1] - 1


@pytest.mark.parametrize("title", ["{\\pos(0,0)}\\N{\\p1}m 0 0", "a\nDialogue: 0,0:00:00.00", "عنوان {\\an1}"])
def test_a_title_draws_nothing_but_its_text(title: str):
    script = backdrop(title, 1080, FACE)
    assert script.count("Dialogue") == 1 + ("Dialogue" in title)
    assert script.count("\n") == backdrop("a", 1080, FACE).count("\n")
    assert re.findall(r"(?<!\\)\{[^}]*\}", script.split("[Events]")[1]) == ["{\\an5\\pos(540,540)}"]


def test_a_long_title_is_shortened_and_none_is_not_drawn():
    script = backdrop("words " * 60, 1080, FACE)
    assert script.count("\\N") == 4
    assert script.endswith("…\n")
    assert "Dialogue" not in backdrop("", 1080, FACE)
