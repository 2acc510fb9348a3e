"""What an encode shows, and how much memory it takes, when its framing changes often."""

import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tasks.core.captions.ass import Typeface, ass
from tasks.core.captions.presets import CLASSIC
from tasks.core.output.render_plan import Piece, RenderOptions, RenderPlan, SegmentPlan
from tasks.core.picture.camera import CropKey
from tasks.engines.ffmpeg import EncoderChoice
from tasks.engines.output.encode import Edit, encode
from tasks.engines.output.picture_meter import Painted, PictureMeter
from tasks.engines.sound.loudness import Loudness, LoudnessPlan
from tests.small_media import ffmpeg, footage

OPTIONS = RenderOptions(width=540, height=960, encoder="x264", preset="ultrafast")
SECONDS, RATE = 12, 30
STEP = 12
"""Each second has a grey level of its own, this far from the next one."""


def source(folder: Path) -> Path:
    video = folder / "levels.mp4"
    if not video.exists():
        picture = f"color=gray:s=960x540:r={RATE}:d={SECONDS},format=yuv420p,geq=lum=16+{STEP}*floor(T):cb=128:cr=128"
        sound = f"sine=300:d={SECONDS}:r=48000"
        encoding = ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac")
        ffmpeg("-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", sound, *encoding, video)
    return video


def plan(shots: int) -> RenderPlan:
    """All of the source, in shots that are cropped, fitted, cropped closer, fitted and so on."""
    each = SECONDS * RATE // shots
    close: dict[str, Any] = {
        "layout": "still",
        "crop_width": 152,
        "crop_height": 270,
        "keys": [CropKey(t=0, x=400, y=100)],
    }
    wide: dict[str, Any] = {
        "layout": "still",
        "crop_width": 304,
        "crop_height": 540,
        "keys": [CropKey(t=0, x=300, y=0)],
    }
    kinds: list[dict[str, Any]] = [wide, {"layout": "fit"}, close, {"layout": "fit"}]
    pieces = [Piece(first=i * each, frames=each, **kinds[i % 4]) for i in range(shots)]
    return RenderPlan(rate_num=RATE, rate_den=1, segments=[SegmentPlan(start=0, frames=each * shots, pieces=pieces)])


def encoded(folder: Path, shots: int) -> Path:
    video, out, whole = source(folder), folder / f"{shots} shots.mp4", plan(shots)
    size = OPTIONS.width, OPTIONS.height
    edit = Edit(
        whole, LoudnessPlan(0, -2, Loudness(-20, -3), Loudness(-20, -3)), ass([], size, "en", Typeface("F")), folder
    )
    meter = PictureMeter(Painted(size, whole.duration, CLASSIC, None, frozenset()))
    encode(edit, footage(video), OPTIONS, EncoderChoice("libx264", "asked for"), {}, out, meter)
    return out


def levels(clip: Path) -> list[float]:
    """The grey level in the middle of each frame."""
    with av.open(str(clip)) as container:
        return [float(np.median(frame.to_ndarray()[440:520, 200:340])) for frame in container.decode(video=0)]


def peak_mb(folder: Path, shots: int) -> float:
    """The largest process of an encode, which is ffmpeg, in MB."""
    command = [sys.executable, "-m", "tests.engines.output.test_encode", str(folder), str(shots)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.parametrize("shots", [1, 3, 12])
def test_every_frame_is_shown_once_however_often_the_framing_changes(tmp_path: Path, shots: int):
    found = levels(encoded(tmp_path, shots))
    assert found == pytest.approx([16 + STEP * (n // RATE) for n in range(SECONDS * RATE)], abs=3)


def test_more_shots_take_no_more_memory(tmp_path: Path):
    two, four, many = (peak_mb(tmp_path, shots) for shots in (2, 4, 36))
    assert max(four, many) < two + 25


if __name__ == "__main__":
    encoded(Path(sys.argv[1]), int(sys.argv[2]))
    print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6)
