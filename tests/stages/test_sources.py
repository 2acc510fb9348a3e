"""Files as cameras, broadcasts and browsers write them keep flash and beep at their times when acquired."""

from pathlib import Path

import numpy as np
import pytest

from tasks.core.edl import EdlClip, Span
from tasks.core.errors import NoAudio
from tasks.core.output.clip_checks import check_clip
from tasks.core.output.render_plan import RenderOptions
from tasks.core.output.source_match import lags
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.footage import Footage
from tasks.engines.output.envelope import sound_levels
from tasks.engines.output.measurements import measure_clip
from tasks.engines.picture.frames import small_frames
from tasks.engines.programs import programs
from tasks.engines.speech import pcm
from tasks.stages.download import DownloadOptions, LocalSource, acquire_file
from tasks.stages.render import RenderedClip, render_clip
from tests.folders import MEDIA
from tests.small_media import drawing, ffmpeg

RATE = 16000
OPTIONS = RenderOptions(width=54, height=96, preset="ultrafast", encoder="x264")
TICKS = [1.0, 3.0, 5.0]
TOLERANCE = 0.045
"""Tolerance in seconds: about one frame, as the clip contract allows."""
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-bf", 0, "-g", 25)
NO_MUX_DELAY = ("-muxdelay", 0, "-muxpreload", 0)


