"""One small, sequential look at a range of a video: cuts, faces, black and frozen stretches."""

from pathlib import Path

import cv2

from tasks.core.camera import FaceBox, RangeView
from tasks.core.media import MediaInfo
from tasks.core.stills import is_black, is_frozen, stretches
from tasks.engines.faces import FaceDetector
from tasks.engines.frames import frame_rate, small_frames, small_size
from tasks.engines.scenes import CutFinder

LONGER_SIDE = 480
LOOKS_A_SECOND = 6
SHORTEST_STILL = 0.5


def look(  # noqa: PLR0917 - what to look at, then how
    video: Path, info: MediaInfo, start: float, end: float, fps: float, detector: FaceDetector, ffmpeg: str
) -> RangeView:
    """What `start` to `end` (seconds of the source) shows, frame by frame at `fps`.

    A range that runs past the end of the picture counts as frozen there. Raises UnreadableMedia
    when no frame can be decoded.
    """
    rate = float(frame_rate(fps))
    size = small_size(info, LONGER_SIDE)
    scale = info.width / size[0]
    every = max(1, round(rate / LOOKS_A_SECOND))
    finder = CutFinder(rate)
    faces: list[FaceBox] = []
    samples: list[float] = []
    black: list[bool] = []
    frozen: list[bool] = []
    previous = None
    for number, planes in enumerate(small_frames(video, start, end, fps=fps, size=size, ffmpeg=ffmpeg)):
        t = start + number / rate
        bgr = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
        finder.feed(bgr)
        luma = cv2.resize(planes[: size[1]], (160, 90), interpolation=cv2.INTER_AREA)
        black.append(is_black(luma))
        frozen.append(is_frozen(luma, previous))
        previous = luma
        if number % every == 0:
            samples.append(t)
            faces += detector.detect(bgr, t, scale)
    return RangeView(
        start=start,
        end=end,
        fps=rate,
        cuts=[start + cut / rate for cut in finder.cuts],
        faces=faces,
        samples=samples,
        black=stretches(black, start, rate, SHORTEST_STILL),
        frozen=stretches(frozen, start, rate, SHORTEST_STILL),
    )
