from pathlib import Path

import pytest

from tasks.core.output.render_plan import Correction
from tasks.engines.ffmpeg import run
from tasks.engines.sound.loudness import CEILING_DBTP, MAX_GAIN, _read_summary, measure_loudness, plan_loudness

SPEECHLIKE = "anoisesrc=c=pink:a=0.3:d=6:seed=1,volume='0.2+0.8*abs(sin(5*t))':eval=frame"
IMPULSES = "aevalsrc='0.02*sin(900*t)+0.9*exp(-60*mod(t,0.5))*sin(6000*t)':d=6:s=48000"
SOUNDS = {
    "quiet": f"{SPEECHLIKE},volume=-10dB",
    "loud": f"{SPEECHLIKE},volume=20dB,alimiter=limit=0.99:level=0",
    "impulsive": IMPULSES,
    "tone near the top": "sine=f=11025:d=6:r=44100,volume=16dB",
}


def sound(path: Path, source: str) -> Path:
    run(["-f", "lavfi", "-i", source, "-c:a", "pcm_f32le", str(path)], 30)
    return path


@pytest.mark.parametrize("name", SOUNDS)
def test_the_encoded_sound_has_the_target_loudness_and_peak(tmp_path: Path, name: str):
    source = sound(tmp_path / "a.wav", SOUNDS[name])
    planned = plan_loudness(source, [(0.5, 3), (4, 1.5)])
    assert planned.warning is None
    assert planned.result.integrated == pytest.approx(-14, abs=0.5)
    assert planned.result.true_peak <= CEILING_DBTP + 0.6


def test_silence_is_left_unchanged_with_a_warning(tmp_path: Path):
    planned = plan_loudness(sound(tmp_path / "a.wav", "anullsrc=d=3"), [(0, 3)])
    assert planned.gain == 0
    assert planned.warning
    assert "silent" in planned.warning


def test_the_gain_for_near_silence_is_bounded(tmp_path: Path):
    planned = plan_loudness(sound(tmp_path / "a.wav", "sine=d=4,volume=-40dB"), [(0, 4)])
    assert planned.gain == MAX_GAIN
    assert planned.warning
    assert "LUFS instead of -14" in planned.warning


def test_a_correction_moves_target_and_ceiling(tmp_path: Path):
    source = sound(tmp_path / "a.wav", SPEECHLIKE)
    corrected = plan_loudness(source, [(0, 5)], Correction(extra_gain=-2, lower_ceiling=3))
    assert corrected.result.integrated == pytest.approx(-16, abs=0.5)
    assert corrected.result.true_peak <= CEILING_DBTP - 3 + 0.5


def test_segments_beyond_the_end_are_silence(tmp_path: Path):
    assert measure_loudness(sound(tmp_path / "a.wav", "sine=d=2"), [(5, 1)]).integrated <= -70


def test_the_summary_is_read_from_its_end():
    log = "  Integrated loudness:\n    I:         -23.4 LUFS\n  True peak:\n    Peak:       -1.2 dBFS"
    assert _read_summary(log).true_peak == -1.2
    assert _read_summary("    I: -70.0 LUFS\n    Peak: -inf dBFS").true_peak == float("-inf")
