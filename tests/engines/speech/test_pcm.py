import subprocess
import wave
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import psutil
import pytest

from tasks.core.errors import NoAudio, ProgramStopped, UnreadableMedia
from tasks.engines.speech import pcm

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()


def write_wav(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).astype(np.int16).tobytes())
    return path


def hum(seconds: float, rate: int = 16_000) -> np.ndarray:
    return 0.3 * np.sin(np.arange(round(seconds * rate)) * 0.1)


def test_blocks_cover_all_sound_and_are_cut_in_pauses(tmp_path: Path) -> None:
    parts = [hum(7), np.zeros(8000), hum(6), np.zeros(8000), hum(4)]
    joined = np.concatenate(parts)
    blocks = list(pcm.blocks(write_wav(tmp_path / "a.wav", joined), FFMPEG, seconds=8, slack=3))
    assert np.allclose(np.concatenate([block.samples for block in blocks]), joined, atol=1e-4)
    assert all(block.duration <= 8 for block in blocks)
    assert 7.0 <= blocks[1].start <= 7.5
    assert 13.5 <= blocks[2].start <= 14.0


def test_a_file_that_fills_its_blocks_exactly_has_no_empty_block(tmp_path: Path) -> None:
    blocks = list(pcm.blocks(write_wav(tmp_path / "a.wav", hum(8)), FFMPEG, seconds=4, slack=0.1))
    assert sum(block.duration for block in blocks) == pytest.approx(8)
    assert all(block.duration > 0 for block in blocks)


def test_sound_that_starts_late_keeps_its_time(tmp_path: Path) -> None:
    source, late = write_wav(tmp_path / "a.wav", hum(2, 44_100), 44_100), tmp_path / "late.mkv"
    command = [FFMPEG, "-v", "error", "-f", "lavfi", "-i", "color=s=64x64:d=4", "-itsoffset", "1.5", "-i", source, late]
    subprocess.run(command, check=True)
    (block,) = pcm.blocks(late, FFMPEG)
    assert block.duration == pytest.approx(3.5, abs=0.05)
    assert np.abs(block.samples[: 16_000 + 7_000]).max() < 0.01


def test_duration_is_measured(tmp_path: Path) -> None:
    assert pcm.duration(write_wav(tmp_path / "a.wav", hum(2.5))) == pytest.approx(2.5)


@pytest.mark.parametrize("read", [pcm.duration, lambda path: list(pcm.blocks(path, FFMPEG))])
def test_a_file_that_is_not_media_is_unreadable(read, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"not a film" * 100)
    with pytest.raises(UnreadableMedia):
        read(path)


def test_a_picture_without_sound_is_no_audio(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    subprocess.run([FFMPEG, "-v", "error", "-f", "lavfi", "-i", "color=s=64x64:d=0.2", path], check=True)
    with pytest.raises(NoAudio):
        pcm.duration(path)


def test_a_playlist_cannot_reach_the_network(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    with pytest.raises(UnreadableMedia):
        list(pcm.blocks(path, FFMPEG))


def test_a_reader_that_stops_early_leaves_no_decoder(tmp_path: Path) -> None:
    reader = pcm.blocks(write_wav(tmp_path / "a.wav", hum(60)), FFMPEG, seconds=2, slack=1)
    next(reader)
    reader.close()
    commands = [" ".join(child.cmdline()) for child in psutil.Process().children()]
    assert not any("ffmpeg" in command and "a.wav" in command for command in commands)


def decoder(path: Path, end: str) -> str:
    """The real decoder, ended after 5 s of sound by the shell command `end`."""
    path.write_text(f'#!/bin/sh\n{FFMPEG} "$@" 2>/dev/null | head -c 160000\necho gave up >&2\n{end}\n')
    path.chmod(0o700)
    return str(path)


def test_a_killed_decoder_is_not_the_end_of_the_sound(tmp_path: Path) -> None:
    killed = decoder(tmp_path / "killed", "kill -9 $$")
    reader = pcm.blocks(write_wav(tmp_path / "a.wav", hum(10)), killed, seconds=4, slack=1)
    with pytest.raises(ProgramStopped):
        list(reader)


def test_sound_before_a_decoders_failure_is_kept_and_the_failure_reported(tmp_path: Path) -> None:
    warnings: list[str] = []
    gives_up = decoder(tmp_path / "gives_up", "exit 69")
    blocks = list(pcm.blocks(write_wav(tmp_path / "a.wav", hum(10)), gives_up, 4, 1, warnings.append))
    assert sum(block.duration for block in blocks) == pytest.approx(5)
    assert warnings == ["the sound could not be decoded after 5 s: gave up"]
