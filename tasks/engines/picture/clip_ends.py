"""Analyses the video around a clip's start or end: cuts, faces, and frames unsuitable as a poster."""

from pathlib import Path

import cv2
import numpy as np

from tasks.core.media import MediaInfo
from tasks.core.picture.clip_ends import EdgeAnalysis, flawed_frames
from tasks.engines.picture.faces import FaceDetector
from tasks.engines.picture.frames import frame_rate, small_frames, small_size
from tasks.engines.picture.scenes import CutFinder
from tasks.engines.picture.vision import DETECTIONS_PER_SECOND, LONGER_SIDE, THUMBNAIL


def analyse_edge(
    video: Path,
    info: MediaInfo,
    span: tuple[float, float],
    *,
    fps: float,
    poster: bool,
    detector: FaceDetector | None,
    ffmpeg: str,
) -> EdgeAnalysis:
    """Analyse `span` (start and end, seconds of the source) at `fps`.

    Without `poster`, finds only cuts; without a detector, no faces.

    Raises:
        UnreadableMedia: no frame can be decoded.
        ProgramStopped: the decoder was stopped, or is stuck.
    """
    start = span[0]
    size, rate = small_size(info, LONGER_SIDE), float(frame_rate(fps))
    finder = CutFinder(rate)
    lumas: list[np.ndarray] = []
    samples: list[float] = []
    faces: list[float] = []
    every = max(1, round(rate / DETECTIONS_PER_SECOND))
    for number, planes in enumerate(small_frames(video, info, span, fps=fps, size=size, ffmpeg=ffmpeg)):
        bgr = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
        thumbnail = cv2.resize(bgr, THUMBNAIL, interpolation=cv2.INTER_LINEAR)
        finder.feed(thumbnail)
        if not poster:
            continue
        lumas.append(cv2.cvtColor(thumbnail, cv2.COLOR_BGR2GRAY))
        if detector and number % every == 0:
            samples.append(start + number / rate)
            faces += samples[-1:] if len(detector.rows(bgr)) else []
    cuts = [start + cut / rate for cut in finder.cuts]
    return EdgeAnalysis(start, rate, cuts, flawed_frames(np.stack(lumas), rate) if lumas else [], samples, faces)
