"""Collects frames for a clip's poster while the clip is measured, and writes the chosen one as a JPEG."""

import logging
from dataclasses import dataclass, field
from itertools import product
from math import hypot
from pathlib import Path

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from infra.untrusted_text import one_line
from tasks.core.errors import UnreadableMedia
from tasks.core.output.poster import PosterCandidate, PosterFace
from tasks.core.output.source_match import SAMPLES_PER_SECOND
from tasks.engines.decoding import video_frames
from tasks.engines.picture.faces import FaceDetector
from tasks.engines.weights import WeightsMissing, yunet

_log = logging.getLogger(__name__)

CANDIDATES = 24
"""Frames in which faces are looked for, which takes 4 ms each."""
DETECTION_WIDTH = 180
"""Pixels; in 270, faces take twice the time and eyes are found no better."""
JUMP = 12.0
"""Mean difference, in grey levels, between sampled frames of different shots."""
EYE_SIZE = 0.6
"""Side of the square measured at each eye, as a share of the distance between the eyes."""
_EYE_PIXELS, _EYE_ROWS = 32, slice(10, 22)
"""Size of that square once scaled, and the rows of the eye itself: those above show the brow."""
_SKIN = 70
"""Percentile of the face's luma that is skin, not hair, brows or shadow."""
_AHEAD = 1.0
"""Seconds before a frame from which all frames are decoded: more than decoders are ahead by."""
MAX_BYTES = 400_000
_QUALITIES, _SHRINKS = (90, 80, 65, 50), (1, 2, 4)
"""Tried in turn, the qualities first, until the file is small enough."""


@dataclass(frozen=True)
class Look:
    """One sampled frame: its planes as ffmpeg wrote them (yuv420p) and its measurements."""

    planes: np.ndarray
    height: int
    sample: int
    sharpness: float
    contrast: float
    is_captioned: bool
    change: float

    @property
    def luma(self) -> np.ndarray:
        return self.planes[: self.height]


def look(planes: np.ndarray, band: slice, sample: int, change: float, *, is_captioned: bool) -> Look:
    """Measure a frame outside the rows of the captions; `change` is its difference to the sample before."""
    height = planes.shape[0] * 2 // 3
    luma = planes[:height]
    edges = cv2.Laplacian(luma, cv2.CV_16S)
    edges[band] = 0
    return Look(planes, height, sample, _deviation(edges), _deviation(luma), is_captioned=is_captioned, change=change)


def _deviation(values: np.ndarray) -> float:
    return float(cv2.meanStdDev(values)[1][0, 0])


@dataclass
class PosterFrames:
    """Keeps the best frame of each of CANDIDATES parts of a clip that lasts `duration` seconds."""

    duration: float
    shot: int = 0
    kept: dict[int, tuple[Look, int, bool]] = field(default_factory=dict[int, tuple[Look, int, bool]])
    _last: Look | None = None

    def see(self, seen: Look) -> None:
        """Take the next sampled frame. Whether a frame is steady is known once the next one has been seen."""
        self._settle(seen.change < JUMP)
        if self._last is not None and seen.change >= JUMP:
            self.shot += 1
        self._last = seen

    def _settle(self, is_followed: bool) -> None:
        last = self._last
        if last is None:
            return
        is_steady = is_followed and (last.change < JUMP or last.sample == 0)
        part = int(last.sample / SAMPLES_PER_SECOND * CANDIDATES / max(self.duration, 1e-6))
        rival = self.kept.get(part)
        rank = is_steady, not last.is_captioned, last.sharpness
        if rival is None or rank > (rival[2], not rival[0].is_captioned, rival[0].sharpness):
            self.kept[part] = last, self.shot, is_steady

    def candidates(self) -> tuple[list[PosterCandidate], str | None]:
        """The kept frames with their faces, and why no faces were looked for, or None. Call it after the last."""
        self._settle(is_followed=True)
        fault = None
        faces: dict[int, tuple[PosterFace, float]] = {}
        try:
            detector = FaceDetector(yunet())
            for part, (seen, _, _) in self.kept.items():
                if found := _largest_face(seen, detector):
                    faces[part] = found
        except (WeightsMissing, cv2.error) as error:
            fault = one_line(str(error), 300)
            _log.warning("No faces were looked for in a poster: %s", fault)
            faces = {}
        return [_candidate(*kept, faces.get(part)) for part, kept in sorted(self.kept.items())], fault


def _candidate(seen: Look, shot: int, is_steady: bool, face: tuple[PosterFace, float] | None) -> PosterCandidate:
    return PosterCandidate(
        t=seen.sample / SAMPLES_PER_SECOND,
        shot=shot,
        is_steady=is_steady,
        is_captioned=seen.is_captioned,
        contrast=seen.contrast,
        sharpness=face[1] if face else seen.sharpness,
        face=face[0] if face else None,
    )


