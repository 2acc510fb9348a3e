"""Settle the recogniser's words on the sound: which lie before a pause, which after it, and where each begins.

Whisper takes word times from its attention, which says nothing about silence: a pause is counted to the word before
it or after it. Here the words are laid over the sound once more, in their order and all at once, as a forced
alignment does: a word covers voiced sound, has about as many seconds as its letters need, and lies near Whisper's
times, the less so the longer those make it. Languages differ only in their pace, which is that of the window.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from tasks.core.speech.asr import SAMPLE_RATE, Samples
from tasks.core.transcript import Word

ATTENTION_LEAD = 0.05
"""Seconds by which Whisper's word times are early: on seven synthetic voices with known times, clean and in noise,
the median error of word starts was 0.05 to 0.06 (Whisper base). This and the numbers below were fitted to three of
the voices; the others had the same errors."""
FRAME = 0.02
"""Seconds of the grid on which words begin and end."""
LONGEST_WORD = 1.5
"""Most seconds of one word."""

_HOP, _REACH, _FFT = 160, 400, 512
"""Samples between two spectra, samples that each covers, and the length of its transform."""
_LOWEST, _HIGHEST, _BANDS, _VOICED_BANDS = 150.0, 5000.0, 20, 7
"""Frequencies in Hz, number of bands (equally wide to the ear), and those of them, from below, that hold the voice."""
_DEPTH, _VOICED_DEPTH = 35.0, 30.0
"""Decibels below the loud frames that still count: most breaths and noises are softer."""

_SOUND, _SOUND_SLOPE = 0.18, 0.12
_VOICED, _VOICED_SLOPE = 0.35, 0.2
"""Shares of the loudness range below which a frame begins to be quiet, and above which it begins to be voiced, and
the shares over which that grows to certainty."""
_CLEAR = 30.0
"""Decibels between soft and loud frames from which on both are told apart for sure: noise makes that less."""
_UNVOICED = 0.1
"""How much a frame that is neither counts as voiced: a word may begin with a hiss, but a breath is none."""

_FRAME_COST = 0.35
"""Cost of a quiet frame inside a word, and of a voiced frame outside of every word."""
_UNHEARD_COST = 4.0
"""Most that voiced sound between two words costs: the recogniser may have left words out."""
_START_COST, _END_COST, _NEAR, _FAR = 1.5, 0.6, 0.12, 0.72
"""Cost of `_NEAR` seconds between Whisper's start or end of a word and ours; beyond `_FAR` it does not grow."""
_USUAL_STRETCH, _STRETCH_DOUBT = 1.3, 6.0
"""How many times as long as its letters need Whisper's word may be; beyond that, its times count the less. A start
before Whisper's always counts in full: a pause makes its words begin early, never late."""
_LETTERS_COST, _OWN_COST, _SPREAD = 0.5, 0.3, 0.5
"""Cost of a length that differs, by `_SPREAD` of its logarithm, from that of the letters or of Whisper's word."""
_SECONDS_A_LETTER = (0.03, 0.11)
_EXTRA_LETTERS = 1.5
"""Bounds of the pace, and what each word takes beyond its letters."""
_LAG = 0.3
"""Whisper ends long words early and short ones late, by this share of their difference from the mean length."""

_Floats = NDArray[np.float64]


class _Evidence(NamedTuple):
    """Per frame, from 0 to 1: how surely it is voiced, and how surely it is quiet."""

    voiced: _Floats
    quiet: _Floats


class _Expected(NamedTuple):
    """Per word: Whisper's start and end, how far to trust them (0 to 1), its seconds by letters and by Whisper."""

    start: _Floats
    end: _Floats
    trust: _Floats
    by_letters: _Floats
    by_whisper: _Floats