@pytest.fixture(scope="module")
def ticks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 s of dim motion and faint hum; a flash and a beep of 0.2 s at 1, 3 and 5 s."""
    path = tmp_path_factory.mktemp("ticks") / "ticks.mov"
    flash = "lutyuv=y=val*0.3,drawbox=w=iw:h=ih:color=white:t=fill:enable='between(mod(t,2),1,1.19)'"
    beep = "0.5*sin(2*PI*1000*t)*between(mod(t,2),1,1.2)+0.003*sin(2*PI*200*t)"
    picture = ("-f", "lavfi", "-i", f"testsrc2=s=128x72:r=25:d=6,{flash}")
    sound = ("-f", "lavfi", "-i", f"aevalsrc='{beep}':s=48000:d=6")
    ffmpeg(*picture, *sound, *H264, "-pix_fmt", "yuv420p", "-c:a", "pcm_s16le", path)
    return path


def acquire(path: Path, language: str = "auto") -> LocalSource:
    return acquire_file(path, path.name, DownloadOptions(language=language), path.parent / "taken")


def onsets(loud: np.ndarray, rate: float) -> list[float]:
    return [float(n) / rate for n in np.flatnonzero(np.diff(loud.astype(int), prepend=0) == 1)]


def beeps(sound: np.ndarray, rate: int = RATE) -> list[float]:
    step = rate // 100
    peaks = np.abs(sound[: len(sound) // step * step].reshape(-1, step)).max(axis=1)
    return onsets(peaks > 0.3 * peaks.max(initial=1e-9), 100)


def decoded_sound(got: LocalSource) -> np.ndarray:
    return np.concatenate([block.samples for block in pcm.blocks(got.audio, ffmpeg_exe())])


def rendered(got: LocalSource, folder: Path) -> RenderedClip:
    """Render the clip from 0.5 to 5.5 s."""
    clip = EdlClip(index=1, title="t", hook="h", segments=[Span(start=0.5, end=5.5)])
    return render_clip(drawing(clip), Footage(got.video, got.audio, got.info), OPTIONS, folder)


def faults(made: RenderedClip) -> list[str]:
    measure = measure_clip(made.path, made.source, made.look)
    assert measure.lags, "the beeps show a lag"
    checks = check_clip(measure, made.clip, OPTIONS, made.source_black, made.source_frozen, made.drawing.captioned, 5.0)
    return [f"{c.name}: {c.measured}" for c in checks if not c.ok]


def flashes(path: Path, got: LocalSource) -> list[float]:
    size = {"fps": 25, "size": (32, 18), "ffmpeg": ffmpeg_exe()}
    frames = small_frames(path, got.info, (0, got.info.duration), **size)
    return onsets(np.array([frame[6:12].mean() for frame in frames]) > 150, 25)


def in_parts(source: Path, out: Path, name: str, ways: list[tuple], clock: list[float], *common) -> Path:
    """The source as one file of 2 s parts; each has its own encoding and its own start on the clock."""
    parts = []
    for number, (way, start) in enumerate(zip(ways, clock, strict=True)):
        parts.append(out / f"part{number}-{name}")
        cut = ("-ss", 2 * number, "-i", source, "-t", 2, *H264, *NO_MUX_DELAY)
        ffmpeg(*cut, *common, *way, "-output_ts_offset", start, parts[-1])
    joined = out / name
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    return joined


SOUND_CHANGES = {
    "AC-3, 2 then 6 then 2 channels": [("-c:a", "ac3", "-ac", n) for n in (2, 6, 2)],
    "AAC, 2 then 6 then 2 channels": [("-c:a", "aac", "-ac", n) for n in (2, 6, 2)],
    "MP2, 1 then 2 then 1 channel": [("-c:a", "mp2", "-ac", n) for n in (1, 2, 1)],
    "48 then 44.1 then 32 kHz": [("-c:a", "aac", "-ar", n) for n in (48000, 44100, 32000)],
}


@pytest.mark.parametrize("name", SOUND_CHANGES)
def test_sound_that_changes_format_midstream_stays_in_sync(ticks: Path, tmp_path: Path, name: str):
    got = acquire(in_parts(ticks, tmp_path, "a.ts", SOUND_CHANGES[name], [0, 2, 4]))
    assert beeps(decoded_sound(got)) == pytest.approx(TICKS, abs=TOLERANCE)
    assert flashes(got.video, got) == pytest.approx(TICKS, abs=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "clock"), [("a.ts", [0, 0, 0]), ("a.ts", [0, 1000, 2000]), ("a.ts", [0, 500, 0]), ("a.vob", [0, 0, 0])]
)
def test_joined_recordings_follow_each_other(ticks: Path, tmp_path: Path, name: str, clock: list[float]):
    codecs = ("-c:v", "mpeg2video", "-c:a", "mp2", "-f", "vob") if name == "a.vob" else ("-c:a", "aac")
    got = acquire(in_parts(ticks, tmp_path, name, [()] * 3, clock, *codecs))
    assert beeps(decoded_sound(got)) == pytest.approx(
        TICKS, abs=0.1
    )  # each part's sound is slightly longer than its picture
    assert flashes(got.video, got) == pytest.approx(beeps(decoded_sound(got)), abs=TOLERANCE)


MPEG2 = ("-c:v", "mpeg2video", "-bf", 2)
CONTAINERS = {
    "browser.webm": ("-c:v", "libvpx", "-deadline", "realtime", "-c:a", "libopus", "-live", 1),
    "killed.mkv": ("-c:a", "aac", "-live", 1),
    "fragments.mp4": ("-c:a", "aac", "-movflags", "frag_keyframe+empty_moov"),
    "wrap.ts": ("-c:a", "aac", "-output_ts_offset", 95440),
    "latm.ts": ("-c:a", "aac", "-mpegts_flags", "latm"),
    "bluray.m2ts": ("-c:a", "pcm_bluray", "-ac", 2, "-mpegts_m2ts_mode", 1),
    "dvd.vob": (*MPEG2, "-c:a", "pcm_dvd", "-ac", 2),
    "ac3.vob": (*MPEG2, "-c:a", "ac3"),
    "mp2.mpg": (*MPEG2, "-c:a", "mp2"),
    "a.wmv": ("-c:v", "wmv2", "-c:a", "wmav2"),
    "a.avi": ("-c:v", "mpeg4", "-c:a", "libmp3lame"),
    "a.flv": ("-c:a", "aac"),
    "a.dv": ("-vf", "scale=720:576", "-c:v", "dvvideo", "-pix_fmt", "yuv420p", "-ac", 2),
    "8 kHz.mov": ("-c:a", "pcm_s16le", "-ar", 8000),
    "96 kHz.mkv": ("-c:a", "flac", "-ar", 96000),
    "quad.mp4": ("-af", "pan=quad|c0=c0|c3=c0", "-c:a", "aac"),
    "6.1.mkv": ("-af", "pan=6.1|c2=c0", "-c:a", "flac"),
    "only LFE.mov": ("-af", "pan=7.1|c3=c0", "-c:a", "pcm_s16le"),
    "downmix.mov": ("-af", "pan=downmix|c0=c0|c1=c0", "-c:a", "pcm_s16le"),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_keeps_sound_and_picture_in_sync(ticks: Path, tmp_path: Path, name: str):
    path = tmp_path / name
    ffmpeg("-i", ticks, *H264, *NO_MUX_DELAY, *CONTAINERS[name], path)
    got = acquire(path)
    assert got.info.duration == pytest.approx(6, abs=0.15)
    assert beeps(decoded_sound(got)) == pytest.approx(TICKS, abs=TOLERANCE + 0.02)
    assert flashes(got.video, got) == pytest.approx(beeps(decoded_sound(got)), abs=TOLERANCE)


@pytest.mark.long
@pytest.mark.parametrize("name", SOUND_CHANGES)
def test_a_clip_of_sound_that_changes_format_passes_every_check(ticks: Path, tmp_path: Path, name: str):
    got = acquire(in_parts(ticks, tmp_path, "a.ts", SOUND_CHANGES[name], [0, 2, 4]))
    assert faults(rendered(got, tmp_path / "out")) == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["browser.webm", "killed.mkv", "fragments.mp4", "wrap.ts", "dvd.vob", "quad.mp4"])
def test_a_clip_of_every_timeline_passes_every_check(ticks: Path, tmp_path: Path, name: str):
    path = tmp_path / name
    ffmpeg("-i", ticks, *H264, *NO_MUX_DELAY, *CONTAINERS[name], path)
    assert faults(rendered(acquire(path), tmp_path / "out")) == []


def test_a_clip_of_a_source_cut_without_decoding_passes_every_check(tmp_path: Path):
    """The cut lies between key frames, so the file holds frames from before its start."""
    path = tmp_path / "a.mp4"
    ffmpeg("-ss", 7.3, "-i", MEDIA / "sample.mp4", "-t", 8, "-c", "copy", path)
    assert faults(rendered(acquire(path), tmp_path / "out")) == []


def test_a_stream_without_a_length_is_read_to_its_end(ticks: Path, tmp_path: Path):
    """As written to a pipe, without length and index."""
    piped, regular = tmp_path / "piped.mkv", tmp_path / "whole.mkv"
    ffmpeg("-i", ticks, *H264, "-c:a", "aac", "-f", "matroska", "-live", 1, piped)
    got = acquire(piped.rename(regular))
    assert got.video != regular
    assert got.info.duration == pytest.approx(6, abs=0.1)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_tracks_that_start_and_end_apart_keep_their_times(ticks: Path, tmp_path: Path, name: str):
    late, early = tmp_path / f"late-{name}", tmp_path / f"early-{name}"
    ffmpeg("-i", ticks, *H264, *NO_MUX_DELAY, "-c:a", "aac", "-af", "atrim=2.5:4.5", late)
    got = acquire(late)
    assert beeps(decoded_sound(got)) == pytest.approx([3.0], abs=TOLERANCE)
    assert flashes(got.video, got) == pytest.approx(TICKS, abs=TOLERANCE)
    ffmpeg("-i", ticks, *H264, *NO_MUX_DELAY, "-c:a", "aac", "-vf", "trim=2.5:4.5", early)
    got = acquire(early)
    assert beeps(decoded_sound(got)) == pytest.approx(TICKS, abs=TOLERANCE)
    assert flashes(got.video, got) == pytest.approx([3.0], abs=TOLERANCE)


def with_sounds(ticks: Path, path: Path, *tracks: str, more: tuple = ()) -> Path:
    """The picture of `ticks` with these sound tracks: "beeps", or a lavfi source."""
    sources = [("-i", ticks) if t == "beeps" else ("-f", "lavfi", "-i", t) for t in tracks]
    maps = [("-map", f"{n + 1}:a") for n in range(len(tracks))]
    ffmpeg(
        "-i",
        ticks,
        *sum(sources, ()),
        "-map",
        "0:v",
        *sum(maps, ()),
        "-t",
        6,
        "-c:v",
        "copy",
        "-c:a",
        "aac",
        *more,
        path,
    )
    return path


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_the_main_sound_track_is_used_not_the_commentary(ticks: Path, tmp_path: Path, name: str):
    flags = ("-disposition:a:0", "comment", "-disposition:a:1", "default")
    got = acquire(with_sounds(ticks, tmp_path / name, "sine=440:d=6", "beeps", more=flags))
    assert beeps(decoded_sound(got)) == pytest.approx(TICKS, abs=TOLERANCE)
    made = rendered(got, tmp_path / "out")
    compared = lags(sound_levels(made.path, [(0.0, 5.0)]), made.source.sound)
    assert compared, "the clip is held against the track that was taken"
    assert all(abs(lag.lag) <= 0.04 and lag.match > 0.9 for lag in compared)


def test_the_requested_language_selects_the_sound_track_if_no_flag_does(ticks: Path, tmp_path: Path):
    tags = ("-metadata:s:a:0", "language=ger", "-metadata:s:a:1", "language=spa")
    no_flags = ("-disposition:a:0", 0, "-disposition:a:1", 0)
    path = with_sounds(ticks, tmp_path / "a.mkv", "sine=440:d=6", "beeps", more=(*tags, *no_flags))
    assert beeps(decoded_sound(acquire(path, "es"))) == pytest.approx(TICKS, abs=TOLERANCE)
    assert len(beeps(decoded_sound(acquire(path, "de")))) == 1


def test_a_silent_default_track_is_replaced_with_a_warning(ticks: Path, tmp_path: Path):
    flags = ("-disposition:a:0", "default", "-disposition:a:1", 0)
    path = with_sounds(ticks, tmp_path / "a.mkv", "anullsrc=r=48000:cl=stereo", "beeps", more=flags)
    got = acquire(path)
    assert beeps(decoded_sound(got)) == pytest.approx(TICKS, abs=TOLERANCE)
    assert got.warnings == ["sound track 1 of 2 is silent", "sound track 2 of 2 is used"]


STREAMS = {"P": "0:v", "S": "0:a", "p": "1:v", "s": "2:a"}
"""Picture and sound of `ticks`; picture and sound of something else."""
PROGRAMS = {
    "radio first": (["s", "PS"], "program 2 of 2 is used"),
    "another one later": (["PS", "ps"], "program 1 of 2 is used"),
    "a picture alone first": (["p", "s", "SP"], "program 3 of 3 is used"),
}


def multiplex(ticks: Path, path: Path, streams: list[str]) -> Path:
    """A transport stream with one program per item; the item names its streams by letter, as in STREAMS."""
    others = ("-f", "lavfi", "-i", "color=blue:s=128x72:r=25:d=6", "-f", "lavfi", "-i", "sine=440:d=6")
    letters = "".join(streams)
    maps = [word for letter in letters for word in ("-map", STREAMS[letter])]
    first = [sum(map(len, streams[:n])) for n in range(len(streams))]
    tables = [
        word
        for start, program in zip(first, streams, strict=True)
        for word in ("-program", "title=a" + "".join(f":st={start + n}" for n in range(len(program))))
    ]
    ffmpeg("-i", ticks, *others, *maps, *H264, "-pix_fmt", "yuv420p", "-c:a", "aac", *tables, *NO_MUX_DELAY, path)
    return path


@pytest.mark.parametrize("name", PROGRAMS)
def test_picture_and_sound_come_from_one_program(ticks: Path, tmp_path: Path, name: str):
    streams, warning = PROGRAMS[name]
    got = acquire(multiplex(ticks, tmp_path / "a.ts", streams))
    assert beeps(decoded_sound(got)) == pytest.approx(TICKS, abs=TOLERANCE)
    assert flashes(got.video, got) == pytest.approx(TICKS, abs=TOLERANCE)
    assert warning in got.warnings


def test_programs_are_found_at_any_packet_spacing(ticks: Path, tmp_path: Path):
    plain = multiplex(ticks, tmp_path / "a.ts", ["s", "PS"])
    stream, spaced = plain.read_bytes(), tmp_path / "a.m2ts"
    packets = [stream[at : at + 188] for at in range(0, len(stream), 188)]
    for before, after in ((4, 0), (0, 16)):
        spaced.write_bytes(b"".join(bytes(before) + packet + bytes(after) for packet in packets))
        assert programs(spaced) == programs(plain) == [frozenset({0x100}), frozenset({0x101, 0x102})]


@pytest.mark.parametrize("content", [b"", b"\x47" * 5000, b"\x47\x40\0\x10\xff\0\xb0" * 500])
def test_a_file_without_a_program_table_has_no_programs(tmp_path: Path, content: bytes):
    path = tmp_path / "a.ts"
    path.write_bytes(content)
    assert programs(path) == []


def test_a_stream_without_a_complete_program_is_refused(ticks: Path, tmp_path: Path):
    with pytest.raises(NoAudio):
        acquire(multiplex(ticks, tmp_path / "a.ts", ["S", "P"]))


CHANNELS = {
    "inverted": "pan=stereo|c0=c0|c1=-1*c0",
    "left alone": "pan=stereo|c0=c0|c1=0*c0",
    "inverted for a while": "aeval='val(0)|val(0)*if(between(t,2.5,4),-1,1)'",
    "the third of sixteen": "pan=16C|c2=c0",
    "two that cancel, of four": "pan=4C|c2=c0|c3=-1*c0",
}


@pytest.mark.parametrize("name", CHANNELS)
def test_sound_is_on_both_channels_and_survives_mono(ticks: Path, tmp_path: Path, name: str):
    """Up to the rendered clip, also when played on one loudspeaker."""
    path = tmp_path / "a.mov"
    ffmpeg("-i", ticks, "-c:v", "copy", "-af", CHANNELS[name], "-c:a", "pcm_s16le", path)
    got = acquire(path)
    assert got.warnings
    assert beeps(decoded_sound(got)) == pytest.approx(TICKS, abs=TOLERANCE)
    made = rendered(got, tmp_path / "out")
    raw = tmp_path / "clip.raw"
    ffmpeg("-i", made.path, "-ar", RATE, "-ac", 2, "-f", "f32le", raw)
    sides = np.fromfile(raw, np.float32).reshape(-1, 2)
    for sound in (sides[:, 0], sides[:, 1], sides.mean(axis=1)):
        assert np.abs(sound).max() > 0.5 * np.abs(sides).max()
        assert beeps(sound) == pytest.approx([t - 0.5 for t in TICKS], abs=TOLERANCE)
