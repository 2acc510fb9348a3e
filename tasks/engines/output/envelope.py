"""Measures a file's sound level per hundredth of a second, by its own timestamps and without our filters."""

from itertools import takewhile
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from tasks.core.errors import UnreadableMedia
from tasks.core.output.source_match import BINS_PER_SECOND, SoundLevels
from tasks.engines.decoding import audio_frames

PREROLL = 0.3
"""Seconds decoded before a span: in most codecs, the first frame after a seek is incomplete."""


def sound_levels(path: Path, spans: list[tuple[float, float]], stream: int | None = None) -> SoundLevels:
    """The sound levels of (start, seconds) spans, concatenated; silence where the file has no sound.

    Time 0 is the start of the file, as in ffmpeg. `stream` is the stream index of the sound, or None for
    the first audio stream.

    Raises:
        UnreadableMedia: no decoder reads the file, or it has no such stream.
    """
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            audio = next(s for s in container.streams.audio if stream in (None, s.index))
            parts = [_span(container, audio, *span) for span in spans]
    except (FFmpegError, ValueError, StopIteration) as error:
        raise UnreadableMedia(f"The sound of {path.name} cannot be read ({type(error).__name__}).") from error
    channels, mono = (np.concatenate([part[i] for part in parts]) for i in range(2))
    return SoundLevels.of(channels, mono)


def _span(
    container: InputContainer, stream: AudioStream, start: float, seconds: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean square of all channels and of their average, per hundredth of a second of the span."""
    bins = round(seconds * BINS_PER_SECOND)
    sums, counts = np.zeros((2, bins)), np.zeros(bins)
    frames = audio_frames(container, stream, max(0.0, start - PREROLL))
    for begins, frame in takewhile(lambda found: found[0] < start + seconds, frames):
        samples = _samples(frame)
        place = ((begins - start + np.arange(samples.shape[1]) / frame.sample_rate) * BINS_PER_SECOND).astype(int)
        first, last = np.searchsorted(place, [0, bins])
        if first < last:
            place, inside = place[first:last], samples[:, first:last]
            sums[0] += np.bincount(place, np.mean(inside**2, axis=0), bins)
            sums[1] += np.bincount(place, np.mean(inside, axis=0) ** 2, bins)
            counts += np.bincount(place, minlength=bins)
    return sums[0] / np.maximum(counts, 1), sums[1] / np.maximum(counts, 1)


def _samples(frame: AudioFrame) -> np.ndarray:
    """Samples as float32 between -1 and 1, (channels, n)."""
    raw = frame.to_ndarray()
    values = (raw if frame.format.is_planar else raw.reshape(-1, frame.layout.nb_channels).T).astype(np.float32)
    if raw.dtype == np.uint8:
        return (values - 128) / 128
    return values / np.float32(2 ** (8 * raw.dtype.itemsize - 1)) if raw.dtype.kind == "i" else values
