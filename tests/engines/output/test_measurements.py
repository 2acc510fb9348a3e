from pathlib import Path

import av
import ffmpeg as ffmpeg_python
import pytest

from tasks.core.captions.ass import ass
from tasks.core.captions.presets import PRESETS, Look
from tasks.core.edl import EdlClip, Span
from tasks.core.errors import UnreadableMedia
from tasks.core.output.clip_checks import CAPTION_PIXELS, check_clip
from tasks.core.output.render_plan import RenderOptions
from tasks.core.output.shown_picture import DrawnPicture, ShownPicture
from tasks.core.output.source_match import SourceExcerpt
from tasks.core.picture.camera import Shot
from tasks.core.transcript import Word
from tasks.engines.captions import fonts
from tasks.engines.ffmpeg import run
from tasks.engines.output.envelope import sound_levels
from tasks.engines.output.measurements import is_cut_short, measure_clip, moov_first
from tasks.engines.output.picture_meter import Painted, PictureMeter
from tasks.engines.output.source_frames import source_frames
from tasks.engines.probe import probe
from tests.small_media import ffmpeg

SIZE = (108, 192)
SECONDS = 4
CLIP = EdlClip(index=1, title="t", hook="h", segments=[Span(start=0, end=SECONDS)])
WORD = Word(word="hello", start=0.1, end=3.9)
HIGHLIGHT = "drawbox=x=30:y=136:w=40:h=10:color=0xFFE100:t=fill"
PICTURE = f"testsrc2=s=108x192:r=25:d={SECONDS},drawbox=y=110:h=60:w=iw:color=black:t=fill"
SOUND = f"anoisesrc=c=pink:a=0.5:d={SECONDS}:r=48000:seed=2"
LOUD = "loudnorm=I=-14:TP=-2,aresample=48000,aformat=channel_layouts=stereo"
CODECS = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "20", "-pix_fmt", "yuv420p", "-c:a", "aac"]


LOW = Look(position="lower")
"""Captions where the test picture has nothing yellow."""


def make(path: Path, picture: str = f"{PICTURE},{HIGHLIGHT}", sound: str = f"{SOUND},{LOUD}", *more: str) -> Path:
    """A clip that is valid at 108x192 except for what the arguments break."""
    colours = "scale=out_color_matrix=bt709:out_range=tv"
    sources = ["-f", "lavfi", "-i", f"{picture},{colours}", "-f", "lavfi", "-i", sound]
    ffmpeg(*sources, *CODECS, "-movflags", "+faststart", *more, path)
    return path


OPTIONS = RenderOptions(width=SIZE[0], height=SIZE[1])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SourceExcerpt:
    """A good clip as if it were its own source."""
    path = make(tmp_path_factory.mktemp("source") / "a.mp4")
    shots = [[Shot(start=0, end=SECONDS, layout="fit")]]
    frames = source_frames(path, probe(path), CLIP, shots, OPTIONS, [LOW.band(SIZE)])
    return SourceExcerpt(sound=sound_levels(path, [(0, SECONDS)]), frames=frames)


def faults(path: Path, source: SourceExcerpt, words: list[Word] | None = None) -> list[str]:
    words = [WORD] if words is None else words
    return [
        c.name for c in check_clip(measure_clip(path, source, LOW), CLIP, OPTIONS, [], [], words, SECONDS) if not c.ok
    ]


def test_a_good_clip_passes_every_check(tmp_path: Path, source: SourceExcerpt):
    path = make(tmp_path / "a.mp4")
    assert faults(path, source) == []
    measure = measure_clip(path, source, LOW)
    assert measure.integrated == pytest.approx(-14, abs=1)
    assert measure.video_end == pytest.approx(4, abs=0.01)
    assert len(measure.highlight) == pytest.approx(40, abs=1)


