"""Small media with known flashes and beeps, made by ffmpeg."""

import subprocess
from pathlib import Path

import imageio_ffmpeg

from tasks.core.edit.drawing import Drawing, plain_drawing
from tasks.core.edl import EdlClip
from tasks.core.transcript import Segment, Speech
from tasks.engines.footage import Footage
from tasks.engines.probe import probe

SIZE = "192x108"


def ffmpeg(*args: object) -> None:
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, args)], check=True, timeout=60)


def footage(path: Path) -> Footage:
    """A source whose picture and sound are both in this file."""
    return Footage(path, path, probe(path))


def drawing(clip: EdlClip, segments: list[Segment] | None = None, language: str = "en") -> Drawing:
    """A clip that nobody has edited, of a source in which this is said."""
    return plain_drawing(clip, Speech(segments or [], language))


def clip(path: Path, seconds: float = 2.0, *more: object) -> Path:
    """A test picture with a tone; H.264 and AAC unless `more` says otherwise."""
    ffmpeg(
        *("-f", "lavfi", "-i", f"testsrc=size={SIZE}:rate=25:duration={seconds}"),
        *("-f", "lavfi", "-i", f"sine=frequency=440:duration={seconds}"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", *more, path),
    )
    return path


def beeps(path: Path, at: float, *more: object, seconds: float = 4.0, delay: float = 0.0) -> Path:
    """Black and silent except for 0.2 s of white with a tone at `at` seconds; the sound track starts `delay` s late."""
    tone = f"sin(2*PI*1000*t)*between(t,{at - delay},{at - delay + 0.2})"
    during = f"between(t,{at},{at + 0.2})"
    ffmpeg(
        *("-f", "lavfi", "-i", f"color=black:size={SIZE}:rate=50:duration={seconds}"),
        *("-itsoffset", delay, "-f", "lavfi", "-i", f"aevalsrc='{tone}':s=48000:d={seconds - delay}"),
        *("-vf", f"drawbox=w=iw:h=ih:color=white:t=fill:enable='{during}'"),
        *("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", *more, path),
    )
    return path
