"""Finds out which speakers talk when in a recording."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks.core.speakers import clusters
from tasks.core.speakers.windows import FRAMES, FRAMES_PER_SECOND, SECONDS, Activity, Classes, Voice, activity, voices
from tasks.core.speech.asr import SAMPLE_RATE, Samples
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.speakers.segmentation import Segmentation
from tasks.engines.speakers.voice_print import VoicePrint
from tasks.engines.speech import pcm
from tasks.engines.weights import SpeakerWeights

SAMPLED_EVERY, HEARD_EVERY = 30.0, 5.0
"""Seconds from one window to the next: first to see whether there is more than one voice, then to hear all."""
SAMPLE_SHARE = 0.2
"""Part of the progress that is the first hearing's."""
FEWEST_SAMPLES = 20
"""Windows in which more than one voice is looked for first, or all of a short recording."""
LEAST_SECONDS, MOST_SECONDS = 0.5, 3.0
"""Seconds of a voice that make its print."""
_AT_ONCE = 16

Progress = Callable[[float, float], None]
"""Called with the seconds that have been heard, and those of the recording."""


class _Heard(NamedTuple):
    """A window's start in seconds, its activity, and the print of each voice in it."""

    start: float
    speaking: Activity
    voices: list[Voice]
    prints: list[NDArray[np.float32]]


def find_speakers(audio: Path, weights: SpeakerWeights, threads: int, progress: Progress) -> Activity | None:
    """How probable it is that each speaker talks, shape (frames, speakers); None if there is only one.

    A part of the recording is heard first. If that has one voice, the rest is taken to have no other.

    Raises:
        UnreadableMedia: the sound cannot be decoded, or the weights cannot be read.
        NetworkError: a network could not be run.
        ProgramStopped: the decoder was killed or hung; a retry may succeed.
    """
    ears = _Ears(weights, threads)
    total = pcm.duration(audio)
    every = float(np.clip(total / FEWEST_SAMPLES, HEARD_EVERY, SAMPLED_EVERY))
    sample = list(ears.listen(audio, every, lambda seconds: progress(SAMPLE_SHARE * seconds, total)))
    if _speakers(sample).max(initial=0) == 0:
        return None
    rest = 1 - SAMPLE_SHARE
    heard = list(ears.listen(audio, HEARD_EVERY, lambda at: progress(SAMPLE_SHARE * total + rest * at, total)))
    speakers = _speakers(heard)
    return _joined(heard, speakers) if speakers.max(initial=0) else None


class _Ears:
    """Both networks."""

    def __init__(self, weights: SpeakerWeights, threads: int) -> None:
        self._segmentation = Segmentation(weights.segmentation, threads)
        self._print = VoicePrint(weights.voice_print, threads)

    def listen(self, audio: Path, every: float, tell: Callable[[float], None]) -> Iterator[_Heard]:
        """Hear a window of SECONDS `every` so many seconds."""
        for block in pcm.blocks(audio, ffmpeg_exe()):
            starts = np.arange(0.0, min(max(block.duration - SECONDS, 0.0) + every, block.duration), every)
            for first in range(0, len(starts), _AT_ONCE):
                some = starts[first : first + _AT_ONCE]
                windows = np.stack([_window(block.samples, start) for start in some])
                yield from self._windows(block.start + some, windows)
                tell(block.start + float(some[-1]))

    def _windows(self, starts: NDArray[np.float64], windows: Samples) -> Iterator[_Heard]:
        classes: Classes = self._segmentation(windows)
        speaking = activity(classes)
        found = voices(classes, LEAST_SECONDS)
        prints = self._print([_alone(windows[voice.window], voice) for voice in found])
        for number, start in enumerate(starts):
            here = [place for place, voice in enumerate(found) if voice.window == number]
            yield _Heard(float(start), speaking[number], [found[n] for n in here], [prints[n] for n in here])


def _window(samples: Samples, start: float) -> Samples:
    """SECONDS of sound; silence after its end."""
    begin, length = round(start * SAMPLE_RATE), round(SECONDS * SAMPLE_RATE)
    some = samples[begin : begin + length]
    return np.pad(some, (0, length - len(some)))


def _alone(window: Samples, voice: Voice) -> Samples:
    """The samples of the frames in which a voice speaks alone, at most MOST_SECONDS."""
    size = SECONDS * SAMPLE_RATE / FRAMES
    sound = np.concatenate([window[round(frame * size) : round((frame + 1) * size)] for frame in voice.alone])
    return sound[: round(MOST_SECONDS * SAMPLE_RATE)]


def _speakers(heard: list[_Heard]) -> NDArray[np.int64]:
    """The speaker of each voice of all windows, from 0."""
    prints = [one for window in heard for one in window.prints]
    seconds = np.array([voice.seconds for window in heard for voice in window.voices])
    return clusters.speakers(np.array(prints), seconds) if prints else np.empty(0, np.int64)


def _joined(heard: list[_Heard], speakers: NDArray[np.int64]) -> Activity:
    """The mean activity of each speaker over the windows that show a frame."""
    frames = max(round(window.start * FRAMES_PER_SECOND) for window in heard) + FRAMES
    total, count = np.zeros((frames, int(speakers.max()) + 1), np.float32), np.zeros((frames, 1), np.float32)
    rest = iter(speakers)
    for window in heard:
        begin = round(window.start * FRAMES_PER_SECOND)
        count[begin : begin + FRAMES] += 1
        for voice in window.voices:
            total[begin : begin + FRAMES, next(rest)] += window.speaking[:, voice.number]
    total /= np.maximum(count, 1)
    return np.minimum(total, 1)
