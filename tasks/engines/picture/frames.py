"""Reads a video's frames from a given time, as a viewer sees them, scaled down."""

import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from infra.untrusted_text import one_line
from tasks.core.errors import UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.core.picture.colour import colours
from tasks.core.picture.field_order import FieldCounts, Scan
from tasks.engines.ffmpeg import reading
from tasks.engines.picture.filters import Filters, deinterlacing, filter_chain, preparation, to_bt709

WHOLE = Scan()
Planes = np.ndarray
"""One yuv420p frame as uint8, shape (height * 3 // 2, width): the first `height` rows are the luma plane."""


def frame_rate(fps: float) -> Fraction:
    """The rate as a fraction that ffmpeg represents exactly: 29.97 is 30000/1001."""
    return Fraction(fps).limit_denominator(1001)


def small_size(info: MediaInfo, longer: int) -> tuple[int, int]:
    """Width and height, both even, that keep the aspect ratio with about `longer` pixels on the longer side."""
    factor = min(1.0, longer / max(info.width, info.height))
    width, height = (max(16, 2 * round(side * factor / 2)) for side in (info.width, info.height))
    return width, height


def seek_options(start: float) -> dict[str, Any]:
    """Input options, by ffmpeg-python's names, to read from the frame on screen at `start` (seconds).

    An accurate seek would begin with the first frame after `start`, which may be seconds later.
    A change of picture size does not restart the filters; `display_filters` handles it.
    """
    return {"ss": f"{start:.6f}", "noaccurate_seek": None, "reinit_filter": 0}


def display_filters(info: MediaInfo, rate: Fraction, scan: Scan = WHOLE) -> Filters:
    """Filters that turn decoded frames into what a viewer sees at `rate`, starting at the seek time.

    The frames are deinterlaced according to `scan`, opaque, and have square pixels and the size in `info`. A frame
    of another size, as in a broadcast that switches between SD and HD, is scaled to fit. A frame is held until the
    next one, and the last one forever, so the reader must limit the length.
    """
    width, height = info.width, info.height
    coded = (
        (width, height / info.sample_aspect_ratio)
        if info.rotation in (90, 270)
        else (width / info.sample_aspect_ratio, height)
    )
    usual = f"lt(abs(iw-{coded[0]:.2f})+abs(ih-{coded[1]:.2f}),1.5)"
    scale = {
        "w": f"if({usual},{width},min({width},{height}*iw/ih))",
        "h": f"if({usual},{height},min({height},{width}*ih/iw))",
        "eval": "frame",
        "interl": -1,
    }
    middle = {"w": width, "h": height, "x": "(ow-iw)/2", "y": "(oh-ih)/2", "eval": "frame"}
    hold = {"stop": -1, "stop_mode": "clone"}
    return [
        *preparation(info),
        ("scale", scale),
        ("pad", middle),
        ("setsar", {"sar": 1}),
        *deinterlacing(scan, info, float(rate)),  # supports only one frame size
        ("tpad", hold),
        ("fps", {"fps": f"{rate.numerator}/{rate.denominator}", "start_time": 0}),
    ]


def small_frames(
    video: Path,
    info: MediaInfo,
    span: tuple[float, float],
    *,
    fps: float,
    size: tuple[int, int],
    ffmpeg: str,
    fields: Callable[[FieldCounts | None], object] | None = None,
) -> Iterator[Planes]:
    """Yield the frames of `span` (start and end, seconds of the source) at `fps`, scaled to `size`.

    Frame n is the one on screen n / fps after the start, as in an encode of the same range. After the end of
    the video, the last frame repeats. The decoder conceals damaged frames.

    Raises:
        UnreadableMedia: no frame can be decoded.
        ProgramStopped: the decoder was killed, or is stuck.
    """
    (start, end), (width, height) = span, size
    rate = frame_rate(fps)
    chain = filter_chain([*([("idet", {})] if fields else []), *display_filters(info, rate), *_shrunk(size, info)])
    seek = [word for name, value in seek_options(start).items() for word in (f"-{name}", value) if word is not None]
    arguments = ["-v", "info" if fields else "error", "-threads", "2", "-skip_loop_filter", "all", *map(str, seek)]
    arguments += ["-i", f"file:{video}", "-map", "0:V:0", "-vf", chain]
    arguments += ["-frames:v", str(max(1, round((end - start) * rate))), "-f", "rawvideo", "pipe:1"]
    rows = height * 3 // 2
    count = 0
    with reading(arguments, ffmpeg) as pipe:
        while len(planes := pipe.read(width * rows)) == width * rows:
            count += 1
            yield np.frombuffer(planes, np.uint8).reshape(rows, width)
    if not count:
        reason = one_line(pipe.log_tail.rpartition("\n")[2], 300) or "no frame arrived"
        raise UnreadableMedia(f"No picture could be decoded from {start:.1f} to {end:.1f} s: {reason}")
    if fields:
        fields(_field_counts(pipe.log_tail))


def _shrunk(size: tuple[int, int], info: MediaInfo) -> Filters:
    if not colours(info).is_close_to_bt709:
        return to_bt709(info, *size, flags="fast_bilinear")
    return [("scale", {"w": size[0], "h": size[1], "flags": "fast_bilinear"}), ("format", {"pix_fmts": "yuv420p"})]


def _field_counts(log: str) -> FieldCounts | None:
    """idet's final counts. ffmpeg may print some while trying out the chain; only the last cover the range."""
    repeated = re.findall(r"Repeated Fields: Neither: *(\d+) Top: *(\d+) Bottom: *(\d+)", log)
    order = re.findall(r"Multi frame detection: TFF: *(\d+) BFF: *(\d+) Progressive: *(\d+)", log)
    if not (repeated and order):
        return None
    once, *twice = map(int, repeated[-1])
    top, bottom, progressive = map(int, order[-1])
    return FieldCounts(
        top_first=top, bottom_first=bottom, progressive=progressive, frames=once + sum(twice), repeated=min(twice)
    )
