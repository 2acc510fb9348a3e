import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core.captions import ass as captions
from tasks.core.captions.ass import Typeface
from tasks.core.transcript import Word
from tasks.engines.captions import fonts
from tasks.engines.ffmpeg import run


@pytest.fixture(autouse=True)
def _only_our_fonts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FONTCONFIG_FILE", "")
    fonts.use_only_our_fonts()


def ink(tmp_path: Path, text: str, face: str, folder: Path) -> int:
    """The number of pixels that a caption sets on a black picture."""
    script = tmp_path / "t.ass"
    script.write_text(captions.ass([Word(word=text, start=0, end=1)], (270, 480), "en", Typeface(face)))
    frames: list[bytes] = []
    chain = f"ass={script}:fontsdir={folder}"
    picture = ["-f", "lavfi", "-i", "color=black:s=270x480:d=0.1:r=10", "-vf", chain, "-frames:v", "1"]
    run([*picture, "-f", "rawvideo", "-pix_fmt", "gray", "pipe:1"], 30, read=lambda pipe: frames.append(pipe.read()))
    return sum(value > 128 for value in frames[0])


def test_captions_are_drawn_in_the_caption_font(tmp_path: Path):
    chosen = fonts.choose_font(["Hello"])
    assert chosen.face == fonts.POPPINS
    assert ink(tmp_path, "Hello", chosen.face.name, chosen.folder) > 150


@pytest.mark.parametrize(
    "face", [face for face in fonts.PRESET_FACES.values() if fonts.file_of(face)], ids=lambda face: face.name
)
def test_libass_finds_every_installed_face_by_its_name(tmp_path: Path, face: fonts.Face):
    path = fonts.file_of(face)
    assert path
    script = tmp_path / "t.ass"
    script.write_text(captions.ass([Word(word="Hi", start=0, end=1)], (270, 480), "en", Typeface(face.name)))
    chain = f"ass={script}:fontsdir={fonts._folder_with(path)}"
    picture = ["-v", "verbose", "-f", "lavfi", "-i", "color=s=270x480:d=0.1", "-vf", chain, "-f", "null", "-"]
    assert f"fontselect: ({face.name}, 400, 0) -> {path.stem}" in run(picture, 30).stderr


def test_coverage_lists_the_characters_of_a_face():
    covered = fonts.coverage(fonts.font_file())
    assert {ord(c) for c in "Aaz09éß!?"} <= covered
    assert ord("中") not in covered
    assert ord("ش") not in covered


def test_characters_missing_from_every_face_are_reported():
    chosen = fonts.choose_font(["hello", "ᚠᚢᚦ"])
    assert chosen.missing == "ᚠᚢᚦ"
    assert "captions may lack glyphs for xx" in (chosen.warning("xx") or "")
    assert fonts.choose_font(["hello"]).warning("en") is None


def test_spaces_and_invisible_characters_need_no_glyph():
    assert fonts.choose_font(["a\u200d b\u202e\n"]).missing == ""


def test_fontconfig_knows_only_the_caption_font():
    config = Path(os.environ["FONTCONFIG_FILE"]).read_text()
    assert config.count("<dir>") == 1
    folder = Path(config.split("<dir>")[1].split("</dir>")[0])
    assert [path.resolve() for path in folder.iterdir()] == [fonts.font_file().resolve()]


@pytest.mark.parametrize("attempt", range(5))
def test_many_threads_can_set_up_fonts_at_once(attempt: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    together = threading.Barrier(16)

    def start(_: int) -> tuple[Path, Path]:
        together.wait()
        return fonts.use_only_our_fonts(), fonts.choose_font(["Hello"]).folder

    with ThreadPoolExecutor(16) as pool:
        ((config, folder),) = set(pool.map(start, range(16)))
    assert "</fontconfig>" in config.read_text()
    assert [path.resolve() for path in folder.iterdir()] == [fonts.font_file().resolve()]


def test_a_preset_whose_font_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(fonts.PRESET_FACES, "Lost", fonts.Face("Lost", "fontpkg-of-nobody", "lost.ttf"))
    chosen = fonts.choose_font(["Hello"], "Lost")
    assert chosen.face == fonts.POPPINS
    assert chosen.warning("en") == "captions are drawn in Poppins ExtraBold: the font Lost is not installed"
    assert fonts.choose_font(["Hello"], "Anton Regular").warning("en") is None
