"""How the lines of a picture belong together in time: whole frames, two fields a frame, or film spread over fields."""

from typing import Literal

from pydantic import BaseModel

ScanKind = Literal["progressive", "interlaced", "telecined"]

LEAST_SHARE = 0.1
"""Share of the frames that tell anything below which combed ones are chance: the file's flags are wrong."""
FILM_SHARE = 0.1
"""Of five frames of 3:2 pulldown one repeats its top field and one its bottom field; half of that tells film."""


class Scan(BaseModel):
    """`top_first` is the order of the fields; None where the frames' own flags tell it."""

    kind: ScanKind = "progressive"
    top_first: bool | None = None


class FieldCounts(BaseModel):
    """What ffmpeg's idet counted in a range of `frames`: frames by their fields; those of no motion are in none.

    `repeated` counts frames that repeat a field of the frame before: the top or the bottom one, whichever are fewer.
    """

    top_first: int = 0
    bottom_first: int = 0
    progressive: int = 0
    frames: int = 0
    repeated: int = 0


def judge(counts: FieldCounts | None) -> Scan:
    """The scan of a range whose frames are flagged as interlaced.

    Flags are often wrong: what was filmed in whole frames is sent as fields (PsF), and film at 24 frames is
    spread over 60 fields. A picture without motion tells nothing, then the flags count.
    """
    if counts is None:
        return Scan(kind="interlaced")
    combed = counts.top_first + counts.bottom_first
    known = combed + counts.progressive
    if known and combed < LEAST_SHARE * known:
        return Scan(kind="progressive")
    top_first = _majority(counts.top_first, counts.bottom_first)
    is_film = combed and counts.repeated >= FILM_SHARE * counts.frames
    return Scan(kind="telecined" if is_film else "interlaced", top_first=top_first)


def _majority(top: int, bottom: int) -> bool | None:
    return top > bottom if max(top, bottom) > 4 * min(top, bottom) else None