still_tail = "trim=end=2,tpad=stop_mode=clone:stop_duration=2"
black_tail = f"drawbox=w=iw:h=ih:color=black:t=fill:enable='gte(t,3)',{HIGHLIGHT}"
NO_SOUND = ["audio stream", "start", "end", "loudness", "true peak", "sound"]
DEFECTS = {
    "size": ((f"{PICTURE},{HIGHLIGHT},scale=128:192,setsar=1",), ["size"]),
    "not square": ((f"{PICTURE},{HIGHLIGHT},setsar=1216/1215:max=2000",), ["size"]),
    "too loud and clipped": ((f"{PICTURE},{HIGHLIGHT}", f"{SOUND},volume=20dB"), ["loudness", "true peak"]),
    "too quiet": ((f"{PICTURE},{HIGHLIGHT}", f"{SOUND},volume=-20dB"), ["loudness"]),
    "late sound": (
        (f"{PICTURE},{HIGHLIGHT}", f"{SOUND},{LOUD}", "-af", "atrim=end=3.8,asetpts=PTS+0.2/TB"),
        ["start", "no silent stretch", "sound"],
    ),
    "early end of sound": ((f"{PICTURE},{HIGHLIGHT}", f"{SOUND},{LOUD},atrim=end=3.8"), ["end", "no silent stretch"]),
    "44.1 kHz": ((f"{PICTURE},{HIGHLIGHT}", f"{SOUND},{LOUD}", "-ar", "44100"), ["audio stream"]),
    "no sound": ((f"{PICTURE},{HIGHLIGHT}", SOUND, "-an"), NO_SOUND),
    "4:4:4": ((f"{PICTURE},{HIGHLIGHT}", f"{SOUND},{LOUD}", "-pix_fmt", "yuv444p"), ["video stream"]),
    "frozen tail": ((f"{PICTURE},{HIGHLIGHT},{still_tail}",), ["no frozen stretch"]),
    "black tail": ((f"{PICTURE},{black_tail}",), ["no black stretch", "no frozen stretch", "picture"]),
    "no captions": ((PICTURE,), ["captions"]),
    "index at the end": ((f"{PICTURE},{HIGHLIGHT}", f"{SOUND},{LOUD}", "-movflags", "0"), ["fast start"]),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_every_defect_is_detected(tmp_path: Path, source: SourceExcerpt, name: str):
    arguments, expected = DEFECTS[name]
    assert faults(make(tmp_path / "a.mp4", *arguments), source) == expected


def test_a_too_short_clip_is_detected(tmp_path: Path, source: SourceExcerpt):
    path = make(tmp_path / "a.mp4", f"{PICTURE},{HIGHLIGHT}", f"{SOUND},{LOUD}", "-t", "3.8")
    assert faults(path, source, []) == ["length"]


def test_a_truncated_file_is_unreadable(tmp_path: Path, source: SourceExcerpt):
    path = make(tmp_path / "a.mp4", f"{PICTURE},{HIGHLIGHT}", f"{SOUND},{LOUD}", "-movflags", "0")
    path.write_bytes(path.read_bytes()[:20000])
    with pytest.raises(UnreadableMedia):
        measure_clip(path, source, LOW)


def test_moov_first_handles_large_and_broken_boxes(tmp_path: Path):
    path = tmp_path / "x.mp4"
    path.write_bytes(
        b"\x00\x00\x00\x08ftyp" + b"\x00\x00\x00\x01wide\x00\x00\x00\x00\x00\x00\x00\x10" + b"\x00\x00\x00\x08moov"
    )
    assert moov_first(path)
    path.write_bytes(b"\x00\x00\x00\x00junk" * 3)
    assert not moov_first(path)


def test_a_file_cut_anywhere_inside_its_boxes_is_cut_short(tmp_path: Path):
    path = tmp_path / "x.mp4"
    large = b"\x00\x00\x00\x01wide\x00\x00\x00\x00\x00\x00\x00\x12ab"
    whole, ends = b"\x00\x00\x00\x08ftyp" + large + b"\x00\x00\x00\x0amdatcd", {8, 26, 36}
    for length in range(1, len(whole) + 1):
        path.write_bytes(whole[:length])
        assert is_cut_short(path) == (length not in ends), length
    path.write_bytes(whole[:26] + b"\x00\x00\x00\x00mdatuntil the end")
    assert not is_cut_short(path)


@pytest.mark.parametrize("size", [17, 2**40, 2**63 - 1, 2**64 - 1])
def test_a_box_larger_than_any_file_is_cut_short(tmp_path: Path, size: int):
    path = tmp_path / "x.mp4"
    path.write_bytes(b"\x00\x00\x00\x01moov" + size.to_bytes(8))
    assert is_cut_short(path)
    assert moov_first(path)


def test_the_highlight_of_a_short_word_in_a_landscape_clip_is_seen(tmp_path: Path, source: SourceExcerpt):
    fonts.use_only_our_fonts()
    look, size = Look(PRESETS["box"]), (960, 540)
    font = fonts.choose_font(["a I"], look.preset.face)
    script = tmp_path / "captions.ass"
    words = [Word(word=word, start=i, end=i + 1) for i, word in enumerate(("a", "I", "it"))]
    script.write_text(ass(words, size, "en", font.typeface, look))
    picture = f"color=gray:s={size[0]}x{size[1]}:r=25:d={SECONDS},ass={script}:fontsdir={font.folder}"
    measure = measure_clip(make(tmp_path / "a.mp4", picture), source, look)
    seen = [max(pixels for t, pixels in measure.highlight if abs(t - word.middle) < 0.1) for word in words]
    assert min(seen) >= CAPTION_PIXELS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, source: SourceExcerpt) -> DrawnPicture:
    """What the encoder of a good clip was given, with a highlight that no file has, which tells it from files."""
    path = make(tmp_path_factory.mktemp("drawn") / "a.mp4", *KEYED)
    meter = PictureMeter(Painted(SIZE, SECONDS, LOW, None, frozenset(frame.box for frame in source.frames)))
    run(meter.small(ffmpeg_python.input(str(path)).video), 30, meter.watch)
    given = meter.drawn(source.frames, SECONDS * 25)
    return given.model_copy(update={"shown": given.shown.model_copy(update={"highlight": MARKED})})