def align_words(words: Sequence[Word], samples: Samples) -> list[Word]:
    """Whisper's words, whose times are seconds from the first of `samples`, with the times at which they are said."""
    late = [
        word.model_copy(update={"start": word.start + ATTENTION_LEAD, "end": word.end + ATTENTION_LEAD})
        for word in words
    ]
    evidence = _evidence(samples)
    if 0 < len(words) <= len(evidence.quiet):
        spans = _spans(evidence, _expected(late, evidence))
        late = [word.model_copy(update={"start": a, "end": b}) for word, (a, b) in zip(late, spans, strict=True)]
    return _in_order(late, len(samples) / SAMPLE_RATE)


def _evidence(samples: Samples) -> _Evidence:
    power = _band_power(samples)
    if not len(power):
        return _Evidence(np.empty(0), np.empty(0))
    levels = _smooth(10 * np.log10(power), 5)
    floor, ceiling = _range(levels, _DEPTH)
    weights = np.maximum(ceiling - floor - 8, 0.01)
    share = (np.clip((levels - floor) / np.maximum(ceiling - floor, 1e-3), 0, 1) * weights).sum(1) / weights.sum()
    sound = _frames((share + _loudness(power, _DEPTH)) / 2)
    voice = _frames(_loudness(power[:, :_VOICED_BANDS], _VOICED_DEPTH))
    quiet = np.clip((_SOUND - sound) / _SOUND_SLOPE, 0, 1)
    voiced = np.clip((voice - _VOICED) / _VOICED_SLOPE, _UNVOICED, 1) * (1 - quiet)
    clear = np.clip(np.diff(np.percentile(levels, (10, 95), axis=0), axis=0).mean() / _CLEAR, 0.2, 1)
    return _Evidence(clear * voiced, clear * quiet)


