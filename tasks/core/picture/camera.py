"""The virtual camera: what reframing decides and rendering draws.

Positions are pixels of the source picture as displayed (after rotation, square pixels);
times are seconds from the start of the source.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.core.picture.field_order import Scan
from tasks.core.picture.placement import Layout


class Picture(BaseModel):
    """The part of the frame inside the bars, in whole even pixels."""

    left: int
    top: int
    width: int
    height: int


class CropKey(BaseModel):
    """Top-left corner of the crop at time `t`; between keys, the crop moves linearly."""

    t: float
    x: float
    y: float


class Shot(BaseModel):
    """One uncut stretch of the source and its framing; `keys` has one item unless the layout is
    `pan`, or `split`: then the first is the upper crop, the second the lower. That of `screen` is the crop below the
    whole frame.

    `crop_width` and `crop_height` are 0 for `cover`, and for `fit` unless only a part is fitted in. `reason` explains
    the decision.
    """

    start: float
    end: float
    layout: Layout
    crop_width: int = 0
    crop_height: int = 0
    keys: list[CropKey] = Field(default_factory=list[CropKey])
    faces: int = 0
    reason: str = ""


class FaceBox(BaseModel):
    """A detected face: centre, size and confidence (0 to 1), at time `t`.

    `mouth` is how much the mouth moved until the next detection, less the motion of the head, in percent of the
    face's contrast per frame: talking is 1.5 to 5, silence below 1. It is 0 if it could not be measured or,
    with only one face in the picture, did not need to be.
    """

    t: float
    x: float
    y: float
    width: float
    height: float
    score: float
    mouth: float = 0.0


class RangeAnalysis(BaseModel):
    """The results of one low-resolution pass over a range of the source.

    `cuts` are the times at which a new shot begins, excluding `start` and `end`; `samples` are the times
    at which face detection ran. `black` and `frozen` are stretches (start, end) without a picture or without
    motion. `pictures` holds the frame without its bars for each shot between cuts, or None if it has no bars;
    an empty list means that no shot has bars. `fault` is the detector's message if face detection stopped
    partway, else None. `scan` tells how a frame's lines relate in time. `motion` is the difference in grey
    levels between each cell of each frame and the previous frame: (frames, rows, columns).
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    start: float
    end: float
    fps: float
    cuts: list[float] = Field(default_factory=list[float])
    faces: list[FaceBox] = Field(default_factory=list[FaceBox])
    samples: list[float] = Field(default_factory=list[float])
    black: list[tuple[float, float]] = Field(default_factory=list[tuple[float, float]])
    frozen: list[tuple[float, float]] = Field(default_factory=list[tuple[float, float]])
    pictures: list[Picture | None] = Field(default_factory=list[Picture | None])
    fault: str | None = None
    scan: Scan = Scan()
    motion: NDArray[np.float32] = Field(default_factory=lambda: np.zeros((0, 1, 1), np.float32), exclude=True)
