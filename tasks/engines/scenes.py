"""Shot boundaries: PySceneDetect's AdaptiveDetector, fed frame by frame."""

import cv2
import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

SMALL = (128, 72)
SHORTEST_SHOT = 0.4
"""Seconds; a flash or a strobe is no new shot."""


class CutFinder:
    """Feed every frame in order; `cuts` are the numbers of the frames that begin a new shot."""

    def __init__(self, fps: float) -> None:
        self._detector = AdaptiveDetector(min_scene_len=max(1, round(SHORTEST_SHOT * fps)))
        self._fps = fps
        self._number = 0
        self.cuts: list[int] = []

    def feed(self, frame_bgr: np.ndarray) -> None:
        small = cv2.resize(frame_bgr, SMALL, interpolation=cv2.INTER_AREA)
        timecode = FrameTimecode(self._number, fps=self._fps)
        self.cuts += [cut.frame_num for cut in self._detector.process_frame(timecode, small)]
        self._number += 1
