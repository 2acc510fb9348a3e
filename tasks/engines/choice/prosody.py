"""Loudness, pitch and noise of a talk over time, measured in one pass through ffmpeg."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infra.untrusted_text import one_line
from tasks.core.choice.delivery import Delivery
from tasks.engines.ffmpeg import reading

RATE = 16_000
LOUDNESS_HZ = 50
PITCH_HZ = 10
BLOCK_SECONDS = 20
"""Seconds in memory at a time: 0.6 MB of samples, 10 MB of spectra."""
PITCH_WINDOW = 1024
"""Samples (64 ms): four periods of the lowest voice."""
LOWEST_PITCH, HIGHEST_PITCH = 65.0, 400.0
VOICED = 0.45
"""Normalised autocorrelation above which a sound has a pitch."""
NEAR_BEST, CLIMB = 0.9, 12
"""The period is the first lag whose correlation reaches this share of the best; its peak is within `CLIMB` samples."""
NOISE_BAND = slice(64, 768)
"""Bins 500 to 6000 Hz of a spectrum of twice `PITCH_WINDOW` samples."""
AUDIBLE = 1e-6
"""Mean square (-60 dBFS) below which a sound has neither pitch nor noise."""


class AudioUnreadable(RuntimeError):
    """ffmpeg could not decode the audio."""


def measure_delivery(audio: Path, ffmpeg: Path | str) -> Delivery:
    """Loudness, pitch and noise of an audio or video file; index 0 is the start of the container.

    Memory use stays at some tens of MB, whatever the length.

    Raises:
        AudioUnreadable: with ffmpeg's last message.
        ProgramStopped: the decoder was killed or hung.
    """
    blocks = [_analyse(block) for block in _blocks(audio, ffmpeg)]
    loudness, pitch, noise = (
        np.concatenate([block[i] for block in blocks]) if blocks else np.zeros(0, np.float32) for i in range(3)
    )
    return Delivery(loudness=loudness, pitch=pitch, noise=noise, loudness_hz=LOUDNESS_HZ, pitch_hz=PITCH_HZ)


def _blocks(audio: Path, ffmpeg: Path | str) -> Iterator[NDArray[np.float32]]:
    arguments = ["-v", "error", "-threads", "1", "-protocol_whitelist", "file,pipe", "-i", f"file:{audio}"]
    arguments += ["-map", "0:a:0", "-ac", "1", "-af", f"aresample={RATE}:async=1:first_pts=0", "-f", "s16le", "pipe:1"]
    with reading(arguments, str(ffmpeg)) as pipe:
        while raw := pipe.read(BLOCK_SECONDS * RATE * 2):
            yield np.frombuffer(raw[: len(raw) // 2 * 2], np.int16).astype(np.float32) / 32768.0
    if pipe.status:
        raise AudioUnreadable(f"{audio.name} cannot be decoded: {one_line(pipe.log_tail[-300:], 300)}")


def _analyse(samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    frames = _framed(samples, RATE // LOUDNESS_HZ)
    loudness = 10 * np.log10(np.mean(frames**2, axis=1) + 1e-10)
    spectra, energy = _power(_framed(samples, RATE // PITCH_HZ)[:, :PITCH_WINDOW])
    return loudness.astype(np.float32), _pitch(spectra, energy), _flatness(spectra, energy)


def _framed(samples: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    count = -(-len(samples) // size)
    padded = np.zeros(count * size, np.float32)
    padded[: len(samples)] = samples
    return padded.reshape(count, size)


def _power(frames: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Power spectra (frames, PITCH_WINDOW + 1) of zero-padded, windowed frames, and their energy."""
    window = np.hanning(PITCH_WINDOW).astype(np.float32)
    waves = np.fft.rfft(frames * window, 2 * PITCH_WINDOW, axis=1)
    return (waves.real**2 + waves.imag**2).astype(np.float32), np.mean(frames**2, axis=1)


def _pitch(spectra: NDArray[np.float32], energy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pitch in Hz by autocorrelation (the inverse transform of the power spectrum), NaN without a pitch."""
    correlation = np.fft.irfft(spectra, axis=1)[:, : PITCH_WINDOW // 2]
    window = np.hanning(PITCH_WINDOW)
    bias = np.correlate(window, window, "full")[PITCH_WINDOW - 1 :][: PITCH_WINDOW // 2]
    normal = correlation / np.maximum(correlation[:, :1], 1e-12) / (bias / bias[0])
    low, high = int(RATE / HIGHEST_PITCH), int(RATE / LOWEST_PITCH)
    searched = normal[:, low:high]
    first = np.argmax(searched >= NEAR_BEST * searched.max(axis=1, keepdims=True), axis=1)
    near = np.minimum(first[:, None] + np.arange(CLIMB), searched.shape[1] - 1)
    lag = low + first + np.argmax(np.take_along_axis(searched, near, axis=1), axis=1)
    clear = normal[np.arange(len(lag)), np.minimum(lag, high - 1)] > VOICED
    return np.where(clear & (energy > AUDIBLE), RATE / lag, np.nan).astype(np.float32)


def _flatness(spectra: NDArray[np.float32], energy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Geometric over arithmetic mean of the power in the band: 0 for a tone, about 0.56 for white noise."""
    band = spectra[:, NOISE_BAND] + 1e-10
    flatness = np.exp(np.mean(np.log(band), axis=1)) / np.mean(band, axis=1)
    return np.where(energy > AUDIBLE, flatness, 0.0).astype(np.float32)
