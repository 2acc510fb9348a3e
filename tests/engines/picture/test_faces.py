"""YuNet on frames of the sample talk, where the speaker's box is known."""

import json

import cv2
import numpy as np
import pytest

from tasks.engines.picture.faces import FaceDetector, with_area
from tasks.engines.weights import yunet
from tests.folders import MEDIA


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return FaceDetector(yunet())


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """The first frame of the sample, 1280x720."""
    _, picture = cv2.VideoCapture(str(MEDIA / "sample.mp4")).read()
    return picture


def test_the_speaker_is_found_at_any_frame_size(detector, frame):
    truth = json.loads((MEDIA / "sample.json").read_text())["face"][0]
    for width in (1280, 480, 640):
        small = cv2.resize(frame, (width, width * 9 // 16), interpolation=cv2.INTER_AREA)
        (face,) = detector.detect(small, 1.5, 1280 / width)
        assert face.t == 1.5
        assert abs(face.x - truth["x"]) < 0.2 * truth["w"]
        assert abs(face.y - truth["y"]) < 0.2 * truth["h"]
        assert 0.7 < face.width / truth["w"] < 1.3
        assert 0.75 <= face.score <= 1


def test_no_face_is_found_without_one(detector):
    noise = np.random.default_rng(0).integers(0, 255, (270, 480, 3)).astype(np.uint8)
    for empty in (noise, np.zeros_like(noise), cv2.GaussianBlur(noise, (0, 0), 8)):
        assert detector.detect(empty, 0, 1) == []


def test_faces_without_area_are_dropped():
    rows = np.ones((4, 15), np.float32)
    rows[0, 2], rows[1, 3], rows[2, 6] = 0, -3, np.nan
    assert with_area(rows).tolist() == [[1.0] * 15]
