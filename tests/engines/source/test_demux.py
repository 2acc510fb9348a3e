"""Extracted sound stays on the picture's clock, checked with a flash and a beep at the same known time."""

import subprocess
from pathlib import Path

import av
import numpy as np
import pytest

from tasks.core.errors import NoAudio, UnreadableMedia
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.probe import probe
from tasks.engines.source.demux import AudioCopy, Sound, check_container, extract_audio
from tasks.stages.download import DownloadOptions, acquire_file
from tests.small_media import beeps, clip, ffmpeg

RATE = 16000
FRAME = 0.020
"""Seconds between the frames of `beeps`, the limit of precision."""


def flash(video: Path) -> float:
    """The time of the first bright frame in seconds from the container's start, as ffmpeg counts."""
    with av.open(str(video)) as container:
        start = (container.start_time or 0) / av.time_base
        for frame in container.decode(video=0):
            if frame.to_ndarray(format="gray").mean() > 128:
                return float(frame.time or 0) - start
    raise AssertionError("no flash")


def beep(audio: Path) -> float:
    """The time of the first loud sample in seconds, decoded as for the recogniser."""
    decode = ["-i", audio, "-af", "aresample=async=1:first_pts=0", "-ac", "1", "-ar", str(RATE), "-f", "s16le", "-"]
    raw = subprocess.run([ffmpeg_exe(), "-v", "error", *decode], check=True, capture_output=True, timeout=60).stdout
    return float(np.argmax(np.abs(np.frombuffer(raw, np.int16)) > 8000)) / RATE


def beep_by_timestamps(audio: Path) -> float:
    """The same by the file's timestamps, as decoders see it that do not fill gaps."""
    with av.open(str(audio)) as container:
        for frame in container.decode(audio=0):
            samples = np.abs(frame.to_ndarray()).max(axis=0)
            if frame.format.name.startswith(("s16", "s32")):
                samples = samples / float(np.iinfo(samples.dtype).max)
            if samples.max() > 0.25:
                return float(frame.time or 0) + float(np.argmax(samples > 0.25)) / frame.sample_rate
    raise AssertionError("no beep")


def extract_from(source: Path, folder: Path) -> AudioCopy:
    return acquire_file(source, source.name, DownloadOptions(), folder / "taken").audio_copy


SOURCES = {
    "plain.mp4": {},
    "plain.mkv": {},
    "opus.mkv": {"more": ["-c:a", "libopus"]},
    "opus.webm": {"more": ["-c:v", "libvpx", "-c:a", "libopus"]},
    "vorbis.mkv": {"more": ["-c:a", "libvorbis"]},
    "mp3.mp4": {"more": ["-c:a", "libmp3lame"]},
    "mp3.ts": {"more": ["-c:a", "libmp3lame"]},
    "pcm.mov": {"more": ["-c:a", "pcm_s16le"]},
    "flac.mkv": {"more": ["-c:a", "flac"]},
    "ac3.ts": {"more": ["-c:a", "ac3"]},
    "from-1.4.ts": {},
    "from-100.ts": {"more": ["-output_ts_offset", "100"]},
    "late.mp4": {"delay": 0.5},
    "late.mkv": {"delay": 0.5},
    "late.ts": {"delay": 0.5},
    "a-little-late.mp4": {"delay": 0.04},
}


ENCODED = {"vorbis.mkv", "mp3.mp4", "pcm.mov", "late.mp4", "late.mkv", "a-little-late.mp4"}
"""Sources whose sound is encoded; that of the others is copied."""


@pytest.mark.parametrize("name", SOURCES)
def test_sound_is_in_sync_with_the_picture(tmp_path: Path, name: str) -> None:
    made = SOURCES[name]
    source = beeps(tmp_path / name, 1.5, *made.get("more", ()), delay=made.get("delay", 0.0), seconds=3)
    sound = extract_from(source, tmp_path)
    flash_at = flash(source)
    assert flash_at == pytest.approx(1.5, abs=0.1)
    assert beep(sound.path) == pytest.approx(flash_at, abs=1.25 * FRAME)
    assert beep_by_timestamps(sound.path) == pytest.approx(flash_at, abs=1.25 * FRAME)
    assert sound.copied is (name not in ENCODED), sound.reason
    assert probe(sound.path).duration == pytest.approx(3, abs=0.1)


