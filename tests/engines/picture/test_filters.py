"""Sources of every scan type and colour space are converted to progressive BT.709."""

from dataclasses import dataclass, replace
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from tasks.core.media import MediaInfo
from tasks.core.picture.colour import colours
from tasks.engines.ffmpeg import reading
from tasks.engines.picture.filters import Filters, deinterlacing, filter_chain, preparation, to_bt709
from tasks.engines.picture.vision import analyse_range
from tasks.engines.probe import probe
from tests.small_media import ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SIZE = (640, 480)
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "8", "-pix_fmt", "yuv420p")
MOVING = "testsrc2=s=640x480:d=1.6,scroll=h=0.012"


def pictures(path: Path, filters: Filters, pixels: str = "gray", shape: tuple[int, ...] = (480, 640)) -> np.ndarray:
    """All frames after the filters, read as BT.709 in limited range: (frames, *shape)."""
    chain = filter_chain([*filters, ("scale", {"in_color_matrix": "bt709", "in_range": "tv"})])
    with reading(["-i", str(path), "-vf", chain, "-pix_fmt", pixels, "-f", "rawvideo", "pipe:1"], FFMPEG) as pipe:
        data = b"".join(iter(lambda: bytes(pipe.read(1 << 20)), b""))
    return np.frombuffer(data, np.uint8).reshape(-1, *shape)


def combed_share(frames: np.ndarray) -> float:
    """The share of combed pixels: brighter or darker than both neighbouring lines by more than 20."""
    lines = frames.astype(np.int16)
    above, below = lines[:, 1:-1] - lines[:, :-2], lines[:, 1:-1] - lines[:, 2:]
    return float(np.mean((np.minimum(np.abs(above), np.abs(below)) > 20) & (above * below > 0)))


FIELDS = {
    "H.264, top first": ("interlace=scan=tff:lowpass=0,setfield=tff", (*H264, "-x264-params", "tff=1"), "mp4"),
    "H.264, bottom first": ("interlace=scan=bff:lowpass=0,setfield=bff", (*H264, "-x264-params", "bff=1"), "mkv"),
    "MPEG-2": (
        "interlace=scan=tff:lowpass=0,setfield=tff",
        ("-c:v", "mpeg2video", "-q:v", "2", "-flags", "+ilme+ildct", "-pix_fmt", "yuv420p"),
        "mkv",
    ),
    "ProRes": ("interlace=scan=tff:lowpass=0,setfield=tff", ("-c:v", "prores_ks", "-flags", "+ildct"), "mov"),
    "HEVC": (
        "interlace=scan=tff:lowpass=0,setfield=tff",
        ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "interlace=tff:log-level=error:crf=8"),
        "mp4",
    ),
}


def source(path: Path, picture: str, codec: tuple[str, ...]) -> tuple[Path, MediaInfo]:
    ffmpeg("-f", "lavfi", "-i", picture, *codec, "-t", "1.6", path)
    return path, probe(path)


def scan_of(path: Path, info: MediaInfo):
    return analyse_range(path, info, 0.0, 1.6, info.fps, None, FFMPEG).scan


@pytest.mark.parametrize("name", FIELDS)
def test_fields_become_frames_without_combing(tmp_path: Path, name: str):
    chain, codec, kind = FIELDS[name]
    path, info = source(tmp_path / f"a.{kind}", f"testsrc2=s=640x480:r=50:d=1.6,scroll=h=0.012,{chain}", codec)
    assert info.interlaced
    scan = scan_of(path, info)
    assert scan.kind == "interlaced"
    before, after = pictures(path, []), pictures(path, deinterlacing(scan, info, 25))
    assert combed_share(before) > 0.02
    assert combed_share(after) < 0.1 * combed_share(before)
    assert len(after) == len(before)


def test_each_field_becomes_a_frame_if_the_clips_rate_allows(tmp_path: Path):
    chain, codec, kind = FIELDS["H.264, top first"]
    path, info = source(tmp_path / f"a.{kind}", f"testsrc2=s=640x480:r=50:d=1.6,scroll=h=0.012,{chain}", codec)
    frames = pictures(path, deinterlacing(scan_of(path, info), info, 50)).astype(np.int16)
    assert len(frames) == pytest.approx(80, abs=2)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))
    assert steps.min() > 0.5 * np.median(steps)


