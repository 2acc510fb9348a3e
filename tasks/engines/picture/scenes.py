"""Shot boundaries: PySceneDetect's AdaptiveDetector, fed frame by frame."""

import numpy as np
from scenedetect import FrameTimecode
from scenedetect.detectors import AdaptiveDetector

SHORTEST_SHOT = 0.4
"""Seconds; a flash or a strobe is no new shot."""


class CutFinder:
    """Feed every frame in order; `cuts` are the numbers of the frames that begin a new shot."""

    def __init__(self, fps: float) -> None:
        self._detector = AdaptiveDetector(min_scene_len=max(1, round(SHORTEST_SHOT * fps)))
        self._fps = fps
        self._number = 0
        self.cuts: list[int] = []

    def feed(self, frame_bgr: np.ndarray) -> bool:
        """Take in the next frame, which may be a thumbnail; true when a cut has become known.

        It becomes known two frames late, once it stands out from both sides.
        """
        found = self._detector.process_frame(FrameTimecode(self._number, fps=self._fps), frame_bgr)
        self.cuts += [cut.frame_num for cut in found]
        self._number += 1
        return bool(found)
