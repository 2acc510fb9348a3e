"""RENDER's framing: analyse the picture of a clip's segments, and decide what the camera shows of them."""

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

import cv2
import numpy as np
from pydantic import BaseModel

from tasks.core.captions.card import SECONDS
from tasks.core.edit.drawing import Drawing
from tasks.core.edl import EdlClip
from tasks.core.errors import UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.core.output.render_plan import RenderOptions, frame_rate
from tasks.core.picture.camera import RangeAnalysis, Shot
from tasks.core.picture.field_order import Scan
from tasks.core.picture.framing_choice import FINDS_FACES, Automatic
from tasks.core.picture.motion import is_frozen, motion_inside, shown_boxes, stretches
from tasks.core.picture.placement import Layout
from tasks.core.picture.reframe import frame_range, shadows
from tasks.core.picture.shadow import Shadow
from tasks.core.plurals import pluralize
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.footage import Footage
from tasks.engines.picture.faces import FaceDetector
from tasks.engines.picture.vision import SHORTEST_STRETCH, analyse_range
from tasks.engines.weights import WeightsMissing, yunet


class FaceDetection(BaseModel):
    """Why face detection did not run, as the contract's keyword and as text; both None if it ran."""

    reason: Literal["model_missing", "face_detect_failed"] | None = None
    error: str | None = None

    @property
    def warning(self) -> str | None:
        return f"face detection did not complete ({self.reason}): {self.error}" if self.reason else None


@dataclass(frozen=True)
class FramedClip:
    """A clip's picture: the analysis and the shots of each segment, and whether face detection ran."""

    views: list[RangeAnalysis]
    shots: list[list[Shot]]
    faces: FaceDetection
    shadow: list[Shadow]

    @property
    def all_shots(self) -> list[Shot]:
        return [shot for of_range in self.shots for shot in of_range]

    @property
    def shows_cover(self) -> bool:
        """Whether the clip shows a cover throughout, with room for a waveform."""
        return all(shot.layout == "cover" for shot in self.all_shots)

    @property
    def scans(self) -> list[Scan]:
        return [view.scan for view in self.views]

    @property
    def black(self) -> list[tuple[float, float]]:
        return [stretch for view in self.views for stretch in view.black]


def frame_clip(drawing: Drawing, footage: Footage, options: RenderOptions) -> FramedClip:
    """Analyse the picture of each segment and frame it.

    Faces are looked for only where the framing depends on them, or where a card must not cover them.
    """
    source, output = (footage.info.width, footage.info.height), (options.width, options.height)
    if footage.info.is_cover:
        return _show_cover(drawing, source, output)
    looks = [
        isinstance(asked, FINDS_FACES) or early for asked, early in zip(drawing.framing, _carded(drawing), strict=True)
    ]
    detector, faces = _face_detector() if any(looks) else (None, FaceDetection())
    views = _views(drawing.clip, footage, options, [detector if wanted else None for wanted in looks])
    faces = next((FaceDetection(reason="face_detect_failed", error=view.fault) for view in views if view.fault), faces)
    shots = [
        frame_range(view, source, output, asked, said)
        for view, asked, said in zip(views, drawing.framing, drawing.said, strict=True)
    ]
    automatic = [view for view, asked in zip(views, drawing.framing, strict=True) if isinstance(asked, Automatic)]
    shadow = [one for view in automatic for one in shadows(view, source, output)]
    return FramedClip(views, shots, faces, shadow)


def _show_cover(drawing: Drawing, source: tuple[int, int], output: tuple[int, int]) -> FramedClip:
    """The clip's still picture, which needs no analysis, in the upper half unless a person framed it."""
    views, shots = [], []
    for span, asked in zip(drawing.clip.segments, drawing.framing, strict=True):
        views.append(RangeAnalysis(start=span.start, end=span.end, fps=1.0))
        whole = Shot(start=span.start, end=span.end, layout="cover", reason="the source has only sound")
        shots.append([whole] if isinstance(asked, FINDS_FACES) else frame_range(views[-1], source, output, asked))
    return FramedClip(views, shots, FaceDetection(), [])


class _Parts(NamedTuple):
    """The layout of a framing that shows two parts, and a warning where that was not possible."""

    layout: Layout
    missing: str
    instead: str


_PARTS = {
    "people": _Parts("split", "no two people could be shown", "the camera follows faces there instead"),
    "screen": _Parts("screen", "no face could be shown below the picture", "the whole picture is shown alone there"),
}


def parts_warnings(drawing: Drawing, picture: FramedClip) -> list[str]:
    """What is shown instead where two parts were asked for and not found: one warning for each kind."""
    return [text for kind in _PARTS if (text := _parts_warning(kind, drawing, picture))]


def _parts_warning(kind: str, drawing: Drawing, picture: FramedClip) -> str | None:
    wanted = _PARTS[kind]
    layouts = [
        shot.layout
        for framing, shots in zip(drawing.framing, picture.shots, strict=True)
        if framing.kind == kind
        for shot in shots
        if shot.layout != "cover"
    ]
    without = sum(layout != wanted.layout for layout in layouts)
    if not without:
        return None
    where = "" if without == len(layouts) else f" in {without} of {pluralize(len(layouts), 'shot')}"
    return f"{wanted.missing}{where}; {wanted.instead}"


def _carded(drawing: Drawing) -> list[bool]:
    """Whether a card is over the beginning of each segment."""
    begins = accumulate((span.duration for span in drawing.clip.segments[:-1]), initial=0.0)
    return [bool(drawing.card) and begin < SECONDS for begin in begins]


def frozen_as_shown(picture: FramedClip, info: MediaInfo) -> list[tuple[float, float]]:
    """Time ranges of the source without motion inside the crop; the rest of the frame may move."""
    if info.is_cover:
        return [(view.start, view.end) for view in picture.views]
    frozen: list[tuple[float, float]] = []
    for view, of_range in zip(picture.views, picture.shots, strict=True):
        times = view.start + np.arange(len(view.motion)) / view.fps
        motion = motion_inside(view.motion, shown_boxes(of_range, times, (info.width, info.height)))
        frozen += stretches([is_frozen(changed) for changed in motion], view.start, view.fps, SHORTEST_STRETCH)
    return frozen


def _face_detector() -> tuple[FaceDetector | None, FaceDetection]:
    """The face detector, or None and the reason. Without one, the camera shows the whole frame."""
    try:
        return FaceDetector(yunet()), FaceDetection()
    except WeightsMissing as error:
        return None, FaceDetection(reason="model_missing", error=str(error))
    except cv2.error as error:
        return None, FaceDetection(reason="face_detect_failed", error=str(error))


def _views(
    clip: EdlClip, footage: Footage, options: RenderOptions, detectors: list[FaceDetector | None]
) -> list[RangeAnalysis]:
    video, info = footage.video, footage.info
    rate = float(frame_rate(info.pictures_per_second, options.max_fps))
    if any(span.start >= info.duration for span in clip.segments):
        raise UnreadableMedia(f"The video ends at {info.duration:.1f} s, before the clip does.")
    return [
        analyse_range(video, info, span.start, span.end, rate, detector, ffmpeg_exe())
        for span, detector in zip(clip.segments, detectors, strict=True)
    ]
