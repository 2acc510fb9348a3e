"""The spectrum of a voice as Kaldi computes it (`compute-fbank-feats`), which the voice print was trained on."""

import numpy as np
from numpy.typing import NDArray

from tasks.core.speech.asr import SAMPLE_RATE, Samples

BANDS = 80
FRAME, STEP = 400, 160
"""Samples: 25 and 10 ms."""
_SIZE = 512
_LOWEST_HERTZ = 20.0
_EMPHASIS = 0.97
_WINDOW = np.hanning(FRAME) ** 0.85


def spectrum(sound: Samples) -> NDArray[np.float32]:
    """The logarithm of the energy in each mel band, shape (steps, BANDS)."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::STEP].astype(np.float64)
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    power = np.abs(np.fft.rfft((frames - _EMPHASIS * before) * _WINDOW, _SIZE)) ** 2
    return np.log(np.maximum(power @ _BANDS, np.finfo(np.float32).eps)).astype(np.float32)


def _mel(hertz: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(1127 * np.log1p(hertz / 700), np.float64)


def _triangles() -> NDArray[np.float64]:
    """Weight of each frequency in each band, shape (frequencies, BANDS)."""
    lowest, highest = _mel(np.array([_LOWEST_HERTZ, SAMPLE_RATE / 2]))
    edges = np.asarray(np.linspace(lowest, highest, BANDS + 2), np.float64)
    at = _mel(np.linspace(0, SAMPLE_RATE / 2, _SIZE // 2 + 1, dtype=np.float64))[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rising, falling), 0)


_BANDS = _triangles()
