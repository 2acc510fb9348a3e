"""Decodes an audio track as one continuous, uniform stream, and measures its channels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tasks.core.media import AudioTrack
from tasks.core.sound.channels import UNCHANGED, WINDOWS_PER_SECOND, Mix
from tasks.engines.ffmpeg import Pipe, ffmpeg_exe, reading
from tasks.engines.probe import PROBE_LIMITS

SAMPLE_RATE = 48000
MAX_DRIFT = 0.03
"""Seconds that sound may drift from its timestamps before it is realigned; a clip may be 40 ms out of sync."""
_ANALYSIS_RATE = 8000
"""Hz; enough to compare channels."""
_BLOCK_SECONDS = 60
_FULL_SCALE = 32768.0


def is_discrete(track: AudioTrack) -> bool:
    """Whether a track has more than two channels and no known layout."""
    return track.channels > 2 and not track.has_layout


def gapless_arguments(track: AudioTrack, mix: Mix, then: str = "") -> list[str]:
    """Arguments after an input that produce `[sound]`: stereo at 48 kHz from the file's time 0, with silent gaps.

    When channels or sample rate change, ffmpeg restarts its filters, and the one that fills gaps would start
    from time 0 again. So the track is first made uniform and then decoded once more (ffmpeg's loopback decoder)
    for the filters that need the whole stream. `then` adds further filters.
    """
    uniform = f"{_channels(track, mix)},aresample={SAMPLE_RATE},aformat=sample_fmts=flt"
    whole = ",".join(
        filter(
            None,
            [f"aresample={SAMPLE_RATE}:async=1:min_hard_comp={MAX_DRIFT}:first_pts=0", _post_filter(track, mix), then],
        )
    )
    first = ["-map", f"0:{track.index}", "-af", uniform, "-c:a", "pcm_f32le", "-f", "null", "-"]
    return [*first, "-dec", "0:0", "-filter_complex", f"[dec:0]{whole}[sound]"]


def _channels(track: AudioTrack, mix: Mix) -> str:
    """Downmix to two channels; discrete channels use the mix, or pass through if it is empty."""
    if is_discrete(track):
        return mix.filter or "anull"
    return "aformat=channel_layouts=stereo" if track.has_layout else f"pan=stereo|c0=c0|c1=c{track.channels - 1}"


def _post_filter(track: AudioTrack, mix: Mix) -> str:
    return "" if is_discrete(track) else mix.filter


def measure_channels(source: Path, track: AudioTrack) -> np.ndarray | None:
    """Mean products of the channels, shape (windows, channels, channels), or None if nothing can be decoded.

    Full scale is 1.

    Raises:
        ProgramStopped: the decoder was stopped.
    """
    channels = track.channels if is_discrete(track) else 2
    arguments = ["-v", "error", "-protocol_whitelist", "file,pipe"]
    arguments += [word for name, value in PROBE_LIMITS.items() for word in (f"-{name}", value)]
    arguments += ["-i", f"file:{source}"]
    arguments += gapless_arguments(track, UNCHANGED, f"aresample={_ANALYSIS_RATE}")
    arguments += ["-map", "[sound]", "-f", "s16le", "pipe:1"]
    with reading(arguments, ffmpeg_exe()) as pipe:
        windows = list(_windows(pipe, channels))
    return np.concatenate(windows) if windows else None


def _windows(pipe: Pipe, channels: int) -> Iterator[np.ndarray]:
    length = _ANALYSIS_RATE // WINDOWS_PER_SECOND
    while data := pipe.read(2 * channels * _ANALYSIS_RATE * _BLOCK_SECONDS):
        samples = np.frombuffer(data, np.int16, len(data) // 2 // channels * channels).reshape(-1, channels)
        padded = np.zeros((-(-len(samples) // length) * length, channels), np.float32)
        padded[: len(samples)] = samples / np.float32(_FULL_SCALE)
        blocks = padded.reshape(-1, length, channels)
        yield np.einsum("wsc,wsd->wcd", blocks, blocks) / length
