"""Presets as they are drawn: legible on any background, inside the safe area, in every script."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tasks.core.appearance import PresetName
from tasks.core.captions import ass as captions
from tasks.core.captions.presets import BOTTOM, PRESETS, SIDE, TOP, Colour, Look
from tasks.core.transcript import Word
from tasks.engines.captions import fonts, line_breaks
from tasks.engines.ffmpeg import run

PORTRAIT = (540, 960)
SIZES = [PORTRAIT, (360, 360), (640, 360)]
LEAST_CONTRAST = 7.0
"""WCAG 2.2's enhanced contrast of text (1.4.6)."""
SAMPLE = "Extraordinary Rechtsschutzversicherungsgesellschaften jumping quietly"
SCRIPTS = {
    "ar": "أعلنت Google عن هاتف جديد",
    "he": "שלום לכולם היום",
    "ja": "今日 は 本当 に いい 天気",
    "th": "สวัสดี ครับ วันนี้",
    "ru": "Сегодня мы говорим",
    "el": "Σήμερα μιλάμε",
    "vi": "Chúng tôi đã giấu cây đàn",
    "tr": "\u0130stanbul'da \u0131\u015f\u0131k çok güzel",
}


def words_of(text: str) -> list[Word]:
    return [Word(word=word, start=i / 2, end=i / 2 + 0.5) for i, word in enumerate(text.split())]


def chosen_font(look: Look, text: str, language: str) -> fonts.FontChoice:
    return fonts.choose_font([captions.spelled(text, look, language)], look.preset.face)


def drawn(
    folder: Path,
    look: Look,
    background: str,
    size: tuple[int, int] = PORTRAIT,
    text: str = SAMPLE,
    language: str = "en",
) -> np.ndarray:
    """One picture for each word while it is said, over a plain colour: (words, rows, columns, 3), RGB."""
    fonts.use_only_our_fonts()
    font = chosen_font(look, text, language)
    script = folder / "t.ass"
    phrases = line_breaks.reading_phrases(words_of(text))
    script.write_text(captions.ass(phrases, size, language, font.typeface, look))
    seconds = len(text.split()) / 2
    chain = f"trim=start=0.25,ass={script}:fontsdir={font.folder}"
    picture = f"color={background}:s={size[0]}x{size[1]}:r=2:d={seconds + 1},setpts=PTS+0.25/TB,format=rgb24"
    got: list[bytes] = []
    run(["-f", "lavfi", "-i", picture, "-vf", chain, "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"], 60,
        read=lambda pipe: got.append(pipe.read()))  # fmt: skip
    return np.frombuffer(got[0], np.uint8).reshape(-1, size[1], size[0], 3)


