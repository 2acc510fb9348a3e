"""Presets as they are drawn: legible on any background, inside the safe area, in every script."""

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
