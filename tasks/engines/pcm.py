"""Sound of a media file as 16 kHz mono blocks, decoded by ffmpeg as it is read."""

import logging
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, cast

import av
import numpy as np
from av.error import FFmpegError

from tasks.core.asr import SAMPLE_RATE, Samples, quietest
from tasks.core.errors import NoAudio, UnreadableMedia

_log = logging.getLogger(__name__)


class Block(NamedTuple):
    """Samples from `start`, in seconds from the start of the file."""

    start: float
    samples: Samples

    @property
    def duration(self) -> float:
        return len(self.samples) / SAMPLE_RATE


def duration(media: Path) -> float:
    """Length in seconds as the container or its first audio stream claims; 0 where neither does.

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


def blocks(media: Path, ffmpeg: str, seconds: float = 600.0, slack: float = 60.0) -> Iterator[Block]:
    """Decode the first audio stream in blocks of at most `seconds`, cut at the quietest point.

    Time 0 is the file's own: a late start and gaps are filled with silence. The cut lies in the
    last `slack` seconds of a block. Memory does not grow with the file.

    Raises:
        NoAudio: nothing was decoded.
        UnreadableMedia: the decoder failed before the first sample.
    """
    command = [ffmpeg, "-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i", f"file:{media}"]
    command += ["-map", "0:a:0", "-af", "aresample=16000:async=1:first_pts=0", "-ac", "1", "-f", "s16le", "pipe:1"]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, bufsize=0)
        try:
            heard_any = False
            for block in _cut(cast("IO[bytes]", process.stdout), seconds, slack):
                heard_any = True
                yield block
            if process.wait() or not heard_any:
                errors.seek(0)
                _report(media, process.returncode, errors.read(2000).decode(errors="replace"), heard_any)
        finally:
            process.kill()
            process.wait()
            cast("IO[bytes]", process.stdout).close()


def _report(media: Path, returncode: int, said: str, heard_any: bool) -> None:
    if heard_any:
        _log.warning("The decoder stopped early on %s (%d): %s", media.name, returncode, said.strip())
    elif returncode:
        raise UnreadableMedia(f"The sound of {media.name} cannot be decoded.")
    else:
        raise NoAudio("The audio track is empty.")


def _cut(pipe: IO[bytes], seconds: float, slack: float) -> Iterator[Block]:
    start, rest = 0, np.empty(0, np.float32)
    limit = round(seconds * SAMPLE_RATE)
    while True:
        fresh = _read(pipe, 2 * (limit - len(rest)))
        samples = np.concatenate((rest, np.frombuffer(fresh, np.int16) / np.float32(32768)), dtype=np.float32)
        at_end = len(samples) < limit
        cut = len(samples) if at_end else round(quietest(samples, seconds - slack) * SAMPLE_RATE)
        if cut:
            yield Block(start / SAMPLE_RATE, samples[:cut])
        if at_end:
            return
        start, rest = start + cut, samples[cut:].copy()


def _read(pipe: IO[bytes], size: int) -> bytes:
    """Exactly `size` bytes, fewer only at the end, and then an even number."""
    parts: list[bytes] = []
    while size > 0 and (part := pipe.read(min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    whole = b"".join(parts)
    return whole[: len(whole) // 2 * 2]