def while_said(
    folder: Path, look: Look, text: str, language: str = "en"
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each word on a black picture: as it begins, once it has grown, and just before the next one; RGB."""
    fonts.use_only_our_fonts()
    font = chosen_font(look, text, language)
    phrases = [
        Word(word=said.word, start=i / 2, end=i / 2 + 0.5)
        for i, said in enumerate(line_breaks.reading_phrases(words_of(text)))
    ]
    script = folder / "t.ass"
    script.write_text(captions.ass(phrases, PORTRAIT, language, font.typeface, look))
    wanted = "+".join(f"eq(n\\,{i * 50 + frame})" for i in range(len(phrases)) for frame in (0, 25, 49))
    picture = f"color=black:s={PORTRAIT[0]}x{PORTRAIT[1]}:r=100:d={len(phrases) / 2},format=rgb24"
    got: list[bytes] = []
    run(["-f", "lavfi", "-i", picture, "-vf", f"select='{wanted}',ass={script}:fontsdir={font.folder}",
         "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"], 60,
        read=lambda pipe: got.append(pipe.read()))  # fmt: skip
    shown = np.frombuffer(got[0], np.uint8).reshape(-1, 3, PORTRAIT[1], PORTRAIT[0], 3)
    return [(state[0], state[1], state[2]) for state in shown]


def box_of(mask: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of what is set."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def coloured(picture: np.ndarray, colour: Colour) -> np.ndarray:
    """Mask of what is drawn in a colour."""
    return (np.abs(picture.astype(int) - np.array(colour)) <= 40).all(axis=-1)


def side(part: slice) -> int:
    return part.stop - part.start


def luminance(colours: np.ndarray) -> np.ndarray:
    """WCAG's relative luminance of sRGB colours in the last axis."""
    share = colours / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def contrast(one: float, other: float) -> float:
    light, dark = max(one, other), min(one, other)
    return (light + 0.05) / (dark + 0.05)


def letters(on_white: np.ndarray, on_black: np.ndarray, colour: Colour) -> np.ndarray:
    """Mask of what is drawn in a colour, on any background alike."""
    same = (np.abs(on_white.astype(int) - on_black) <= 6).all(axis=-1)
    return same & (np.abs(on_white.astype(int) - np.array(colour)) <= 24).all(axis=-1)


@pytest.mark.parametrize("name", PRESETS)
def test_every_letter_stands_out_from_what_surrounds_it_on_white_and_on_black(name: PresetName, tmp_path: Path):
    look = Look(PRESETS[name])
    size, text = (1080, 1080), "Nobody asked once"
    band = look.band(size)
    rows = slice(round(band.top * size[1]), round(band.bottom * size[1]))
    on_white, on_black = (drawn(tmp_path, look, back, size, text)[:3, rows] for back in ("white", "black"))
    ring, gap = (cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in (7, 3))
    measured = 0
    for colour in {look.preset.text, look.preset.spoken}:
        for picture, other in zip(on_white, on_black, strict=True):
            mask = letters(picture, other, colour).astype(np.uint8)
            if mask.sum() < 200:
                continue
            around = (cv2.dilate(mask, ring) - cv2.dilate(mask, gap)).astype(bool)
            for shown in (picture, other):
                inside, beside = (float(np.median(luminance(shown[part]))) for part in (mask.astype(bool), around))
                assert contrast(inside, beside) >= LEAST_CONTRAST
                measured += 1
    assert measured >= 6


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", PRESETS)
def test_captions_stay_inside_the_safe_area_in_every_ratio(name: PresetName, size: tuple[int, int], tmp_path: Path):
    for position in ("lower", "upper") if size == PORTRAIT else ("lower",):
        ink = drawn(tmp_path, Look(PRESETS[name], position), "gray", size)
        touched = (np.abs(ink.astype(int) - ink[0, 0, 0]) > 30).any(axis=(0, 3))
        rows, columns = np.flatnonzero(touched.any(axis=1)), np.flatnonzero(touched.any(axis=0))
        assert TOP * size[1] - 1 <= rows[0]
        assert rows[-1] <= (1 - BOTTOM) * size[1] + 1
        assert SIDE * size[0] - 3 <= columns[0]
        assert columns[-1] <= (1 - SIDE) * size[0] + 3


@pytest.mark.parametrize("language", SCRIPTS)
def test_every_preset_has_the_letters_of_every_script(language: str):
    for preset in PRESETS.values():
        assert chosen_font(Look(preset), SCRIPTS[language], language).missing == ""


@pytest.mark.parametrize("name", PRESETS)
def test_the_mark_is_seen_while_a_word_is_said_and_not_otherwise(name: PresetName, tmp_path: Path):
    look = Look(PRESETS[name])
    shown = drawn(tmp_path, look, "gray", PORTRAIT, "One two, three")
    marked = (np.abs(shown.astype(int) - np.array(look.preset.mark)) <= 40).all(axis=-1).sum(axis=(1, 2))
    assert (marked[:3] > 30).all()
    assert marked[-1] == 0


POPPING = [name for name, preset in PRESETS.items() if preset.pop]
TWO_LINES = "Extraordinary grandmothers jumping quietly"


@pytest.mark.parametrize(
    ("name", "language", "text"),
    [
        *((name, "en", TWO_LINES) for name in POPPING),
        *(("classic", language, text) for language, text in SCRIPTS.items()),
        ("classic", "en", "Pizza \U0001f355 is good"),
    ],
)
def test_the_spoken_word_grows_in_place_and_moves_nothing(name: PresetName, language: str, text: str, tmp_path: Path):
    look = Look(PRESETS[name])
    grown = []
    for begun, large, leaving in while_said(tmp_path, look, text, language):
        before, after = (box_of(coloured(picture, look.preset.spoken)) for picture in (begun, large))
        ring = round((look.preset.outline + look.preset.shadow) * 1.2 * look.em(PORTRAIT)) + 2
        rows, columns = (slice(part.start - ring, part.stop + ring) for part in after)
        moved = (begun != large).any(axis=-1)
        moved[rows, columns] = False
        assert not moved.any(), "what lies beside the word stays as it is"
        for one, other in zip(before, after, strict=True):
            assert abs(one.start + one.stop - other.start - other.stop) <= 6
        assert side(after[1]) >= side(before[1])
        grown.append(side(after[1]) / side(before[1]))
        settled = box_of(coloured(leaving, look.preset.spoken))
        assert side(settled[1]) <= side(after[1])
    assert max(grown) >= 1.05


def test_a_word_is_drawn_as_it_would_be_without_the_pop_until_it_grows(tmp_path: Path):
    flat = Look(replace(PRESETS["classic"], pop=0.0))
    text = "grandmother"
    ((begun, _, _),) = while_said(tmp_path, Look(PRESETS["classic"]), text)
    ((still, _, _),) = while_said(tmp_path, flat, text)
    assert np.array_equal(begun, still)