MARKED = [(0.0, 12345)]
KEYED = f"{PICTURE},{HIGHLIGHT}", f"{SOUND},{LOUD}", "-g", "25"


def test_a_file_that_shows_what_was_drawn_is_not_decoded_again(
    tmp_path: Path, source: SourceExcerpt, drawn: DrawnPicture
):
    path = make(tmp_path / "a.mp4", *KEYED)
    by_drawing, by_file = measure_clip(path, source, LOW, drawn=drawn), measure_clip(path, source, LOW)
    assert by_drawing.highlight == MARKED
    assert (by_drawing.is_as_drawn, by_file.is_as_drawn) == (True, None)
    shown = {name: getattr(by_file, name) for name in [*ShownPicture.model_fields, "is_as_drawn"]}
    assert by_drawing.model_copy(update=shown) == by_file


UNLIKE = {
    "darker": (f"{PICTURE},{HIGHLIGHT},lutyuv=y=val*0.9", *KEYED[1:]),
    "another picture from the middle on": (f"{PICTURE},{HIGHLIGHT},hflip=enable='gte(t,2)'", *KEYED[1:]),
    "a frame less": (*KEYED, "-frames:v", "99"),
}


@pytest.mark.parametrize("name", UNLIKE)
def test_a_file_that_is_unlike_what_was_drawn_is_decoded(
    tmp_path: Path, source: SourceExcerpt, drawn: DrawnPicture, name: str
):
    path = make(tmp_path / "a.mp4", *UNLIKE[name])
    measure = measure_clip(path, source, LOW, drawn=drawn)
    assert measure.is_as_drawn is False
    assert measure.model_copy(update={"is_as_drawn": None}) == measure_clip(path, source, LOW)


def test_a_file_with_a_damaged_key_frame_is_decoded(tmp_path: Path, source: SourceExcerpt, drawn: DrawnPicture):
    path = make(tmp_path / "a.mp4", *KEYED)
    with av.open(str(path)) as container:
        third = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.is_keyframe][2]
    data = bytearray(path.read_bytes())
    data[third[0] + 40 : third[0] + third[1]] = bytes(third[1] - 40)
    path.write_bytes(data)
    assert measure_clip(path, source, LOW, drawn=drawn).highlight != MARKED
