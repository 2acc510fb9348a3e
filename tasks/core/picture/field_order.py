"""How a picture's lines relate in time: whole frames, two fields per frame, or film spread over fields."""

from typing import Literal

from pydantic import BaseModel

ScanKind = Literal["progressive", "interlaced", "telecined"]

MIN_SHARE = 0.1
"""Share of combed frames among conclusive ones below which they are chance and the file's flags are wrong."""
FILM_SHARE = 0.1
"""In 3:2 pulldown, one frame in five repeats its top field and one its bottom field; half of that means film."""


class Scan(BaseModel):
    """`top_first` is the field order, or None if the frames' own flags give it."""

    kind: ScanKind = "progressive"
    top_first: bool | None = None


class FieldCounts(BaseModel):
    """Counts by ffmpeg's idet over a range of `frames`: moving frames by field order.

    `repeated` counts frames that repeat a field of the previous frame: top or bottom, whichever is rarer.
    """

    top_first: int = 0
    bottom_first: int = 0
    progressive: int = 0
    frames: int = 0
    repeated: int = 0


def classify_scan(counts: FieldCounts | None) -> Scan:
    """The scan of a range whose frames are flagged as interlaced.

    Flags are often wrong: whole frames are sent as fields (PsF), and film at 24 frames per second is spread
    over 60 fields. A picture without motion proves nothing, so then the flags count.
    """
    if counts is None:
        return Scan(kind="interlaced")
    combed = counts.top_first + counts.bottom_first
    known = combed + counts.progressive
    if known and combed < MIN_SHARE * known:
        return Scan(kind="progressive")
    top_first = _majority(counts.top_first, counts.bottom_first)
    is_film = combed and counts.repeated >= FILM_SHARE * counts.frames
    return Scan(kind="telecined" if is_film else "interlaced", top_first=top_first)


def _majority(top: int, bottom: int) -> bool | None:
    return top > bottom if max(top, bottom) > 4 * min(top, bottom) else None
