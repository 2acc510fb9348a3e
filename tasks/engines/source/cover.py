"""Gives a source that has only sound a still picture: the cover in its file, or else a backdrop with its title."""

import hashlib
import logging
import tempfile
from pathlib import Path

import av
import cv2
import ffmpeg as ffmpeg_python
import numpy as np
from av.stream import Disposition

from infra.untrusted_text import one_line
from tasks.core.captions.backdrop import backdrop
from tasks.core.errors import UnreadableMedia
from tasks.engines import ffmpeg
from tasks.engines.captions import fonts
from tasks.engines.probe import probe
from tasks.engines.source.demux import TIMEOUT_SECONDS, input_arguments

_log = logging.getLogger(__name__)

SIDE = 1080
"""Most pixels of a cover's longer side, and both sides of a backdrop."""
MAX_PIXELS = 50_000_000
"""A cover with more is not decoded."""
LOOP_SECONDS = 60
"""The picture is encoded for so long, at one frame a second, and then repeated without encoding it again."""
_COLOURS = ((24, 38, 92), (70, 26, 84), (14, 74, 82), (96, 34, 44), (40, 44, 58), (22, 70, 48))
"""Red, green and blue of a backdrop's upper edge; it darkens downwards. A title always has the same colour."""
_STILL: dict[str, str | int] = {
    "t": LOOP_SECONDS,
    "g": LOOP_SECONDS,
    "bf": 0,
    "pix_fmt": "yuv420p",
    "c:v": "libx264",
    "preset": "veryfast",
    "tune": "stillimage",
    "crf": 16,
    "colorspace": "bt709",
    "color_primaries": "bt709",
    "color_trc": "bt709",
    "color_range": "tv",
}
_ONE_PICTURE = ["-format_whitelist", "jpeg_pipe,png_pipe,webp_pipe", "-protocol_whitelist", "file"]
_SMALLER = f"scale=w='min({SIDE},iw)':h='min({SIDE},ih)':force_original_aspect_ratio=decrease:force_divisible_by=2"


def with_picture(source: Path, sound: Path, title: str, out: Path, of_page: Path | None = None) -> list[str]:
    """Write the sound with a still picture to `out` (.mp4), and return warnings for the user.

    Args:
        source: the untrusted file, which may have a cover.
        sound: its sound, as `extract_audio` wrote it.
        title: shown on a backdrop if there is no cover; untrusted.
        of_page: the picture of the source's page, for a file without a cover; untrusted.

    Raises:
        UnreadableMedia: the sound cannot be copied.
    """
    with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as work:
        picture, still = Path(work, "picture.png"), Path(work, "still.mp4")
        lack = _extract_cover(source, of_page, picture)
        titled = _draw_backdrop(title, picture) if lack else {}
        frames = ffmpeg_python.input(f"file:{picture}", loop=1, framerate=1).video
        shown = frames.filter("ass", **titled) if titled else frames
        shown = shown.filter("scale", out_color_matrix="bt709", out_range="tv").filter("setsar", 1)
        ffmpeg.run(shown.output(str(still), **_STILL), TIMEOUT_SECONDS)
        looped = ["-stream_loop", "-1", "-i", f"file:{still}", "-i", f"file:{sound}", "-map", "0:v", "-map", "1:a"]
        try:
            _run([*looped, "-c", "copy", "-t", f"{probe(sound).duration:.3f}", "-movflags", "+faststart", str(out)])
        except ffmpeg.FfmpegError as error:
            raise UnreadableMedia("The file's sound cannot be copied.") from error
    return [f"the source has only sound{lack}; its {'title' if lack else 'cover'} is shown"]


def _extract_cover(source: Path, of_page: Path | None, out: Path) -> str:
    """Write the file's cover to `out`, or else the page's picture, and return "", or what the source lacks."""
    index = _cover_index(source)
    if index is not None:
        cover = [*input_arguments(source), "-map", f"0:{index}"]
    elif of_page:
        cover = [*_ONE_PICTURE, "-i", f"file:{of_page}"]
    else:
        return " and no cover"
    try:
        limits = ["-max_pixels", str(MAX_PIXELS)]
        _run([*limits, *cover, "-frames:v", "1", "-vf", _SMALLER, "-pix_fmt", "rgb24", str(out)])
    except ffmpeg.FfmpegError as error:
        _log.warning("The cover cannot be decoded: %s", one_line(str(error).splitlines()[-1], 300))
        return ", and its cover cannot be decoded"
    return ""


def _cover_index(source: Path) -> int | None:
    with av.open(f"file:{source}", metadata_errors="ignore") as container:
        return next((s.index for s in container.streams.video if s.disposition & Disposition.attached_pic), None)


def _draw_backdrop(title: str, out: Path) -> dict[str, str]:
    """Write a picture to `out`, and return the options of ffmpeg's filter `ass` that draw the title on it."""
    fonts.use_only_our_fonts()
    font = fonts.choose_font([title])
    colour = np.array(_COLOURS[hashlib.sha256(title.encode()).digest()[0] % len(_COLOURS)])
    shades = np.linspace(1.0, 0.35, SIDE)[:, None, None]
    cv2.imwrite(str(out), (shades * colour[::-1]).repeat(SIDE, 1).astype(np.uint8))
    script = out.with_name("title.ass")
    script.write_text(backdrop(title, SIDE, font.typeface), encoding="utf-8")
    return {"filename": str(script), "fontsdir": str(font.folder)}


def _run(arguments: list[str]) -> None:
    ffmpeg.run(["-v", "error", *arguments], TIMEOUT_SECONDS)
