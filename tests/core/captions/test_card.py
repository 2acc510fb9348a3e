"""The hook's card: its size, and its place beside faces and captions."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.captions.ass import Typeface, ass, text_width
from tasks.core.captions.card import Card, lay_out_card, with_card
from tasks.core.captions.presets import BOTTOM, CLASSIC, SIDE, TOP, Band
from tasks.core.transcript import Word

SIZES = [(1080, 1920), (1080, 1350), (1080, 1080), (1920, 1080), (180, 320)]
FACE = Typeface("F")
HOOK = "Why did nobody in the village ever ask about the piano?"


def card(size: tuple[int, int], text: str = HOOK, faces: tuple[Band, ...] = ()) -> Card:
    found = lay_out_card(text, size, FACE, faces, CLASSIC.band(size))
    assert found
    return found


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", [HOOK, "Short", "word " * 60, "Donaudampfschifffahrtsgesellschaft" * 3, "今日は" * 30])
def test_a_card_keeps_inside_the_safe_area_and_off_the_captions(size: tuple[int, int], text: str):
    found = lay_out_card(text, size, FACE, [], CLASSIC.band(size))
    if found is None:
        assert len(text) > 100
        return
    assert found.band.top >= TOP - 1e-9
    assert found.band.bottom <= min(CLASSIC.band(size).top, 1 - BOTTOM)
    assert max(map(text_width, found.lines)) * found.em <= (1 - 2 * SIDE) * size[0]
    assert re.sub(r"\s", "", "".join(found.lines)) == re.sub(r"\s", "", text)


def test_a_long_hook_is_smaller_and_has_at_most_three_lines():
    short, long = card((1080, 1920), "Short"), card((1080, 1920), "a rather long hook " * 6)
    assert long.em < short.em
    assert len(long.lines) <= 3


def test_a_card_lies_above_a_face_if_there_is_room_or_else_off_its_lower_third():
    size = (1080, 1920)
    assert card(size, faces=(Band(0.40, 0.60),)).band.bottom <= 0.40
    near = card(size, faces=(Band(0.10, 0.60),)).band
    assert near.bottom <= 0.60 - 0.5 / 3


def test_without_room_there_is_no_card():
    size = (1080, 1920)
    assert lay_out_card(HOOK, size, FACE, [Band(0.13 + i / 20, 0.15 + i / 20) for i in range(14)], None) is None
    assert lay_out_card(" \u200b", size, FACE, [], None) is None


bands = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda edges: Band(min(edges), max(edges)))


@given(st.lists(bands, max_size=4), bands, st.text(min_size=1, max_size=300), st.sampled_from(SIZES))
def test_a_card_never_covers_captions_or_the_lower_third_of_a_face(faces, captions, text, size):
    found = lay_out_card(text, size, FACE, faces, captions)
    if found:
        mouths = [Band(face.bottom - (face.bottom - face.top) / 3, face.bottom) for face in faces]
        for band in (captions, *mouths):
            assert found.band.bottom <= band.top + 1e-9 or found.band.top >= band.bottom - 1e-9


def test_the_text_of_a_card_stays_text_and_ends_with_its_time():
    size = (1080, 1920)
    script = ass([Word(word="one", start=0, end=1)], size, "en", FACE)
    drawn = with_card(script, card(size, r"{\an8}a \N b"), size, FACE, "en", 2.0)
    line = next(line for line in drawn.splitlines() if ",Card," in line and line.startswith("Dialogue"))
    assert line.startswith("Dialogue: 2,0:00:00.00,0:00:02.00,Card,")
    assert not re.search(r"(?<!\\)[{}]", re.sub(r"^[^}]*\}", "", line))
    assert [line for line in drawn.splitlines() if "Caption," in line and line.startswith("Dialogue")] == [
        line for line in script.splitlines() if line.startswith("Dialogue")
    ]
