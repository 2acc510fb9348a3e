"""Whether a clip sounds and looks like its source at the seconds that it was cut from."""

from math import log10, sqrt

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tasks.core.captions.ass import CENTRE
from tasks.core.media import MediaInfo
from tasks.core.out.render_plan import RenderOptions
from tasks.core.picture.camera import Shot
from tasks.core.picture.stills import stretches

BINS_A_SECOND = 100
"""Levels a second: a lag of 40 ms is four of them."""
FLOOR_DB = -120.0
WINDOW_SECONDS = 4.0
"""Length of the sound that a lag is read from."""
FARTHEST_LAG = 0.5
"""Seconds to either side that a lag is looked for in."""
HEARD_DB = 45.0
"""Below the loudest hundredth by more than this, nothing is compared: it is noise, and codecs change it."""
TELLING_DB = 1.5
"""Standard deviation of a window's levels below which the sound is steady, and tells no time."""
SAME_PEAK = 0.003
"""Correlations nearer to the best than this are as good; the smallest lag of them counts."""
SILENT_DBFS, AUDIBLE_DBFS = -50.0, -40.0
"""A clip is silent below the first; a source that would be above the second there is not. Speech is at about -17."""
SHORTEST_SILENCE = 0.15
CANCELLED_DB = 12.0
"""Channels without anything in common lose 3 dB in mono, so this is what only opposite channels do."""
CANCELLING_OVER = 0.2
"""Seconds over which the loss in mono is measured."""


class SoundLevels(BaseModel):
    """Level of each hundredth of a second in dBFS: `channels` is their mean power, `mono` that of their mean."""

    channels: list[float]
    mono: list[float]

    @classmethod
    def of(cls, channels: NDArray[np.float64], mono: NDArray[np.float64]) -> "SoundLevels":
        """From mean squares."""
        return cls(channels=_decibels(channels), mono=_decibels(mono))


def _decibels(power: NDArray[np.float64]) -> list[float]:
    return [round(float(v), 1) for v in 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))]


LOOKS_A_SECOND = 10
"""Looks at a finished clip."""
LUMA, CHROMA = (32, 32), (8, 8)
"""Size of the planes that are compared, whatever the shape of what they show."""


LOOK_SLACK = 2
"""Looks to either side of a glimpse that may be its own: only every third frame or so of a clip is looked at."""
CAPTION_ROOM = 0.1
"""Half height of the band that captions may cover, as a share of the picture's."""
FLAT_VARIANCE = 1.0
"""Grey levels squared: what differs less than a codec's noise is flat."""
OTHER_TINT, OTHER_LIGHT = 80.0, 100.0
"""Mean differences of chroma and of luma, of 255, that are as much as no likeness of shapes at all."""


class Box(BaseModel):
    """A part of a picture, as shares of its width and height."""

    model_config = ConfigDict(frozen=True)

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


class Glimpse(BaseModel):
    """What the source shows `t` seconds into the clip, and where in the clip's picture: planes of uint8.

    `luma` is LUMA large, `chroma` is Cb and then Cr, each CHROMA large. `same_colours` is false for
    a source whose colours are changed on the way, by tone mapping for one; `change` is how unlike
    the picture was a moment before.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    box: Box
    luma: bytes
    chroma: bytes
    same_colours: bool = True
    t: float = 0.0
    change: float = 0.0

    def placed(self, t: float, earlier: "Glimpse") -> "Glimpse":
        """The same at `t` of the clip, where the picture a moment earlier was `earlier`."""
        looks = Looks(self.box)
        looks.luma.append(np.frombuffer(earlier.luma, np.uint8).reshape(LUMA))
        looks.chroma.append(np.frombuffer(earlier.chroma, np.uint8).reshape(2, *CHROMA))
        likeness = looks.compare(self)
        return self.model_copy(update={"t": round(t, 3), "change": likeness.unlike if likeness else 0.0})


class SourceView(BaseModel):
    """What the source sounds like and shows in the seconds of a clip, on the clip's clock."""

    sound: SoundLevels
    glimpses: list[Glimpse]


