"""Chooses caption fonts from wheels, and configures fontconfig to see no other fonts.

Only static faces: libass silently uses variable fonts at their default weight, or not at all.
"""

import functools
import importlib.metadata
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from xml.sax.saxutils import escape

from fontTools.ttLib import TTFont

from tasks.core.captions.ass import Typeface, visible_text
from tasks.engines.cache_folder import atomic_replacement, link, private_folder


@dataclass(frozen=True)
class Face:
    """A font face: its name in libass, its file in a wheel, and the width of its letters (see `Typeface`).

    libass uses the full name of a TrueType face and the PostScript name of a CFF (.otf) face.
    """

    name: str
    distribution: str
    file: str
    width: float = 1.0


def _poppins(weight: str) -> Face:
    return Face(f"Poppins {weight}", "fontpkg-poppins", f"fontpkg_poppins/files/Poppins-{weight}.ttf")


def _fira(style: str) -> Face:
    file = f"fontpkg_fira_sans/files/FiraSans-{style.replace(' ', '')}.ttf"
    return Face(f"Fira Sans {style}", "fontpkg-fira-sans", file)


POPPINS = _poppins("ExtraBold")
FACES = [
    POPPINS,
    _fira("ExtraBold"),
    Face(
        "IBM Plex Sans Arabic Bold",
        "fontpkg-ibm-plex-sans-arabic",
        "fontpkg_ibm_plex_sans_arabic/files/IBMPlexSansArabic-Bold.ttf",
    ),
    Face("Varela Round", "fontpkg-varela-round", "fontpkg_varela_round/files/VarelaRound-Regular.ttf"),
    Face("Sarabun ExtraBold", "fontpkg-sarabun", "fontpkg_sarabun/files/Sarabun-ExtraBold.ttf"),
    Face("NotoSansCJKjp-Bold", "noto-cjk-sans-jp-bold", "noto_cjk_sans_jp_bold/NotoSansCJKjp-Bold.otf"),
]
"""In order of preference; faces whose wheel is not installed are skipped."""
PRESET_FACES = {
    face.name: face
    for face in (
        *FACES,
        _poppins("Bold"),
        _fira("ExtraBold Italic"),
        Face("Anton Regular", "fontpkg-anton", "fontpkg_anton/files/Anton-Regular.ttf", width=0.8),
    )
}
"""The faces that presets may name."""

CAPTION_FONT = POPPINS.name


@dataclass(frozen=True)
class FontChoice:
    """The best face for a text. `line` is the height of its lines in em, `missing` the characters that it lacks.

    `uninstalled` names the face that was wished for, if its wheel is not there.
    """

    face: Face
    folder: Path
    line: float
    missing: str
    uninstalled: str = ""

    @property
    def typeface(self) -> Typeface:
        return Typeface(self.face.name, self.line, self.face.width)

    def warning(self, language: str) -> str | None:
        """A warning if the face lacks characters or is not the one that was wished for, or None."""
        if not self.missing and self.uninstalled:
            return f"captions are drawn in {self.face.name}: the font {self.uninstalled} is not installed"
        if not self.missing:
            return None
        return f"captions may lack glyphs for {language}: {self.face.name} cannot draw {self.missing[:10]!r}"


def choose_font(texts: Iterable[str], wish: str = POPPINS.name) -> FontChoice:
    """The first face with glyphs for all texts, or else the one that lacks the fewest characters.

    `wish` is the name of the face to try before all others.
    """
    wanted = sorted({c for text in texts for c in visible_text(text) if _needs_glyph(c)})
    installed = [(face, path) for face in _in_order(wish) if (path := file_of(face)) is not None]
    lacking: list[str] = []
    for _, path in installed:
        lacking.append("".join(c for c in wanted if ord(c) not in coverage(path)))
        if not lacking[-1]:
            break  # the large faces come last, and reading one takes a third of a second
    best = min(range(len(lacking)), key=lambda i: len(lacking[i]))
    face, path = installed[best]
    return FontChoice(
        face, _folder_with(path), _line_height(path), lacking[best], "" if file_of(PRESET_FACES[wish]) else wish
    )


def _in_order(wish: str) -> list[Face]:
    return list(dict.fromkeys([PRESET_FACES[wish], *FACES]))


def _needs_glyph(c: str) -> bool:
    return not c.isspace() and unicodedata.category(c) != "Cf"


@functools.cache
def file_of(face: Face) -> Path | None:
    """The face's file, or None if its wheel is not installed."""
    try:
        path = Path(str(importlib.metadata.distribution(face.distribution).locate_file(face.file)))
    except importlib.metadata.PackageNotFoundError:
        return None
    return path if path.is_file() else None


def font_file() -> Path:
    """The file of the default caption font, which is always installed."""
    path = file_of(POPPINS)
    if path is None:
        raise FileNotFoundError(f"{POPPINS.distribution} is not installed")
    return path


@functools.cache
def coverage(path: Path) -> frozenset[int]:
    """Code points that the font's `cmap` maps to a glyph."""
    with TTFont(path, lazy=True) as font:
        return frozenset(font.getBestCmap() or ())


def _line_height(path: Path) -> float:
    with TTFont(path, lazy=True) as font:
        head, metrics = cast("Any", font["head"]), cast("Any", font["OS/2"])  # tables get their fields when read
        return (metrics.usWinAscent + metrics.usWinDescent) / head.unitsPerEm


def _folder_with(path: Path) -> Path:
    """A folder with a link to this font only, so that no other face can be selected."""
    folder = private_folder() / "fonts" / path.stem
    link(folder / path.name, path)
    return folder


def use_only_our_fonts() -> Path:
    """Restrict fontconfig, in this process and its children, to the caption font; returns the config file.

    Other faces come from `FontChoice.folder`, so a clip's look depends only on its text.
    """
    folder = private_folder()
    config = folder / "fonts.conf"
    text = (
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>{escape(str(_folder_with(font_file())))}</dir>"
        f"<cachedir>{escape(str(folder / 'fontcache'))}</cachedir>"
        "</fontconfig>\n"
    )
    if not config.exists() or config.read_text() != text:
        with atomic_replacement(config) as fresh:
            fresh.write_text(text)
    os.environ["FONTCONFIG_FILE"] = str(config)
    return config
