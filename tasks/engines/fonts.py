"""Bundled fonts: where they are, which characters they draw, and a fontconfig that knows no others."""

import functools
import os
import shutil
import tempfile
from pathlib import Path
from xml.sax.saxutils import escape

import fontpkg_poppins

CAPTION_FONT = "Poppins ExtraBold"


@functools.cache
def font_file() -> Path:
    """The file of the caption font."""
    return Path(fontpkg_poppins.__file__).parent / "files" / "Poppins-ExtraBold.ttf"


@functools.cache
def fonts_dir() -> Path:
    """A folder with the caption fonts and nothing else, so that no other face can be picked.

    Made in one step under a name of its own content: processes that ask at once do not collide.
    """
    folder = Path(tempfile.gettempdir()) / f"kangklip-{os.getuid()}" / "fonts"
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / font_file().name
    if not target.exists() or target.stat().st_size != font_file().stat().st_size:
        fresh = folder.parent / f"{target.name}.{os.getpid()}"
        shutil.copyfile(font_file(), fresh)
        fresh.replace(target)
    return folder


def use_only_our_fonts() -> Path:
    """Point fontconfig, in this process and its children, at `fonts_dir` alone; returns the file written."""
    folder = fonts_dir()
    config = folder.parent / "fonts.conf"
    text = (
        '<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig>'
        f"<dir>{escape(str(folder))}</dir><cachedir>{escape(str(folder.parent / 'fontcache'))}</cachedir>"
        "</fontconfig>\n"
    )
    if not config.exists() or config.read_text() != text:
        fresh = config.with_suffix(f".{os.getpid()}")
        fresh.write_text(text)
        fresh.replace(config)
    os.environ["FONTCONFIG_FILE"] = str(config)
    return config