def test_an_edit_list_is_respected(tmp_path: Path) -> None:
    """A file cut without encoding, whose data begin before the first frame shown."""
    original = beeps(tmp_path / "whole.mp4", 1.5, "-g", "1000")
    cut = tmp_path / "cut.mp4"
    ffmpeg("-ss", "0.7", "-i", original, "-c", "copy", cut)
    sound = extract_from(cut, tmp_path)
    assert flash(cut) == pytest.approx(0.8, abs=0.05)
    assert beep(sound.path) == pytest.approx(flash(cut), abs=1.25 * FRAME)


def test_sound_that_starts_before_the_picture_stays_in_sync(tmp_path: Path) -> None:
    original = beeps(tmp_path / "whole.mp4", 1.5)
    early = tmp_path / "early.mkv"
    ffmpeg("-itsoffset", "0.4", "-i", original, "-i", original, "-map", "0:v", "-map", "1:a", "-c", "copy", early)
    sound = extract_from(early, tmp_path)
    assert beep(sound.path) == pytest.approx(flash(early) - 0.4, abs=1.25 * FRAME)


def test_a_gap_in_the_sound_stays_a_gap(tmp_path: Path) -> None:
    """Half a second of packets is missing before the beep."""
    original = beeps(tmp_path / "whole.mkv", 1.5)
    gap = tmp_path / "gap.mkv"
    ffmpeg("-i", original, "-map", "0", "-c", "copy", "-bsf:a", "noise=drop=gt(n\\,24)*lt(n\\,47)", gap)
    sound = extract_from(gap, tmp_path)
    assert beep(sound.path) == pytest.approx(1.5, abs=1.25 * FRAME)


def test_a_video_without_sound_is_no_audio(tmp_path: Path) -> None:
    mute = clip(tmp_path / "mute.mp4", 1, "-an")
    with pytest.raises(NoAudio):
        extract_from(mute, tmp_path)


def test_a_failed_copy_is_encoded_instead_and_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a codec other than the record says."""
    source = clip(tmp_path / "wma.mkv", 1, "-c:a", "wmav2")
    info = probe(source)
    claimed = Sound(info.tracks[0].model_copy(update={"codec": "aac", "layout": "mono"}))
    sound = extract_audio(source, info, claimed, tmp_path / "audio.m4a")
    assert not sound.copied
    assert "could not be copied" in sound.reason
    assert "re-encoded" in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 4096,
        b"<html><body>404</body></html>",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 5004 RTP/AVP 96\r\n",
        b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period/></MPD>',
    ],
    ids=["empty", "zeros", "html", "concat", "hls", "sdp", "dash"],
)
def test_files_that_are_not_a_single_media_file_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "talk.mp4"
    path.write_bytes(content)
    with pytest.raises(UnreadableMedia):
        check_container(path)


@pytest.mark.parametrize(
    "name", ["a.mp4", "a.mov", "a.mkv", "a.ts", "a.avi", "a.flv", "a.mpg", "a.3gp", "a.wmv", "a.ogv"]
)
def test_known_containers_are_accepted(tmp_path: Path, name: str) -> None:
    codecs = {
        ".mpg": ["-c:v", "mpeg2video", "-c:a", "mp2"],
        ".wmv": ["-c:v", "wmv2", "-c:a", "wmav2"],
        ".ogv": ["-c:v", "libtheora", "-c:a", "libvorbis"],
    }
    path = clip(tmp_path / name, 1, *codecs.get(Path(name).suffix, []))
    check_container(path.rename(tmp_path / "no-extension"))