def framing(shot: Shot, at: float, info: MediaInfo, options: RenderOptions) -> tuple[Box, Box]:
    """Which part of the source the camera shows at a moment, and in which part of the clip's picture."""
    width, height = shot.crop_width or info.width, shot.crop_height or info.height
    times = [key.t for key in shot.keys] or [0.0]
    x, y = (
        float(np.interp(np.array([at]), np.array(times), np.array(places))[0])
        for places in ([key.x for key in shot.keys] or [0.0], [key.y for key in shot.keys] or [0.0])
    )
    source = Box(
        left=x / info.width, top=y / info.height, right=(x + width) / info.width, bottom=(y + height) / info.height
    )
    if shot.layout != "fit":
        return source, Box()
    scale = min(options.width / width, options.height / height)
    across, down = width * scale / options.width, height * scale / options.height
    return source, Box(left=(1 - across) / 2, top=(1 - down) / 2, right=(1 + across) / 2, bottom=(1 + down) / 2)


class Lag(BaseModel):
    """How much later a clip's sound is than its source's, in seconds, at `t` of the clip; `match` is 1 at best."""

    t: float
    lag: float
    match: float


def lags(clip: SoundLevels, source: SoundLevels) -> list[Lag]:
    """The lag of each window of the clip whose sound tells one, from the correlation of the levels."""
    heard, said = (_levels(sound.channels) for sound in (clip, source))
    bins = min(len(heard), len(said))
    reach = min(round(FARTHEST_LAG * BINS_A_SECOND), bins // 4)
    size = min(round(WINDOW_SECONDS * BINS_A_SECOND), bins - 2 * reach)
    if size < BINS_A_SECOND // 2:
        return []
    count = -(-(bins - 2 * reach) // size)
    starts = np.linspace(reach, bins - reach - size, count).round().astype(int)
    return [
        _lag(heard, said, int(start), size, reach) for start in starts if said[start : start + size].std() >= TELLING_DB
    ]


def _levels(decibels: list[float]) -> NDArray[np.float64]:
    levels = np.array(decibels)
    return np.maximum(levels, levels.max(initial=FLOOR_DB) - HEARD_DB)


def _lag(heard: NDArray[np.float64], said: NDArray[np.float64], start: int, size: int, reach: int) -> Lag:
    window = said[start : start + size]
    shifts = range(-reach, reach + 1)
    match = [correlation(window, heard[start + lag : start + lag + size]) for lag in shifts]
    lag = min((lag for lag, near in zip(shifts, match, strict=True) if near >= max(match) - SAME_PEAK), key=abs)
    return Lag(t=(start + size / 2) / BINS_A_SECOND, lag=lag / BINS_A_SECOND, match=round(match[lag + reach], 3))


def correlation(one: NDArray[np.float64], other: NDArray[np.float64], noise: float = 1e-9) -> float:
    """Pearson's correlation of two arrays; `noise` is a variance below which both count as flat and so alike."""
    a, b = (part.ravel() - float(part.mean()) for part in (one, other))
    flat = noise * a.size
    return (float(np.vdot(a, b)) + flat) / (sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b))) + flat)


def silences(clip: SoundLevels, source: SoundLevels) -> list[tuple[float, float]]:
    """Stretches (start, end) in which the clip is silent and the source, as loud as the clip is, would not be."""
    bins = min(len(clip.channels), len(source.channels))
    heard, said = np.array(clip.channels[:bins]), np.array(source.channels[:bins])
    loud = said >= said.max(initial=FLOOR_DB) - 20
    said = said + (np.median((heard - said)[loud]) if loud.any() else 0.0)
    quiet = stretches(list(heard < SILENT_DBFS), 0.0, BINS_A_SECOND, SHORTEST_SILENCE)
    return [(start, end) for start, end in quiet if _power(said, start, end) > AUDIBLE_DBFS]


