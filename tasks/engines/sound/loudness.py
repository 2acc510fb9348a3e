"""Measures a clip's loudness, then corrects it with a gain and a true-peak limiter.

The measurement runs the encode's own filters on the sound alone, so it measures what gets encoded.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from tasks.core.output.render_plan import TARGET_LUFS, Correction
from tasks.engines.ffmpeg import run

SAMPLE_RATE = 48000
CEILING_DBTP = -2.0
"""The limiter's ceiling. AAC overshoots: in measurements, a ceiling of -1.5 clips after encoding, -2.0 does not."""
MAX_GAIN = 40.0
"""dB; more would only amplify noise."""
_SILENCE_LUFS = -69.0
_CLOSE_ENOUGH = 0.2
_MAX_TRIALS = 4
_FADE = 0.01
"""Seconds of fade at both ends of a segment, which prevents clicks at the joins."""


@dataclass(frozen=True)
class Loudness:
    """Integrated loudness in LUFS (EBU R128) and true peak in dBTP."""

    integrated: float
    true_peak: float


@dataclass(frozen=True)
class LoudnessPlan:
    """The gain and the limiter's ceiling in dB, and the loudness before and after."""

    gain: float
    ceiling: float
    source: Loudness
    result: Loudness
    warning: str | None = None


_LEAD = 2.0
"""Seconds of sound read before a segment and trimmed off again."""


def sound(audio: Path, segments: list[tuple[float, float]], gain: float, ceiling: float = CEILING_DBTP) -> Any:
    """Filters that play (start, seconds) segments of `audio` in sequence, with gain and limiter (dB)."""
    parts = [_segment(audio, start, seconds) for start, seconds in segments]
    joined = parts[0] if len(parts) == 1 else ffmpeg.concat(*parts, v=0, a=1)
    return (
        joined.filter("volume", f"{gain:.3f}dB", precision="double")
        .filter("aresample", 4 * SAMPLE_RATE)  # peaks between samples show at four times the rate
        .filter("alimiter", limit=f"{10 ** (ceiling / 20):.6f}", attack=5, release=50, level=0, latency=1)
        .filter("aresample", SAMPLE_RATE)
        .filter("aformat", sample_fmts="fltp", channel_layouts="stereo")
    )


def _segment(audio: Path, start: float, seconds: float) -> Any:
    """Seek slightly early, because in some files ffmpeg's first sound after a seek is a second late."""
    lead = min(start, _LEAD)
    return (
        ffmpeg.input(f"file:{audio}", ss=f"{start - lead:.6f}", t=f"{seconds + lead:.6f}")
        .audio.filter("aresample", SAMPLE_RATE, **{"async": 1, "first_pts": 0})
        .filter("atrim", start=f"{lead:.6f}")
        .filter("asetpts", "PTS-STARTPTS")
        .filter("aformat", sample_fmts="fltp", channel_layouts="stereo")
        .filter("apad", whole_dur=f"{seconds:.6f}")
        .filter("atrim", end=f"{seconds:.6f}")
        .filter("afade", t="in", d=_FADE)
        .filter("afade", t="out", st=f"{max(seconds - _FADE, 0):.6f}", d=_FADE)
    )


def measure_loudness(
    audio: Path,
    segments: list[tuple[float, float]],
    gain: float = 0.0,
    ceiling: float = CEILING_DBTP,
    timeout: float = 120,
) -> Loudness:
    """Loudness of the sound as an encode with `gain` and `ceiling` (dB) would produce it."""
    return _measured(sound(audio, segments, gain, ceiling), timeout)


def loudness_of(file: Path, timeout: float = 120) -> Loudness:
    """Loudness of all of a file's sound."""
    return _measured(ffmpeg.input(f"file:{file}").audio, timeout)


def _measured(stream: Any, timeout: float) -> Loudness:
    meter = stream.filter("ebur128", peak="true", framelog="quiet")
    return _read_summary(run(meter.output("-", f="null"), timeout).stderr)


def integrated(audio: Path, timeout: float = 1800) -> float | None:
    """Integrated loudness of a whole file in LUFS, or None if it is silent. Skips the costly true peak."""
    meter = ffmpeg.input(f"file:{audio}").audio.filter("ebur128", framelog="quiet")
    log = run(meter.output("-", f="null"), timeout).stderr
    found = re.findall(r"^\s*I:\s*(-?[\d.]+) LUFS", log, re.MULTILINE)
    return float(found[-1]) if found and float(found[-1]) > _SILENCE_LUFS else None


def _read_summary(log: str) -> Loudness:
    """Parse the summary that ffmpeg's ebur128 filter prints at the end."""
    integrated = re.findall(r"^\s*I:\s*(-?[\d.]+|-?inf|nan) LUFS", log, re.MULTILINE)
    peak = re.findall(r"^\s*Peak:\s*(-?[\d.]+|-?inf|nan) dBFS", log, re.MULTILINE)
    return Loudness(float(integrated[-1]), float(peak[-1]))


def plan_loudness(
    audio: Path, segments: list[tuple[float, float]], correction: Correction | None = None
) -> LoudnessPlan:
    """Find the gain that brings the segments to the target.

    The limiter lowers the loudness of impulsive sound, so the gain is corrected by measuring the result.
    """
    correction = correction or Correction()
    target, ceiling = TARGET_LUFS + correction.extra_gain, CEILING_DBTP - correction.lower_ceiling
    source = measure_loudness(audio, segments, ceiling=0.0)
    if not source.integrated > _SILENCE_LUFS:
        return LoudnessPlan(0.0, ceiling, source, source, "the clip is silent; its loudness was not changed")
    gain = min(target - source.integrated, MAX_GAIN)
    result = measure_loudness(audio, segments, gain, ceiling)
    for _ in range(_MAX_TRIALS):
        missing = target - result.integrated
        if abs(missing) <= _CLOSE_ENOUGH or (missing > 0 and gain >= MAX_GAIN):
            break
        gain = min(gain + 1.3 * missing, MAX_GAIN)
        result = measure_loudness(audio, segments, gain, ceiling)
    warning = None
    if abs(target - result.integrated) > 1:
        warning = f"loudness {result.integrated:.1f} LUFS instead of {target:.0f}: the sound is too quiet or too uneven"
    return LoudnessPlan(gain, ceiling, source, result, warning)
