"""Decodes the audio of a media file with ffmpeg, as blocks of 16 kHz mono samples."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.error import FFmpegError

from infra.untrusted_text import one_line
from tasks.core.errors import NoAudio, UnreadableMedia
from tasks.core.speech.asr import SAMPLE_RATE, Samples, quietest_time
from tasks.engines.ffmpeg import Pipe, reading

_log = logging.getLogger(__name__)

_MONO = ["-map", "0:a:0", "-af", "aresample=16000:async=1:first_pts=0", "-ac", "1", "-f", "s16le", "pipe:1"]


class Block(NamedTuple):
    """Samples from `start`, in seconds from the start of the file."""

    start: float
    samples: Samples

    @property
    def duration(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def duration(media: Path) -> float:
    """Length in seconds according to the container or its first audio stream; 0 if neither states it.

    Raises:
        UnreadableMedia: no decoder reads the file.
        NoAudio: the file has no sound.
    """
    try:
        with av.open(str(media), metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise NoAudio("The file has no audio track.")
            stream = container.streams.audio[0]
            if container.duration:
                return container.duration / av.time_base
            return float((stream.duration or 0) * (stream.time_base or 0))
    except (FFmpegError, ValueError) as error:
        raise UnreadableMedia(f"The sound of {media.name} cannot be read.") from error


def blocks(
    media: Path,
    ffmpeg: str,
    seconds: float = 600.0,
    slack: float = 60.0,
    warn: Callable[[str], object] = _log.warning,
) -> Iterator[Block]:
    """Decode the first audio stream in blocks of up to `seconds`, each cut at the quietest point of its last `slack`.

    Time 0 is the start of the file: a late start and gaps become silence. Memory use does not grow with the
    file. If the decoder fails before the end, `warn` is called with a message that names the time reached.

    Raises:
        NoAudio: nothing was decoded.
        UnreadableMedia: the decoder failed before the first sample.
        ProgramStopped: the decoder was killed or hung, and the end is missing; a retry may succeed.
    """
    arguments = ["-v", "error", "-protocol_whitelist", "file,pipe", "-i", f"file:{media}", *_MONO]
    reached = 0.0
    with reading(arguments, ffmpeg) as pipe:
        for block in _cut(pipe, seconds, slack):
            reached = block.start + block.duration
            yield block
    if pipe.status and not reached:
        raise UnreadableMedia(f"The sound of {media.name} cannot be decoded.")
    if not reached:
        raise NoAudio("The audio track is empty.")
    if pipe.status:
        warn(f"the sound could not be decoded after {reached:.0f} s: {one_line(pipe.log_tail[-300:], 300)}")


def excerpt(media: Path, ffmpeg: str, start: float, seconds: float) -> Block:
    """Some seconds of the first audio stream, fewer at the end of the file; silence where it has no sound.

    Raises:
        UnreadableMedia: the decoder failed.
        ProgramStopped: the decoder was killed or hung; a retry may succeed.
    """
    arguments = ["-v", "error", "-protocol_whitelist", "file,pipe", "-ss", f"{start:.3f}", "-i", f"file:{media}"]
    arguments += ["-t", f"{seconds:.3f}", *_MONO]
    with reading(arguments, ffmpeg) as pipe:
        samples = _floats(pipe.read(2 * round(seconds * SAMPLE_RATE)))
    if pipe.status:
        raise UnreadableMedia(f"The sound of {media.name} cannot be decoded at {start:.0f} s.")
    return Block(start, samples)


def _cut(pipe: Pipe, seconds: float, slack: float) -> Iterator[Block]:
    start, rest = 0, np.empty(0, np.float32)
    limit = round(seconds * SAMPLE_RATE)
    while True:
        samples = np.concatenate((rest, _floats(pipe.read(2 * (limit - len(rest))))))
        at_end = len(samples) < limit
        cut = len(samples) if at_end else round(quietest_time(samples, seconds - slack) * SAMPLE_RATE)
        if cut:
            yield Block(start / SAMPLE_RATE, samples[:cut])
        if at_end:
            return
        start, rest = start + cut, samples[cut:].copy()


def _floats(raw: bytearray) -> Samples:
    return np.frombuffer(raw, np.int16, count=len(raw) // 2).astype(np.float32) / np.float32(32768)
