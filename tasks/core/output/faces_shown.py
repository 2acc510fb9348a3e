"""Where in a clip's picture faces are."""

import math
from collections.abc import Sequence

from tasks.core.captions.presets import Band
from tasks.core.edl import EdlClip
from tasks.core.media import MediaInfo
from tasks.core.output.render_plan import RenderOptions
from tasks.core.output.source_match import framings
from tasks.core.picture.camera import FaceBox, RangeAnalysis, Shot

MOST_COVERED = 0.1
"""Share of the faces in a clip that captions may touch."""


def covers_faces(faces: Sequence[Band], rows: Band) -> bool:
    """Whether captions in these rows touch more than a tenth of the faces."""
    return sum(face.bottom > rows.top and face.top < rows.bottom for face in faces) > MOST_COVERED * len(faces)


def faces_shown(
    clip: EdlClip,
    views: Sequence[RangeAnalysis],
    shots: Sequence[Sequence[Shot]],
    info: MediaInfo,
    options: RenderOptions,
    until: float = math.inf,
) -> list[Band]:
    """The rows of each face that was found in the clip, in its first `until` seconds, and that the camera shows.

    `views` and `shots` have one item for each of the clip's segments.
    """
    shown: list[Band] = []
    elapsed = 0.0
    for span, view, of_range in zip(clip.segments, views, shots, strict=True):
        early = [face for face in view.faces if elapsed + face.t - span.start < until]
        shown += [band for face in early for band in _rows(face, of_range, info, options)]
        elapsed += span.duration
    return shown


def _rows(face: FaceBox, shots: Sequence[Shot], info: MediaInfo, options: RenderOptions) -> list[Band]:
    """Where the face is in the clip: nowhere, or in a picture of two parts perhaps twice."""
    shot = next((shot for shot in reversed(shots) if shot.start <= face.t), shots[0])
    found: list[Band] = []
    for source, clip in framings(shot, face.t, info, options):
        scale = (clip.bottom - clip.top) / (source.bottom - source.top)
        edges = (face.y - face.height / 2) / info.height, (face.y + face.height / 2) / info.height
        top, bottom = (clip.top + (edge - source.top) * scale for edge in edges)
        is_inside = source.left <= face.x / info.width <= source.right and top < clip.bottom and bottom > clip.top
        if is_inside:
            found.append(Band(max(top, clip.top), min(bottom, clip.bottom)))
    return found
