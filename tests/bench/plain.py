"""The plain encode: the cost of encoding the same seconds without any analysis.

It is one pass of ffmpeg over the middle of the picture, scaled, with the clip's captions and loudnorm
and the same encoder settings. The camera is still.
"""

import resource
from pathlib import Path
from typing import Any

import ffmpeg

from tasks.core.output.render_plan import RenderOptions
from tasks.engines.captions import fonts
from tasks.engines.ffmpeg import run

TIMEOUT = 3600.0


def still_crop(source: tuple[int, int], clip: tuple[int, int]) -> tuple[int, int]:
    """Width and height of the largest crop with the clip's aspect ratio, in whole chroma samples."""
    scale = min(source[0] / clip[0], source[1] / clip[1])
    width, height = (min(2 * round(side * scale / 2), whole) for side, whole in zip(clip, source, strict=True))
    return width, height


def plain_encodes(video: Path, encodes: list[dict[str, Any]], options: RenderOptions, folder: Path) -> dict[str, float]:
    """CPU seconds of plain encodes of the encoded ranges, and the seconds of clip they made."""
    fonts.use_only_our_fonts()
    before = _children_cpu()
    for encode in encodes:
        for start, seconds in encode["ranges"]:
            run(_command(video, start, seconds, encode, options, folder / "plain.mp4"), TIMEOUT)
    return {"cpu": _children_cpu() - before, "seconds": sum(encode["seconds"] for encode in encodes)}


def _command(
    video: Path, start: float, seconds: float, encode: dict[str, Any], options: RenderOptions, out: Path
) -> Any:
    source = ffmpeg.input(f"file:{video}", ss=start, t=seconds)
    crop = still_crop(encode["source"], (options.width, options.height))
    picture = source.video.filter("crop", *crop).filter("scale", options.width, options.height).filter("setsar", 1)
    picture = picture.filter("ass", filename=encode["captions"], fontsdir=encode["fonts"])
    sound = source.audio.filter("loudnorm", I=-14, TP=-2, LRA=11)
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