def _largest_face(seen: Look, detector: FaceDetector) -> tuple[PosterFace, float] | None:
    """The frame's largest face, and its sharpness from the brow to the nose, where no caption is."""
    picture = cv2.cvtColor(seen.planes, cv2.COLOR_YUV2BGR_I420)
    scale = max(1.0, picture.shape[1] / DETECTION_WIDTH)
    size = round(picture.shape[1] / scale), round(picture.shape[0] / scale)
    rows = detector.rows(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    if not len(rows):
        return None
    row = rows[np.argmax(rows[:, 2] * rows[:, 3])] * scale
    x, y, width, height = row[:4]
    inside = seen.luma[_span(y, height, seen.height), _span(x, width, seen.luma.shape[1])]
    upper = seen.luma[_span(y, row[9] - y, seen.height), _span(x, width, seen.luma.shape[1])]
    if not inside.size or not upper.size:
        return None
    skin = max(float(np.percentile(inside, _SKIN)), 1.0)
    eyes = max(_vertical_edges(seen.luma, row[4:6], row[6:8]), _vertical_edges(seen.luma, row[6:8], row[4:6])) / skin
    face = PosterFace(width=width / seen.luma.shape[1], is_whole=_is_whole(row, seen.luma.shape), eyes=eyes)
    return face, _deviation(cv2.Laplacian(upper, cv2.CV_16S))


def _span(start: float, length: float, limit: int) -> slice:
    return slice(int(np.clip(start, 0, limit)), int(np.clip(start + length, 0, limit)))


def _is_whole(row: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether the face is inside the picture, but for a twentieth of its size: YuNet's boxes are generous."""
    x, y, width, height = row[:4]
    slack_x, slack_y = width / 20, height / 20
    across = x >= -slack_x and x + width <= shape[1] + slack_x
    return bool(across and y >= -slack_y and y + height <= shape[0] + slack_y)


def _vertical_edges(luma: np.ndarray, eye: np.ndarray, other: np.ndarray) -> float:
    """Mean difference of horizontal neighbours at an eye, with the line through both eyes made horizontal."""
    along = (other - eye) if other[0] >= eye[0] else (eye - other)
    side = EYE_SIZE * hypot(*along)
    cos, sin = along / max(hypot(*along), 1e-6) * side / _EYE_PIXELS
    middle = (_EYE_PIXELS - 1) / 2
    move = np.array([[cos, -sin, eye[0] - (cos - sin) * middle], [sin, cos, eye[1] - (sin + cos) * middle]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(luma, move, (_EYE_PIXELS, _EYE_PIXELS), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return float(np.abs(np.diff(patch[_EYE_ROWS].astype(np.int16), axis=1)).mean())


def write_poster(clip: Path, t: float, out: Path) -> None:
    """Write the frame that was sampled at `t` seconds as a JPEG of at most MAX_BYTES, in the clip's size if it fits.

    Raises:
        UnreadableMedia: the clip cannot be decoded.
    """
    try:
        picture = _sampled_frame(clip, t).to_ndarray(format="bgr24")
    except (FFmpegError, IndexError) as error:
        raise UnreadableMedia(f"The clip {clip.name} cannot be read ({type(error).__name__}).") from error
    jpegs = (_jpeg(picture, shrink, quality) for shrink, quality in product(_SHRINKS, _QUALITIES))
    out.write_bytes(next(jpeg for jpeg in jpegs if len(jpeg) <= MAX_BYTES))


def _jpeg(picture: np.ndarray, shrink: int, quality: int) -> bytes:
    small = cv2.resize(picture, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA)
    settings = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    return cv2.imencode(".jpg", small, settings)[1].tobytes()


def _sampled_frame(clip: Path, t: float) -> VideoFrame:
    """The frame that stands for `t` in the measurements: the last one that is nearer to `t` than to the next sample.

    Frames that no other refers to are decoded only shortly before it.
    """
    with av.open(str(clip)) as container:
        (stream,) = container.streams.video[:1]
        stream.thread_type, stream.codec_context.skip_frame = "AUTO", "NONREF"
        found: VideoFrame | None = None
        for begins, frame in video_frames(container, stream, t):
            if begins >= t - _AHEAD:
                stream.codec_context.skip_frame = "DEFAULT"
            if found is not None and begins >= t + 0.5 / SAMPLES_PER_SECOND:
                break
            found = frame
        if found is None:
            raise IndexError(t)
        return found
