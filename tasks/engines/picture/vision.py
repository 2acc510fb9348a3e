"""Analyses a range of a video in one pass over small frames: cuts, faces, mouths, black and frozen stretches."""

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from infra.untrusted_text import one_line
from tasks.core.media import MediaInfo
from tasks.core.picture.bars import picture_within
from tasks.core.picture.camera import FaceBox, RangeAnalysis
from tasks.core.picture.field_order import FieldCounts, Scan, classify_scan
from tasks.core.picture.motion import is_black, is_frozen, stretches
from tasks.engines.picture.faces import FaceDetector, face_box
from tasks.engines.picture.frames import Planes, frame_rate, small_frames, small_size
from tasks.engines.picture.mouths import WatchedFace
from tasks.engines.picture.scenes import CutFinder

_log = logging.getLogger(__name__)

LONGER_SIDE = 480
DETECTIONS_PER_SECOND = 5
THUMBNAIL = (160, 90)
CELLS = (9, 16)
"""Rows and columns of the motion grid."""
SHORTEST_STRETCH = 0.5
"""Seconds."""
CUT_DELAY = 2
"""Frames by which CutFinder reports a cut late."""
JUMP = 12.0
"""Mean luma difference, of 255, above which two frames belong to different shots and no motion is measured."""


def analyse_range(
    video: Path, info: MediaInfo, start: float, end: float, fps: float, detector: FaceDetector | None, ffmpeg: str
) -> RangeAnalysis:
    """Analyse `start` to `end` (seconds of the source) frame by frame at `fps`.

    Without a detector, or after it fails, no faces are detected; `fault` then describes the failure.

    Raises:
        UnreadableMedia: no frame can be decoded.
        ProgramStopped: the decoder was killed, or is stuck.
    """
    size = small_size(info, LONGER_SIDE)
    rate = float(frame_rate(fps))
    analyser = _Analyser(detector, start, rate, info.width / size[0])
    counted: list[FieldCounts | None] = []
    fields = counted.append if info.interlaced else None
    for planes in small_frames(video, info, (start, end), fps=fps, size=size, ffmpeg=ffmpeg, fields=fields):
        analyser.see(planes, planes[: size[1]])
    return RangeAnalysis(
        start=start,
        end=end,
        fps=rate,
        cuts=[start + cut / rate for cut in analyser.finder.cuts],
        faces=analyser.faces(),
        samples=analyser.samples,
        black=stretches(analyser.black, start, rate, SHORTEST_STRETCH),
        frozen=stretches(analyser.frozen, start, rate, SHORTEST_STRETCH),
        pictures=[picture_within(*extremes, info.width, info.height) for extremes in analyser.extremes()],
        fault=analyser.fault,
        scan=classify_scan(counted[0]) if counted else Scan(),
        motion=np.stack(analyser.motion),
    )


@dataclass
class _Analyser:
    """Collects the results for a range that begins at `start`; `scale` is source pixels per small pixel."""

    detector: FaceDetector | None
    start: float
    rate: float
    scale: float
    samples: list[float] = field(default_factory=list[float])
    black: list[bool] = field(default_factory=list[bool])
    frozen: list[bool] = field(default_factory=list[bool])
    motion: list[np.ndarray] = field(default_factory=list[np.ndarray])
    fault: str | None = None
    looks: list[tuple[float, list[WatchedFace]]] = field(default_factory=list[tuple[float, list[WatchedFace]]])

    def __post_init__(self) -> None:
        self.finder = CutFinder(self.rate)
        self._due = 0
        self._extremes: list[tuple[Planes, Planes]] = []
        self._waiting: deque[Planes] = deque()
        self._luma: np.ndarray | None = None
        self._thumbnail: np.ndarray | None = None

    def see(self, planes: Planes, luma: np.ndarray) -> None:
        """Process the next frame; `luma` is its luma plane."""
        number = len(self.black)
        bgr = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
        thumbnail = cv2.resize(bgr, THUMBNAIL, interpolation=cv2.INTER_LINEAR)
        new_shot = self.finder.feed(thumbnail)
        self._wait(number, planes)
        grey = cv2.cvtColor(thumbnail, cv2.COLOR_BGR2GRAY)
        cells = _cells(grey, self._thumbnail)
        changed = float(cells.mean())
        self.motion.append(cells)
        self.black.append(is_black(grey))
        self.frozen.append(is_frozen(changed))
        if self._luma is not None and changed < JUMP:
            self._watch(self._luma, luma)
        if new_shot or number >= self._due:
            self._due = number + max(1, round(self.rate / DETECTIONS_PER_SECOND))
            self._find(bgr, self.start + number / self.rate)
        self._luma, self._thumbnail = luma, grey

    def _wait(self, number: int, planes: Planes) -> None:
        """Hold the frame until we know whether it starts a shot."""
        self._waiting.append(planes)
        if len(self._waiting) > CUT_DELAY:
            self._settle(number - CUT_DELAY)

    def _settle(self, number: int) -> None:
        planes = self._waiting.popleft()
        if not self._extremes or number in self.finder.cuts[-1:]:
            self._extremes.append((planes.copy(), planes.copy()))
        else:
            lowest, highest = self._extremes[-1]
            np.minimum(lowest, planes, out=lowest)
            np.maximum(highest, planes, out=highest)

    def extremes(self) -> list[tuple[Planes, Planes]]:
        """The lowest and the highest value of each pixel in each shot; call it after the last frame."""
        while self._waiting:
            self._settle(len(self.black) - len(self._waiting))
        return self._extremes

    def _watch(self, before: np.ndarray, after: np.ndarray) -> None:
        """Measure mouth motion if there is more than one face to choose from."""
        faces = self.looks[-1][1]
        for face in faces if len(faces) > 1 else []:
            face.watch(before, after)

    def _find(self, bgr: np.ndarray, t: float) -> None:
        self.samples.append(t)
        self.looks.append((t, [WatchedFace(row) for row in self._rows(bgr, t)]))

    def _rows(self, bgr: np.ndarray, t: float) -> Iterable[np.ndarray]:
        """The detector's rows; none after its first failure."""
        try:
            return self.detector.rows(bgr) if self.detector else []
        except cv2.error as error:
            self.fault = one_line(str(error), 300)
            self.detector = None
            _log.warning("Face detection stopped at %.1f s: %s", t, self.fault)
            return []

    def faces(self) -> list[FaceBox]:
        return [face_box(face.row, t, self.scale, face.mouth) for t, faces in self.looks for face in faces]


def _cells(grey: np.ndarray, before: np.ndarray | None) -> np.ndarray:
    """Mean absolute difference of two thumbnails in each of CELLS; the maximum for the first frame."""
    if before is None:
        return np.full(CELLS, 255, np.float32)
    height, width = (side // cells for side, cells in zip(grey.shape, CELLS, strict=True))
    return cv2.absdiff(grey, before).reshape(CELLS[0], height, CELLS[1], width).mean(axis=(1, 3), dtype=np.float32)
