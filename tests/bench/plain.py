"""The plain encode: the cost of encoding the same seconds without any analysis.

It is the cheapest command found that gives a viewer the same picture and sound: one pass of ffmpeg over the middle of
the picture, scaled once, with the clip's captions, its gain, a limiter and the same encoder settings. The camera is
still. Of 11.7 CPU seconds for 10 s of clip, a gain and a limiter instead of loudnorm save 0.7; a faster scaler saves
nothing but sharpness, fewer threads nothing but memory, and no captions 0.1. As many encodes run at once as in RENDER.
"""

import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ffmpeg

from tasks.core.output.render_plan import RenderOptions
from tasks.engines.captions import fonts
from tasks.engines.ffmpeg import run
from tasks.stages.render import parallel_clips

TIMEOUT = 3600.0
PEAK = 10 ** (-2 / 20)
"""-2 dBFS."""


def still_crop(source: tuple[int, int], clip: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the largest crop with the clip's aspect ratio, in whole chroma samples."""
    scale = min(source[0] / clip[0], source[1] / clip[1])
    width, height = (min(2 * round(side * scale / 2), whole) for side, whole in zip(clip, source, strict=True))
    return width, height


def plain_encodes(video: Path, encodes: list[dict[str, Any]], options: RenderOptions, folder: Path) -> dict[str, float]:
    """CPU seconds and wall time of plain encodes of the encoded ranges, and the seconds of clip they made."""
    fonts.use_only_our_fonts()
    ranges = [(start, seconds, encode) for encode in encodes for start, seconds in encode["ranges"]]
    commands = [
        _command(video, start, seconds, encode, options, folder / f"plain-{number}.mp4")
        for number, (start, seconds, encode) in enumerate(ranges)
    ]
    before, began = _children_cpu(), time.monotonic()
    with ThreadPoolExecutor(parallel_clips(options, len(encodes))) as pool:
        for _ in pool.map(lambda command: run(command, TIMEOUT), commands):
            pass
    return {
        "cpu": _children_cpu() - before,
        "wall": time.monotonic() - began,
        "seconds": sum(encode["seconds"] for encode in encodes),
    }


def _command(
    video: Path, start: float, seconds: float, encode: dict[str, Any], options: RenderOptions, out: Path
) -> Any:
    source = ffmpeg.input(f"file:{video}", ss=start, t=seconds)
    crop = still_crop(encode["source"], (options.width, options.height))
    picture = source.video.filter("crop", *crop).filter("scale", options.width, options.height).filter("setsar", 1)
    picture = picture.filter("ass", filename=encode["captions"], fontsdir=encode["fonts"])
    sound = source.audio.filter("volume", f"{encode['gain']}dB").filter("alimiter", limit=PEAK, level=0, latency=1)
    return ffmpeg.output(
        picture,
        sound,
        str(out),
        **{"c:v": "libx264", "preset": options.preset, "crf": options.crf, "pix_fmt": "yuv420p", "r": encode["rate"]},
        **{"c:a": "aac", "b:a": "160k", "ar": 48000, "movflags": "+faststart"},
    )


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