def _power(decibels: NDArray[np.float64], start: float, end: float) -> float:
    """Mean power of a stretch in dB."""
    part = decibels[round(start * BINS_A_SECOND) : round(end * BINS_A_SECOND)]
    return 10 * log10(float(np.mean(np.power(10.0, part / 10))))


def _linear(decibels: list[float]) -> NDArray[np.float64]:
    return np.array([10 ** (level / 10) for level in decibels])


def lost_in_mono(clip: SoundLevels) -> float:
    """Share (0 to 1) of the audible sound, by time, that all but vanishes when the channels are added."""
    if not clip.channels:
        return 0.0
    window = np.full(round(CANCELLING_OVER * BINS_A_SECOND), 1 / (CANCELLING_OVER * BINS_A_SECOND))
    channels, mono = (np.convolve(_linear(part), window, "same") for part in (clip.channels, clip.mono))
    audible = channels > 10 ** (AUDIBLE_DBFS / 10)
    lost = audible & (mono < channels * 10 ** (-CANCELLED_DB / 10))
    return float(lost.sum() / max(audible.sum(), 1))


class Likeness(BaseModel):
    """How much a clip looks like a glimpse of its source, `t` seconds into the clip.

    `unlike` is 0 where they are the same and grows to 1 and above; `best` is the least anywhere in the
    clip, at `best_t`; `change` is how unlike the source itself was a moment before.
    """

    t: float
    unlike: float
    best: float
    best_t: float
    change: float = 0.0


class Looks:
    """Small planes of a clip, one entry a look, of the part in `box`."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.luma: list[NDArray[np.uint8]] = []
        self.chroma: list[NDArray[np.uint8]] = []

    def compare(self, glimpse: Glimpse) -> Likeness | None:
        """The likeness of the looks to a glimpse of the same box; captions are left out of it."""
        if not self.luma:
            return None
        seen = _without_captions(np.frombuffer(glimpse.luma, np.uint8).reshape(1, *LUMA), self.box)[0]
        tints = _without_captions(np.frombuffer(glimpse.chroma, np.uint8).reshape(2, *CHROMA), self.box)
        unlike = np.array(
            [
                _unlike(seen, tints, luma, chroma, glimpse.same_colours)
                for luma, chroma in zip(
                    _without_captions(np.array(self.luma), self.box),
                    _without_captions(np.array(self.chroma), self.box),
                    strict=True,
                )
            ]
        )
        at = min(round(glimpse.t * LOOKS_A_SECOND), len(unlike) - 1)
        best = int(unlike.argmin())
        return Likeness(
            t=glimpse.t,
            unlike=round(float(unlike[max(at - LOOK_SLACK, 0) : at + LOOK_SLACK + 1].min()), 4),
            best=round(float(unlike[best]), 4),
            best_t=best / LOOKS_A_SECOND,
            change=glimpse.change,
        )


def _without_captions(planes: NDArray[np.uint8], box: Box) -> NDArray[np.float64]:
    """The rows (second to last axis) of planes that no caption covers."""
    rows = planes.shape[-2]
    height = (box.bottom - box.top) / rows
    free = np.array([abs(box.top + (row + 0.5) * height - CENTRE) > CAPTION_ROOM for row in range(rows)])
    return planes[..., free if free.any() else slice(None), :].astype(np.float64)


def _unlike(
    seen: NDArray[np.float64],
    tints: NDArray[np.float64],
    luma: NDArray[np.float64],
    chroma: NDArray[np.float64],
    same_colours: bool,
) -> float:
    shape = 1 - correlation(seen, luma, FLAT_VARIANCE)
    if not same_colours:
        return shape
    return max(shape, float(np.abs(tints - chroma).mean()) / OTHER_TINT, abs(seen.mean() - luma.mean()) / OTHER_LIGHT)
