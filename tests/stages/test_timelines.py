"""A clip has the picture and sound that the source has at that time, whatever the file's timeline."""

from pathlib import Path

import av
import pytest

from tasks.core.edl import EdlClip, Span
from tasks.core.errors import UnreadableMedia
from tasks.core.output.clip_checks import check_clip
from tasks.core.output.render_plan import RenderOptions
from tasks.engines.output.measurements import measure_clip
from tasks.stages.render import RenderedClip, render_clip
from tests.small_media import drawing, ffmpeg, footage

OPTIONS = RenderOptions(width=108, height=192, preset="ultrafast", encoder="x264")
COLOURS = {"red": (1, 0, 0), "lime": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0)}


def rendered(path: Path, out: Path, start: float, end: float) -> RenderedClip:
    clip = EdlClip(index=1, title="t", hook="h", segments=[Span(start=start, end=end)])
    return render_clip(drawing(clip), footage(path), OPTIONS, out)


def faults(clip: RenderedClip) -> list[str]:
    measure = measure_clip(clip.path, clip.source, clip.look)
    checks = check_clip(
        measure, clip.clip, OPTIONS, clip.source_black, clip.source_frozen, clip.drawing.captioned, clip.clip.duration
    )
    return [f"{c.name}: {c.measured}" for c in checks if not c.ok]


def colours(clip: RenderedClip, *times: float) -> list[str]:
    """Names of the colours in the middle of the picture at these source times."""
    with av.open(str(clip.path)) as container:
        rate = float(container.streams.video[0].average_rate or 0)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    names = {value: name for name, value in COLOURS.items()}
    at = [frames[round((t - clip.clip.segments[0].start) * rate)][86:106, 44:64] for t in times]
    return [names.get(tuple(round(v / 255) for v in frame.mean(axis=(0, 1))), "another") for frame in at]


@pytest.fixture(scope="module")
def sparse_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 13 s screen recording with a frame only where the screen changes: at 0, 3, 8 and 9 s."""
    folder = tmp_path_factory.mktemp("rare")
    for colour in COLOURS:
        ffmpeg("-f", "lavfi", "-i", f"color={colour}:s=192x108", "-frames:v", 1, folder / f"{colour}.png")
    stays = zip(COLOURS, (3, 5, 1, 4), strict=True)
    listed = ["ffconcat version 1.0", *(f"file {name}.png\nduration {seconds}" for name, seconds in stays)]
    (folder / "list.txt").write_text("\n".join(listed))
    path = folder / "rare.mp4"
    pictures = ("-f", "concat", "-i", folder / "list.txt", "-f", "lavfi", "-i", "sine=300:d=13:r=48000")
    encode = ("-fps_mode", "vfr", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-bf", 0, "-c:a", "aac", "-t", 13)
    ffmpeg(*pictures, *encode, "-video_track_timescale", 1000, path)
    return path


def test_a_frame_stays_until_the_next_one(sparse_recording: Path, tmp_path: Path):
    clip = rendered(sparse_recording, tmp_path, 1.5, 9.5)
    assert colours(clip, 1.5, 2.9, 3.1, 7.9, 8.1, 9.1) == ["red", "red", "lime", "lime", "blue", "yellow"]
    assert faults(clip) == []


def test_a_clip_that_begins_between_frames_shows_the_earlier_one(sparse_recording: Path, tmp_path: Path):
    assert colours(rendered(sparse_recording, tmp_path, 5.0, 8.5), 5.0, 7.9, 8.1) == ["lime", "lime", "blue"]


def test_the_last_frame_stays_to_the_end_of_the_sound(sparse_recording: Path, tmp_path: Path):
    clip = rendered(sparse_recording, tmp_path, 10.5, 12.5)
    assert colours(clip, 10.5, 12.4) == ["yellow", "yellow"]
    assert faults(clip) == []


def test_a_clip_beyond_the_end_of_the_source_is_refused(sparse_recording: Path, tmp_path: Path):
    with pytest.raises(UnreadableMedia, match="ends at"):
        rendered(sparse_recording, tmp_path, 14, 16)


FIELDS = ("-vf", "interlace=scan=tff", "-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-q:v", 4)


@pytest.mark.parametrize("codec", [("-c:v", "libx264"), FIELDS], ids=["progressive", "interlaced"])
def test_a_picture_that_changes_its_size_continues(tmp_path: Path, codec: tuple):
    """As in a broadcast between SD and HD: both parts in one stream, with in-band parameters."""
    parts = []
    for at, (colour, size) in enumerate([("lime", "192x108"), ("blue", "240x180")]):
        parts.append(tmp_path / f"{at}.ts")
        made = ("-f", "lavfi", "-i", f"color={colour}:s={size}:r=25:d=3,noise=alls=20:allf=t", *codec)
        sound = ("-f", "lavfi", "-i", "sine=300:d=3:r=48000", "-c:a", "aac", "-bf", 0)
        ffmpeg(*made[:4], *sound[:4], *made[4:], *sound[4:], "-output_ts_offset", 3 * at, "-muxdelay", 0, parts[-1])
    joined = tmp_path / "whole.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    copy = tmp_path / "whole.mkv"
    ffmpeg("-i", joined, "-c", "copy", copy)
    clip = rendered(copy, tmp_path / "out", 1.0, 5.0)
    assert colours(clip, 1.0, 2.8, 3.2, 4.9) == ["lime", "lime", "blue", "blue"]
    assert faults(clip) == []
