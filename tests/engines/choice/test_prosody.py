import resource
import wave
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from tasks.core.errors import ProgramStopped
from tasks.engines.choice.prosody import AudioUnreadable, measure_delivery
from tests.folders import FOOTAGE

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
RATE = 16_000


def voice(seconds: float, pitch: float, level: float) -> np.ndarray:
    t = np.arange(int(seconds * RATE)) / RATE
    return level * sum(np.sin(2 * np.pi * pitch * k * t) / k for k in range(1, 12))


def write_wav(path: Path, *parts: np.ndarray) -> Path:
    samples = np.concatenate(parts)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return path


def test_loudness_pitch_and_noise_are_measured(tmp_path):
    rng = np.random.default_rng(0)
    silence = np.zeros(RATE * 2)
    parts = [silence, voice(2, 110, 0.2), voice(2, 220, 0.02), 0.2 * rng.standard_normal(RATE * 2), silence]
    delivery = measure_delivery(write_wav(tmp_path / "a.wav", *parts), FFMPEG)
    assert delivery.duration == pytest.approx(10, abs=0.05)
    level = delivery.loudness.reshape(5, -1).mean(axis=1)
    assert level[1] - level[2] == pytest.approx(20, abs=1)
    assert max(level[0], level[4]) < -80
    pitch, noise = delivery.pitch.reshape(5, -1), delivery.noise.reshape(5, -1)
    assert np.nanmedian(pitch[1]) == pytest.approx(110, rel=0.03)
    assert np.nanmedian(pitch[2]) == pytest.approx(220, rel=0.03)
    assert np.isnan(pitch[0]).all()
    assert np.isnan(pitch[3]).mean() > 0.9
    assert np.median(noise[3]) > 0.4
    assert np.median(noise[1]) < 0.1
    assert noise[0].max() == 0


def test_time_zero_is_the_start_of_the_container(tmp_path):
    source = write_wav(tmp_path / "a.wav", voice(1, 150, 0.2))
    late = tmp_path / "late.mkv"
    import subprocess

    subprocess.run(
        [
            FFMPEG,
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "color=size=64x64:duration=4",
            "-itsoffset",
            "2",
            "-i",
            source,
            late,
        ],
        check=True,
    )
    loud = np.flatnonzero(measure_delivery(late, FFMPEG).loudness > -40)
    assert loud[0] / 50 == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("content", [b"", b"no audio at all"])
def test_a_file_without_audio_is_refused(tmp_path, content):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(content)
    with pytest.raises(AudioUnreadable):
        measure_delivery(broken, FFMPEG)


def test_a_killed_decoder_gives_no_measurement(tmp_path):
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nhead -c 64000 /dev/zero\nkill -9 $$\n")
    killed.chmod(0o700)
    with pytest.raises(ProgramStopped, match="signal 9"):
        measure_delivery(write_wav(tmp_path / "a.wav", voice(1, 150, 0.2)), killed)


def test_ten_minutes_cost_less_than_four_seconds(tmp_path):
    source = write_wav(tmp_path / "long.wav", np.tile(voice(10, 120, 0.1), 60))
    before = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    delivery = measure_delivery(source, FFMPEG)
    after = sum(resource.getrusage(who).ru_utime for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    assert delivery.duration == pytest.approx(600, abs=1)
    assert after - before < 4  # measured 1.3 s; other programs may slow it down


@pytest.mark.skipif(not FOOTAGE.exists(), reason="needs the shared footage")
def test_a_real_voice_has_a_pitch():
    delivery = measure_delivery(FOOTAGE / "jfk.flac", FFMPEG)
    assert delivery.duration == pytest.approx(11, abs=0.2)
    assert 90 < np.nanmedian(delivery.pitch) < 260
    assert 0.2 < np.isfinite(delivery.pitch).mean() < 0.9
