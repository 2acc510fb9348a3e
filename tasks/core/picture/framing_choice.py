"""The framing that a person may choose for a segment."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_ZOOM = 3


class _FramingChoice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Automatic(_FramingChoice):
    """The camera follows faces and speakers, and shows the whole picture where it cannot."""

    kind: Literal["auto"]


class Fit(_FramingChoice):
    """The whole picture over a blurred copy of itself."""

    kind: Literal["fit"]


class Crop(_FramingChoice):
    """A crop at rest. It moves along the side of the picture that is too long for the clip."""

    kind: Literal["crop"]
    at: float = Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Where the crop's middle is: 0 is the left or upper edge, 1 the right or lower. "
        "Near an edge, the crop touches it.",
    )
    zoom: float = Field(
        default=1.0,
        ge=1,
        le=MOST_ZOOM,
        allow_inf_nan=False,
        exclude_if=lambda zoom: zoom == 1,
        description="How much larger the picture is: at 2, the crop is half as wide and half as high.",
    )
    cross: float = Field(
        default=0.5,
        ge=0,
        le=1,
        allow_inf_nan=False,
        exclude_if=lambda cross: cross == 0.5,
        description="Where the middle of a crop with a zoom is along the picture's other side.",
    )


class Split(_FramingChoice):
    """Two crops at rest, one above the other: for two people side by side. Each moves as `crop` does."""

    kind: Literal["split"]
    upper: float = Field(ge=0, le=1, allow_inf_nan=False, description="Where the upper crop's middle is.")
    lower: float = Field(ge=0, le=1, allow_inf_nan=False, description="Where the lower crop's middle is.")


class People(_FramingChoice):
    """Two people, one above the other: a crop at rest for each. Where no two are found, the camera follows."""

    kind: Literal["people"]


class Screen(_FramingChoice):
    """The whole picture above, the face in it enlarged below. Without a face or room for it, the whole picture."""

    kind: Literal["screen"]


Framing = Annotated[Automatic | Fit | Crop | Split | People | Screen, Field(discriminator="kind")]
"""What the camera shows of a segment."""
AUTOMATIC = Automatic(kind="auto")
FINDS_FACES = (Automatic, People, Screen)
"""The framings for which faces are looked for."""