def test_progressive_frames_sent_as_fields_are_left_unchanged(tmp_path: Path):
    picture = "testsrc2=s=640x480:r=25:d=1.6,scroll=h=0.012"
    path, info = source(tmp_path / "a.mp4", picture, (*H264, "-x264-params", "tff=1"))
    assert info.interlaced
    scan = scan_of(path, info)
    assert scan.kind == "progressive"
    assert deinterlacing(scan, info, 25) == []


def test_telecined_film_is_restored(tmp_path: Path):
    film = "testsrc2=s=640x480:r=24000/1001:d=1.6,scroll=h=0.012"
    path, info = source(tmp_path / "a.mp4", f"{film},telecine,setfield=tff", (*H264, "-x264-params", "tff=1"))
    filmed, _ = source(tmp_path / "film.mp4", film, H264)
    scan = scan_of(path, info)
    assert scan.kind == "telecined"
    original = pictures(filmed, []).astype(np.int16)
    for frame in pictures(path, deinterlacing(scan, info, 29.97))[5:40]:
        assert min(np.abs(original - frame).mean(axis=(1, 2))) < 1.5


def test_a_progressive_picture_needs_no_filter(tmp_path: Path):
    path, info = source(tmp_path / "a.mp4", "testsrc2=s=640x480:r=25:d=1.6", H264)
    assert not info.interlaced
    assert deinterlacing(scan_of(path, info), info, 25) == []


def test_a_later_interlaced_part_is_detected(tmp_path: Path):
    progressive, _ = source(tmp_path / "whole.mkv", "testsrc2=s=640x480:r=25:d=1.6", H264)
    chain, codec, _ = FIELDS["H.264, top first"]
    fields, _ = source(tmp_path / "fields.mkv", f"testsrc2=s=640x480:r=50:d=1.6,scroll=h=0.012,{chain}", codec)
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(annexb(path, tmp_path) for path in (progressive, fields)))
    copied = tmp_path / "both.mkv"
    ffmpeg("-fflags", "+genpts", "-i", both, "-c", "copy", copied)
    assert probe(copied).interlaced


def annexb(path: Path, folder: Path) -> bytes:
    out = folder / f"{path.stem}.ts"
    ffmpeg("-i", path, "-c", "copy", out)
    return out.read_bytes()


PATCHES = ((200, 60, 40), (40, 150, 70), (50, 70, 190), (128, 128, 128), (235, 225, 210), (20, 22, 30))


@dataclass(frozen=True)
class ColourFormat:
    """A way to store colours. `tagged` lists the tags in the file: m, t, p for matrix, transfer, primaries."""

    height: int = 720
    pixels: str = "yuv420p"
    matrix: str = "bt709"
    transfer: str = "bt709"
    primaries: str = "bt709"
    range: str = "tv"
    tagged: str = "mtp"


WIDE = ColourFormat(pixels="yuv420p10le", matrix="bt2020nc", transfer="bt2020-10", primaries="bt2020")
COLOURS = {
    "BT.601, untagged": ColourFormat(240, matrix="smpte170m", tagged=""),
    "BT.601, tagged in HD": ColourFormat(matrix="smpte170m"),
    "BT.709, untagged": ColourFormat(tagged=""),
    "BT.709, tagged in SD": ColourFormat(240),
    "BT.709, full range": ColourFormat(range="pc"),
    "SMPTE 240M": ColourFormat(matrix="smpte240m"),
    "4:4:4, 12 bit": ColourFormat(pixels="yuv444p12le"),
    "4:2:2, 10 bit, BT.2020": replace(WIDE, pixels="yuv422p10le"),
    "BT.2020, only the matrix tagged": replace(WIDE, tagged="m"),
    "BT.2020, only the primaries tagged": replace(WIDE, tagged="p"),
    "BT.2020 of constant luminance": replace(WIDE, pixels="yuv444p10le", matrix="bt2020c"),
    "BT.2020, full range": replace(WIDE, pixels="yuv444p10le", range="pc"),
    "Display P3": ColourFormat(pixels="yuv444p10le", primaries="smpte432"),
    "YCgCo": ColourFormat(pixels="yuv444p", matrix="ycgco"),
    "RGB": ColourFormat(pixels="gbrp", matrix="gbr", range="pc"),
    "RGB, 10 bit, SD": ColourFormat(240, pixels="gbrp10le", matrix="gbr", range="pc"),
}


