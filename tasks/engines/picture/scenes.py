"""Finds shot boundaries with PySceneDetect's AdaptiveDetector, fed frame by frame."""

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

SHORTEST_SHOT = 0.4
"""Seconds; a flash or a strobe is not a new shot."""


class CutFinder:
    """Feed it every frame in order; `cuts` are the numbers of the frames that start a new shot."""

    def __init__(self, fps: float) -> None:
        self._detector = AdaptiveDetector(min_scene_len=max(1, round(SHORTEST_SHOT * fps)))
        self._fps = fps
        self._number = 0
        self.cuts: list[int] = []

    def feed(self, frame_bgr: np.ndarray) -> bool:
        """Process the next frame, which may be a thumbnail; return True when a cut is detected.

        Detection lags by two frames, because a cut must stand out from both sides.
        """
        found = self._detector.process_frame(FrameTimecode(self._number, fps=self._fps), frame_bgr)
        self.cuts += [cut.frame_num for cut in found]
        self._number += 1
        return bool(found)
