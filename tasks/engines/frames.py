"""The picture of a range of a video, small, one frame after the other: ffmpeg into a pipe."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from tasks.core.errors import UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.core.source_meta import text
from tasks.engines.ffmpeg import reading

Planes = np.ndarray
"""One yuv420p frame as uint8 of shape (height * 3 // 2, width): the luma plane is its first `height` rows."""


def frame_rate(fps: float) -> Fraction:
    """The rate as a fraction that ffmpeg keeps exactly: 29.97 is 30000/1001."""
    return Fraction(fps).limit_denominator(1001)


def small_size(info: MediaInfo, longer: int) -> tuple[int, int]:
    """Width and height, both even, that keep the aspect with about `longer` pixels on the longer side."""
    factor = min(1.0, longer / max(info.width, info.height))
    width, height = (max(16, 2 * round(side * factor / 2)) for side in (info.width, info.height))
    return width, height


def small_frames(
    video: Path, start: float, end: float, *, fps: float, size: tuple[int, int], ffmpeg: str
) -> Iterator[Planes]:
    """Yield the frames of `start` to `end` (seconds of the source) at `fps`, scaled to `size`.

    Frame n shows the source at `start + n / fps`, as it does for any ffmpeg run with the same `-ss`,
    `-t` and `fps` filter. A range that runs past the end of the picture yields fewer frames; damaged
    frames are concealed by the decoder.

    Raises:
        UnreadableMedia: nothing at all is decoded.
        ProgramStopped: the decoder was killed, or is stuck.
    """
    width, height = size
    rate = frame_rate(fps)
    chain = f"fps=fps={rate}:start_time=0,scale={width}:{height}:flags=fast_bilinear,format=yuv420p"
    arguments = ["-v", "error", "-threads", "2", "-skip_loop_filter", "all"]
    arguments += ["-ss", f"{start:.6f}", "-t", f"{end - start:.6f}", "-i", f"file:{video}", "-map", "0:V:0"]
    arguments += ["-vf", chain, "-frames:v", str(max(1, round((end - start) * rate))), "-f", "rawvideo", "pipe:1"]
    rows = height * 3 // 2
    count = 0
    with reading(arguments, ffmpeg) as pipe:
        while len(planes := pipe.read(width * rows)) == width * rows:
            count += 1
            yield np.frombuffer(planes, np.uint8).reshape(rows, width)
    if not count:
        said = text(pipe.said.rpartition("\n")[2], 300) or "no frame came"
        raise UnreadableMedia(f"No picture could be decoded from {start:.1f} to {end:.1f} s: {said}")