def striped_video(path: Path, height: int, chain: str) -> Path:
    """Two lossless frames of vertical stripes in the colours of PATCHES, each 40 pixels wide, through filters."""
    frame = np.zeros((height, 2 * height, 3), np.uint8)
    for n, patch in enumerate(PATCHES):
        frame[:, 40 * n : 40 * n + 40] = patch
    raw = path.with_suffix(".rgb")
    raw.write_bytes(frame.tobytes() * 2)
    size = f"{2 * height}x{height}"
    ffmpeg("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-i", raw, "-vf", chain, "-c:v", "ffv1", path)
    return path


def make_coloured(path: Path, kind: ColourFormat) -> MediaInfo:
    tags = {
        "m": f"colorspace={kind.matrix}",
        "t": f"color_trc={kind.transfer}",
        "p": f"color_primaries={kind.primaries}",
    }
    params = ":".join(tags[k] if k in kind.tagged else f"{tags[k].split('=')[0]}=unknown" for k in "mtp")
    made = f"matrix={kind.matrix}:transfer={kind.transfer}:primaries={kind.primaries}:range={kind.range}"
    convert = "" if kind.matrix == "gbr" else f"zscale=matrixin=gbr:transferin=bt709:primariesin=bt709:{made},"
    chain = f"format=gbrp,{convert}format={kind.pixels},setparams={params}:range={kind.range}"
    return probe(striped_video(path, kind.height, chain))


def shown_patches(path: Path, info: MediaInfo) -> np.ndarray:
    shape = (info.height, info.width, 3)
    frame = pictures(path, [*preparation(info), *to_bt709(info, info.width, info.height)], "rgb24", shape)[0]
    return np.array([frame[20:60, 40 * n + 10 : 40 * n + 30].mean(axis=(0, 1)) for n in range(len(PATCHES))])


@pytest.mark.parametrize("name", COLOURS)
def test_colours_are_preserved(tmp_path: Path, name: str):
    info = make_coloured(tmp_path / "a.mkv", COLOURS[name])
    assert np.abs(shown_patches(tmp_path / "a.mkv", info) - PATCHES).max() < 6


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
@pytest.mark.parametrize("kept", ["t", "tp", "tm"])
def test_hdr_with_missing_tags_looks_the_same(tmp_path: Path, transfer: str, kept: str):
    fully_tagged = replace(WIDE, transfer=transfer)
    paths = [(tmp_path / "all.mkv", fully_tagged), (tmp_path / "some.mkv", replace(fully_tagged, tagged=kept))]
    patches = [shown_patches(path, make_coloured(path, kind)) for path, kind in paths]
    assert np.abs(patches[0] - patches[1]).max() < 1
    assert patches[0][3] == pytest.approx([patches[0][3].mean()] * 3, abs=3)
    assert patches[0][0][0] > 2 * patches[0][0][2]


def test_grey_stays_grey_and_keeps_its_levels(tmp_path: Path):
    path = striped_video(tmp_path / "a.mkv", 720, "format=gray")
    patches = shown_patches(path, probe(path))
    assert np.ptp(patches, axis=1).max() < 3
    assert np.all(np.diff(patches[[5, 3, 4], 0]) > 60)


def test_transparent_areas_become_black(tmp_path: Path):
    for name, pixels in (("yuv", "yuva420p"), ("rgb", "gbrap")):
        seen_through = "geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a='255*gte(X,120)'"
        path = striped_video(tmp_path / f"{name}.mkv", 240, f"format=gbrap,{seen_through},format={pixels}")
        info = probe(path)
        assert info.alpha
        patches = shown_patches(path, info)
        assert patches[:3].max() < 8
        assert np.abs(patches[3:] - PATCHES[3:]).max() < 8


def test_usual_colours_need_only_scale_and_format():
    info = MediaInfo(duration=1, size_bytes=1, container="mp4", width=1920, height=1080, color_matrix="bt709")
    assert colours(info).is_close_to_bt709
    assert preparation(info) == []
    assert [name for name, _ in to_bt709(info, 1080, 1920)] == ["scale", "format"]