def _band_power(samples: Samples) -> _Floats:
    """Power in each band, shape (hundredths of seconds, `_BANDS`)."""
    padded = np.pad(samples, (_REACH // 2, _REACH))
    pieces = sliding_window_view(padded, _REACH)[::_HOP][: len(samples) // _HOP]
    power = np.square(np.abs(np.fft.rfft(pieces * np.hanning(_REACH).astype(np.float32), _FFT)), dtype=np.float64)
    pitch = np.linspace(math.log1p(_LOWEST / 700), math.log1p(_HIGHEST / 700), _BANDS + 1)
    edges = np.round(700 * np.expm1(pitch) / SAMPLE_RATE * _FFT).astype(np.intp)
    return np.add.reduceat(power[:, : edges[-1]], edges[:-1], axis=1) / np.diff(edges) + 1e-7


def _loudness(power: _Floats, depth: float) -> _Floats:
    """How loud each hundredth of a second is in these bands, from 0 to 1 over at most `depth` decibels."""
    levels = _smooth(10 * np.log10(power.mean(1, keepdims=True)), 3)
    floor, ceiling = _range(levels, depth)
    return np.clip((levels - floor) / np.maximum(ceiling - floor, 6), 0, 1)[:, 0]


def _range(levels: _Floats, depth: float) -> tuple[_Floats, _Floats]:
    low, high = np.percentile(levels, (10, 95), axis=0)
    return np.maximum(low, high - depth), high


def _smooth(levels: _Floats, width: int) -> _Floats:
    """Moving average of each column."""
    padded = np.pad(levels, ((width // 2, width // 2), (0, 0)), mode="edge")
    return sliding_window_view(padded, width, axis=0).mean(-1)


def _frames(hundredths: _Floats) -> _Floats:
    """Averages over `FRAME`."""
    width = round(FRAME * 100)
    return hundredths[: len(hundredths) // width * width].reshape(-1, width).mean(1)


def _expected(words: Sequence[Word], evidence: _Evidence) -> _Expected:
    start, end = np.array([word.start for word in words]), np.array([word.end for word in words])
    letters = np.array([_letters(word.word) for word in words]) + _EXTRA_LETTERS
    heard = np.concatenate(([0.0], np.cumsum(evidence.quiet < 1e-6) * FRAME))
    by_letters = letters * np.clip(heard[-1] / letters.sum(), *_SECONDS_A_LETTER)
    lag = _LAG * (by_letters - by_letters.mean())
    start[1:] += lag[:-1]
    end += lag
    first, last = (np.clip(np.round(edge / FRAME).astype(int), 0, len(heard) - 1) for edge in (start, end))
    stretch = np.maximum((end - start) / by_letters - _USUAL_STRETCH, 0)
    return _Expected(start, end, 1 / (1 + _STRETCH_DOUBT * stretch), by_letters, heard[last] - heard[first])


def _letters(word: str) -> int:
    return max(sum(map(str.isalnum, word)), 1)


def _spans(evidence: _Evidence, expected: _Expected) -> list[tuple[float, float]]:
    """Start and end of each word at the least cost of all words together (Viterbi's algorithm).

    Edge n lies n frames after the first sample. `cost[n]` is that of the words so far, if they and the silence after
    them end at edge n.
    """
    edges = np.arange(len(evidence.quiet) + 1)
    times: _Floats = edges * np.float64(FRAME)
    seconds = times[1 : round(LONGEST_WORD / FRAME) + 1]
    begins = edges[None, :] - edges[1 : len(seconds) + 1, None]
    silent, voiced = (_FRAME_COST * np.concatenate(([0.0], np.cumsum(one))) for one in evidence[::-1])
    inside = np.where(begins < 0, np.inf, silent - silent[begins])
    cost = np.minimum(voiced, _UNHEARD_COST)
    steps: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for start, end, trust, *usual in zip(*expected, strict=True):
        starting = cost + _START_COST * np.where(times < start, 1, trust) * _distance(times, start)
        whole = starting[begins] + inside + _length_cost(seconds, *usual)[:, None]
        length = whole.argmin(0)
        ending = whole[length, edges] + _END_COST * trust * _distance(times, end)
        last, cost = _then_silence(ending, voiced)
        steps.append((length + 1, last))
    return _traced_back(steps, len(edges) - 1)


def _traced_back(steps: Sequence[tuple[NDArray[np.intp], NDArray[np.intp]]], edge: int) -> list[tuple[float, float]]:
    """The words' times in seconds, from the chosen length of a word by its end, and its chosen end by a later edge."""
    spans: list[tuple[float, float]] = []
    for lengths, ends in reversed(steps):
        end = int(ends[edge])
        edge = end - int(lengths[end])
        spans.append((edge * FRAME, end * FRAME))
    return spans[::-1]


def _distance(times: _Floats, expected: float) -> _Floats:
    return np.minimum(np.abs(times - expected), _FAR) / _NEAR


def _length_cost(seconds: _Floats, by_letters: float, by_whisper: float) -> _Floats:
    cost = _LETTERS_COST * np.square(np.log(seconds / by_letters) / _SPREAD) / 2
    if by_whisper > 0.05:
        cost += _OWN_COST * np.minimum(np.square(np.log(seconds / by_whisper) / _SPREAD) / 2, 3)
    return cost


def _then_silence(ending: _Floats, voiced: _Floats) -> tuple[NDArray[np.intp], _Floats]:
    """For each edge, where the last word before it ends at the least cost, and that cost with the sound in between."""
    near = ending - voiced
    at_near, at_any = _least_so_far(near), _least_so_far(ending)
    near_cost, any_cost = near[at_near] + voiced, ending[at_any] + _UNHEARD_COST
    return np.where(near_cost <= any_cost, at_near, at_any), np.minimum(near_cost, any_cost)


def _least_so_far(costs: _Floats) -> NDArray[np.intp]:
    """For each place, that of the least cost up to it."""
    least = np.minimum.accumulate(costs)
    return np.maximum.accumulate(np.where(costs <= least, np.arange(len(costs)), 0))


def _in_order(words: Sequence[Word], limit: float) -> list[Word]:
    """The words with monotonic times: each ends by the start of the next, and the last by `limit`."""
    settled: list[Word] = []
    ceiling = limit
    for word in reversed(words):
        start = min(max(word.start, 0.0), ceiling)
        settled.append(
            word.model_copy(update={"start": round(start, 3), "end": round(min(max(word.end, start), ceiling), 3)})
        )
        ceiling = start
    return settled[::-1]
