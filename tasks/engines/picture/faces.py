"""Detects faces in a frame with YuNet through OpenCV's FaceDetectorYN, on the CPU."""

from pathlib import Path

import cv2
import numpy as np

from tasks.core.picture.camera import FaceBox

THRESHOLD = 0.75
"""Below 0.7, scenes without a face give false positives."""


class FaceDetector:
    """The detector, created once and used for frames of any size. Not thread-safe."""

    def __init__(self, model: Path) -> None:
        cv2.setNumThreads(1)  # on frames this small, threads cost more than they save
        self._net = cv2.FaceDetectorYN.create(str(model), "", (320, 320), THRESHOLD, 0.3, 50)
        self._size = (320, 320)

    def rows(self, frame_bgr: np.ndarray) -> np.ndarray:
        """YuNet's raw detections, shape (faces, 15), in pixels of the frame.

        A row is x, y, width, height, then right eye, left eye, nose, right and left mouth corner as
        x, y pairs, then the confidence.
        """
        size = (frame_bgr.shape[1], frame_bgr.shape[0])
        if size != self._size:
            self._net.setInputSize(size)
            self._size = size
        _, found = self._net.detect(frame_bgr)
        return np.empty((0, 15), np.float32) if found is None else with_area(found)

    def detect(self, frame_bgr: np.ndarray, t: float, scale: float) -> list[FaceBox]:
        """Faces at time `t` in source pixels; one frame pixel is `scale` source pixels."""
        return [face_box(row, t, scale) for row in self.rows(frame_bgr)]


def with_area(rows: np.ndarray) -> np.ndarray:
    """Rows whose face has a width and a height; for extremely narrow pictures, YuNet returns some without."""
    return rows[np.isfinite(rows).all(axis=1) & (rows[:, 2] > 0) & (rows[:, 3] > 0)]


def face_box(row: np.ndarray, t: float, scale: float, mouth: float = 0.0) -> FaceBox:
    """Convert one of YuNet's rows to a FaceBox in source pixels."""
    x, y, width, height = (float(value) * scale for value in row[:4])
    return FaceBox(
        t=t, x=x + width / 2, y=y + height / 2, width=width, height=height, score=float(row[14]), mouth=mouth
    )
