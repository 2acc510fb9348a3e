"""Chooses the frame of a finished clip that stands for it while it is not playing."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel

OPEN_EYES = 0.85
"""Vertical edges at the eyes, relative to the upper quartile of the same person's, from which they count as open. In
footage of four people, that chose closed eyes once in 300 times; any frame at random has them once in ten."""
FEWEST_LOOKS = 4
"""Faces in a shot that are compared among themselves; fewer are compared with all of the clip."""
SMALLEST_FACE = 0.08
"""Share of the picture's width: the eyes of smaller faces cannot be measured."""
LEAST_CONTRAST = 8.0
"""Standard deviation of the luma, of 255, below which a picture counts as empty: black, white, or faded."""
_SHARP, _LARGE, _WHOLE, _UNCAPTIONED, _EARLY = 1.5, 1.0, 1.0, 0.5, 0.2
"""What each quality adds to a frame's score at most. Sharpness and size are relative to other frames of the clip."""
_SHARPEST = 1.2
"""Times the usual sharpness from which more does not count: it is noise, or another background."""


class PosterFace(BaseModel):
    """The largest face of a frame.

    `width` is its share of the picture's width; `eyes` is the mean difference of horizontal neighbours at the
    clearer eye, relative to the skin's brightness. Iris and white of an open eye meet in vertical edges; the lashes
    of a closed one are a horizontal line.
    """

    width: float
    is_whole: bool
    eyes: float


class PosterCandidate(BaseModel):
    """A frame at clip time `t` seconds.

    `sharpness` is the standard deviation of its Laplacian, at the face if there is one. `contrast` is the standard
    deviation of its luma. `is_steady` means that no cut or flash is beside it. Shots are numbered by cuts.
    """

    t: float
    shot: int = 0
    is_steady: bool = True
    is_captioned: bool = False
    contrast: float
    sharpness: float
    face: PosterFace | None = None


_Kind = Literal["closed eyes", "no face", "open eyes"]
_RANKS: list[_Kind] = ["closed eyes", "no face", "open eyes"]


def choose_poster(candidates: Sequence[PosterCandidate]) -> PosterCandidate:
    """The best candidate; raises ValueError if there is none.

    A frame with a picture and no cut beside it comes first, then a face with open eyes, then a frame without a
    face. Among equals, a sharp frame with a large, whole face and no caption wins, and the earlier of two such.
    """
    return max(
        candidates, key=lambda one: (_is_clean(one), _RANKS.index(_kind(one, candidates)), _score(one, candidates))
    )


def _is_clean(one: PosterCandidate) -> bool:
    return one.is_steady and one.contrast >= LEAST_CONTRAST


def _face(one: PosterCandidate) -> PosterFace | None:
    return one.face if one.face and one.face.width >= SMALLEST_FACE else None


def _kind(one: PosterCandidate, candidates: Sequence[PosterCandidate]) -> _Kind:
    face = _face(one)
    if face is None:
        return "no face"
    faces = [(other.shot, its.eyes) for other in candidates if (its := _face(other))]
    in_shot = [eyes for shot, eyes in faces if shot == one.shot]
    usual = _upper_quartile(in_shot if len(in_shot) >= FEWEST_LOOKS else [eyes for _, eyes in faces])
    return "open eyes" if face.eyes >= OPEN_EYES * usual else "closed eyes"


def _score(one: PosterCandidate, candidates: Sequence[PosterCandidate]) -> float:
    face = _face(one)
    alike = [other for other in candidates if (_face(other) is None) == (face is None)]
    usual = _upper_quartile([other.sharpness for other in alike])
    score = _SHARP * min(one.sharpness / max(usual, 1e-6), _SHARPEST)
    score += _UNCAPTIONED * (not one.is_captioned)
    score -= _EARLY * one.t / (1 + max(other.t for other in candidates))
    if face:
        largest = max(other.face.width for other in candidates if other.face)
        score += _LARGE * face.width / largest + _WHOLE * face.is_whole
    return score


def _upper_quartile(values: list[float]) -> float:
    return float(np.percentile(values, 75))
