"""Where the virtual camera looks: what reframing decides and rendering draws.

Positions are pixels of the source picture as shown (after rotation, square pixels);
times are seconds from the start of the source.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from tasks.core.picture.field_order import Scan

Layout = Literal["still", "pan", "fit"]
"""still: one crop; pan: a crop that moves; fit: the whole frame over a blurred background."""


class Picture(BaseModel):
    """The part of the frame that ever shows something: without the bars around it, in whole even pixels."""

    left: int
    top: int
    width: int
    height: int


class CropKey(BaseModel):
    """Top-left corner of the crop at time `t`; between keys the crop moves linearly."""

    t: float
    x: float
    y: float


class Shot(BaseModel):
    """One uncut stretch of the source and how it is framed; `keys` has one item unless `pan`.

    `crop_width` and `crop_height` are 0 for `fit`, unless bars around the picture are left out.
    `reason` is the decision in words.
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
    """A detected face: centre, size and confidence 0 to 1, at time `t`.

    `mouth` is how much the mouth moved until the next look beyond the motion of the head, in percent
    of the face's contrast a frame: talking is 1.5 to 5, silence below 1; 0 where it could not be
    or, with one face in the picture, need not be read.
    """

    t: float
    x: float
    y: float
    width: float
    height: float
    score: float
    mouth: float = 0.0


class RangeAnalysis(BaseModel):
    """What one small pass over a range of the source saw.

    `cuts` are the times at which a new shot begins, `start` and `end` excluded; `samples` the times
    at which faces were looked for. `black` and `frozen` are stretches (start, end) without a picture
    or without motion. `pictures` are, for each shot between the cuts, the frame without its bars, None
    where it has none; an empty list means that there are none anywhere. `fault` is why faces were looked
    for no longer from some point on, the detector's own words; None where it did not fail. `scan` is how
    the lines of the frames belong together. `motion` is by how many grey levels each cell of each frame
    differs from the frame before: (frames, rows, columns).
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
