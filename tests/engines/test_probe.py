from pathlib import Path

import pytest

from tasks.core.errors import UnreadableMedia
from tasks.engines.ffmpeg import run
from tasks.engines.probe import probe
from tests.small_media import clip, ffmpeg


def test_an_ordinary_file_is_described(tmp_path: Path):
    info = probe(clip(tmp_path / "a.mp4"))
    assert (info.width, info.height, info.fps, info.rotation, info.video_codec) == (192, 108, 25, 0, "h264")
    assert (info.audio_codec, info.audio_sample_rate, info.audio_channels) == ("aac", 44100, 1)
    assert info.duration == pytest.approx(2, abs=0.1)
    assert (info.color_matrix, info.color_transfer) == (None, None)


@pytest.mark.parametrize(
    ("degrees", "clockwise", "size"), [(90, 270, (108, 192)), (-90, 90, (108, 192)), (180, 180, (192, 108))]
)
def test_rotation_is_clockwise_and_swaps_the_size(tmp_path: Path, degrees: int, clockwise: int, size: tuple[int, int]):
    straight = clip(tmp_path / "straight.mp4")
    run(["-display_rotation", str(degrees), "-i", str(straight), "-c", "copy", str(tmp_path / "turned.mp4")], 30)
    info = probe(tmp_path / "turned.mp4")
    assert info.rotation == clockwise
    assert (info.width, info.height) == size


def test_anamorphic_sizes_are_in_square_pixels(tmp_path: Path):
    info = probe(clip(tmp_path / "a.mp4", 1, "-vf", "setsar=4/3"))
    assert (info.width, info.height) == (256, 108)


def test_colour_tags_are_read(tmp_path: Path):
    tags = "setparams=color_trc=smpte2084:colorspace=bt2020nc:color_primaries=bt2020"
    info = probe(clip(tmp_path / "a.mkv", 1, "-vf", tags))
    assert (info.color_matrix, info.color_transfer) == ("bt2020nc", "smpte2084")


def test_mastering_display_metadata_implies_the_hdr_transfer(tmp_path: Path):
    display = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1):max-cll=1000,400"
    x265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params")
    assert probe(clip(tmp_path / "a.mp4", 1, *x265, f"log-level=error:{display}")).color_transfer == "smpte2084"
    assert probe(clip(tmp_path / "b.mp4", 1, *x265, "log-level=error")).color_transfer is None


def test_missing_streams_are_none(tmp_path: Path):
    assert probe(clip(tmp_path / "mute.mp4", 1, "-an")).audio_codec is None
    assert probe(clip(tmp_path / "blind.m4a", 1, "-vn")).video_codec is None


def test_a_cover_is_not_a_video_stream(tmp_path: Path):
    sound, cover = clip(tmp_path / "s.m4a", 1, "-vn"), tmp_path / "cover.jpg"
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", "-update", "1", cover)
    covered = tmp_path / "covered.m4a"
    ffmpeg("-i", sound, "-i", cover, "-map", "0", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic", covered)
    info = probe(covered)
    assert info.video_codec is None
    assert info.audio_codec == "aac"


@pytest.mark.parametrize("content", [b"", b"<html>not a video</html>", bytes(range(256)) * 40])
def test_a_file_no_demuxer_reads_is_unreadable(tmp_path: Path, content: bytes):
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableMedia):
        probe(path)


def test_a_file_without_its_index_is_unreadable(tmp_path: Path):
    path = clip(tmp_path / "a.mp4", 2)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableMedia):
        probe(path)
