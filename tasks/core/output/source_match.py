"""Compare a clip's sound and picture with its source at the seconds it was cut from."""

from collections.abc import Sequence
from math import log10, sqrt

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tasks.core.captions.presets import Band
from tasks.core.media import MediaInfo
from tasks.core.output.render_plan import RenderOptions
from tasks.core.picture.camera import Shot
from tasks.core.picture.motion import stretches
from tasks.core.picture.placement import WHOLE, placed, rows_above
from tasks.core.picture.reframe import upper_half

BINS_PER_SECOND = 100
"""A lag of 40 ms is four bins."""
FLOOR_DB = -120.0
WINDOW_SECONDS = 4.0
"""Length of the windows in which a lag is measured."""
MAX_LAG = 0.5
"""Largest lag to search for, in seconds, early or late."""
DYNAMIC_RANGE_DB = 45.0
"""Levels further below the loudest bin are raised to this floor, because codecs change the noise below it."""
MIN_VARIATION_DB = 1.5
"""A window whose levels have a smaller standard deviation is too steady to show a lag."""
SAME_PEAK = 0.003
"""Correlations this close to the best count as equal; the smallest of their lags is used."""
SILENT_DBFS, AUDIBLE_DBFS = -50.0, -40.0
"""The clip is silent below the first, the source audible above the second. Speech is at about -17."""
SHORTEST_SILENCE = 0.15
LAG_TOLERANCE = 0.040
"""Most seconds between a clip's sound and its source's."""
CANCELLED_DB = 12.0
"""Loss in mono that only channels in opposite phase reach; unrelated channels lose 3 dB."""
CANCELLATION_SECONDS = 0.2
"""Seconds over which the loss in mono is averaged."""


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


SAMPLES_PER_SECOND = 10
"""Frames of a finished clip to compare."""
FEWEST_FRAMES = 5
"""Frames of the source to compare with; with fewer, the picture counts as not compared."""
LUMA, CHROMA = (32, 32), (8, 8)
"""Width and height of the compared planes, whatever the picture's aspect."""
SAMPLE_SLACK = 2
"""Sampled frames before and after the expected one that may match: only about every third frame is sampled."""
COVER_ROOM = 0.02
"""Share of the picture's height beside what is covered that is not compared either: a row of a plane covers more."""
FLAT_VARIANCE = 1.0
"""Grey levels squared: a plane with less variance than codec noise counts as flat."""
MAX_CHROMA_DIFFERENCE, MAX_LUMA_DIFFERENCE = 80.0, 100.0
"""Mean differences of chroma and luma, out of 255, that count as much as uncorrelated shapes."""


class Box(BaseModel):
    """A rectangle in a picture, in shares of its width and height."""

    model_config = ConfigDict(frozen=True)

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0


class SourceFrame(BaseModel):
    """The part of the source that the camera shows `t` seconds into the clip, as small uint8 planes.

    `box` is where it appears in the clip. `luma` has size LUMA; `chroma` is Cb, then Cr, each of size CHROMA.
    `same_colours` is false if rendering changes the colours, as tone mapping does. `source_change` is the
    distance (see FrameMatch) to the source's own picture a moment earlier.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    box: Box
    luma: bytes
    chroma: bytes
    same_colours: bool = True
    t: float = 0.0
    source_change: float = 0.0

    def at_clip_time(self, t: float, earlier: "SourceFrame", covered: Sequence[Band]) -> "SourceFrame":
        """This frame at clip time `t`; `earlier` is what the source showed a moment before."""
        frames = ClipFrames(self.box)
        frames.luma.append(np.frombuffer(earlier.luma, np.uint8).reshape(LUMA))
        frames.chroma.append(np.frombuffer(earlier.chroma, np.uint8).reshape(2, *CHROMA))
        match = frames.match(self, covered)
        return self.model_copy(update={"t": round(t, 3), "source_change": match.distance if match else 0.0})


def covered_rows(captions: Band, card: Band | None) -> list[Band]:
    """The rows of a clip that are not compared, because captions or a card may cover them."""
    return [captions, *([card] if card else [])]


class SourceExcerpt(BaseModel):
    """Sound and some frames of the source during a clip, on the clip's clock."""

    sound: SoundLevels
    frames: list[SourceFrame]


def framing(shot: Shot, at: float, info: MediaInfo, options: RenderOptions) -> tuple[Box, Box]:
    """The box of the source that the camera shows at `at`, and the box of the clip where it appears.

    Of a picture in two parts, it is the upper one in one half second and the lower one in the next.
    """
    if shot.layout in ("split", "screen"):
        return framings(shot, at, info, options)[int(2 * at) % 2]
    return framings(shot, at, info, options)[0]


def framings(shot: Shot, at: float, info: MediaInfo, options: RenderOptions) -> list[tuple[Box, Box]]:
    """The same, with both parts of a picture that has two."""
    if shot.layout == "screen":
        edge = rows_above((info.width, info.height), (options.width, options.height)) / options.height
        below = _framing(shot.model_copy(update={"layout": "still"}), at, info, options)[0]
        return [(Box(), Box(bottom=edge)), (below, Box(top=edge))]
    if shot.layout == "split":
        middle = upper_half((options.width, options.height))[1] / options.height
        parts = [shot.model_copy(update={"layout": "still", "keys": [key]}) for key in shot.keys]
        places = Box(bottom=middle), Box(top=middle)
        return [(_framing(part, at, info, options)[0], place) for part, place in zip(parts, places, strict=True)]
    return [_framing(shot, at, info, options)]


def _framing(shot: Shot, at: float, info: MediaInfo, options: RenderOptions) -> tuple[Box, Box]:
    width, height = shot.crop_width or info.width, shot.crop_height or info.height
    times = [key.t for key in shot.keys] or [0.0]
    x, y = (
        float(np.interp(np.array([at]), np.array(times), np.array(places))[0])
        for places in ([key.x for key in shot.keys] or [0.0], [key.y for key in shot.keys] or [0.0])
    )
    source = Box(
        left=x / info.width, top=y / info.height, right=(x + width) / info.width, bottom=(y + height) / info.height
    )
    if shot.layout not in WHOLE:
        return source, Box()
    left, top, across, down = placed(shot.layout, (width, height), (options.width, options.height))
    right, bottom = (left + across) / options.width, (top + down) / options.height
    return source, Box(left=left / options.width, top=top / options.height, right=right, bottom=bottom)


class Lag(BaseModel):
    """Delay of a clip's sound behind its source's, in seconds, at clip time `t`; `match` is the correlation there."""

    t: float
    lag: float
    match: float


def lags(clip: SoundLevels, source: SoundLevels) -> list[Lag]:
    """The lag of each window of the clip whose levels vary enough, by correlating the levels."""
    in_clip, in_source = (_levels(sound.channels) for sound in (clip, source))
    bins = min(len(in_clip), len(in_source))
    reach = min(round(MAX_LAG * BINS_PER_SECOND), bins // 4)
    size = min(round(WINDOW_SECONDS * BINS_PER_SECOND), bins - 2 * reach)
    if size < BINS_PER_SECOND // 2:
        return []
    count = -(-(bins - 2 * reach) // size)
    starts = np.linspace(reach, bins - reach - size, count).round().astype(int)
    return [
        _lag(in_clip, in_source, int(start), size, reach)
        for start in starts
        if in_source[start : start + size].std() >= MIN_VARIATION_DB
    ]


def _levels(decibels: list[float]) -> NDArray[np.float64]:
    levels = np.array(decibels)
    return np.maximum(levels, levels.max(initial=FLOOR_DB) - DYNAMIC_RANGE_DB)


def _lag(in_clip: NDArray[np.float64], in_source: NDArray[np.float64], start: int, size: int, reach: int) -> Lag:
    window = in_source[start : start + size]
    shifts = range(-reach, reach + 1)
    match = [correlation(window, in_clip[start + lag : start + lag + size]) for lag in shifts]
    lag = min((lag for lag, near in zip(shifts, match, strict=True) if near >= max(match) - SAME_PEAK), key=abs)
    return Lag(t=(start + size / 2) / BINS_PER_SECOND, lag=lag / BINS_PER_SECOND, match=round(match[lag + reach], 3))


def correlation(one: NDArray[np.float64], other: NDArray[np.float64], noise: float = 1e-9) -> float:
    """Pearson's correlation of two arrays. Arrays whose variances are both below `noise` count as equal."""
    a, b = (part.ravel() - float(part.mean()) for part in (one, other))
    flat = noise * a.size
    return (float(np.vdot(a, b)) + flat) / (sqrt(float(np.vdot(a, a)) * float(np.vdot(b, b))) + flat)


def dropouts(clip: SoundLevels, source: SoundLevels) -> list[tuple[float, float]]:
    """Stretches (start, end) in which the clip is silent but the source, at the clip's loudness, is not.

    The source is listened to `LAG_TOLERANCE` inside each stretch: its sound may come that much earlier or later, and a
    few hundredths of speech are louder than a whole pause.
    """
    bins = min(len(clip.channels), len(source.channels))
    in_clip, in_source = np.array(clip.channels[:bins]), np.array(source.channels[:bins])
    loud = in_source >= in_source.max(initial=FLOOR_DB) - 20
    in_source = in_source + (np.median((in_clip - in_source)[loud]) if loud.any() else 0.0)
    quiet = stretches(list(in_clip < SILENT_DBFS), 0.0, BINS_PER_SECOND, SHORTEST_SILENCE)
    audible = (_power(in_source, start + LAG_TOLERANCE, end - LAG_TOLERANCE) > AUDIBLE_DBFS for start, end in quiet)
    return [stretch for stretch, is_audible in zip(quiet, audible, strict=True) if is_audible]


def _power(decibels: NDArray[np.float64], start: float, end: float) -> float:
    """Mean power of a stretch in dB."""
    part = decibels[round(start * BINS_PER_SECOND) : round(end * BINS_PER_SECOND)]
    return 10 * log10(float(np.mean(np.power(10.0, part / 10))))


def _linear(decibels: list[float]) -> NDArray[np.float64]:
    return np.array([10 ** (level / 10) for level in decibels])


def lost_in_mono(clip: SoundLevels) -> float:
    """Share of the audible time (0 to 1) in which the sound almost vanishes when mixed to mono."""
    if not clip.channels:
        return 0.0
    window = np.full(round(CANCELLATION_SECONDS * BINS_PER_SECOND), 1 / (CANCELLATION_SECONDS * BINS_PER_SECOND))
    channels, mono = (np.convolve(_linear(part), window, "same") for part in (clip.channels, clip.mono))
    audible = channels > 10 ** (AUDIBLE_DBFS / 10)
    lost = audible & (mono < channels * 10 ** (-CANCELLED_DB / 10))
    return float(lost.sum() / max(audible.sum(), 1))


class FrameMatch(BaseModel):
    """How closely a clip matches the source's frame at clip time `t`.

    `distance` is 0 for identical pictures and 1 or more for unrelated ones. `closest` is the smallest distance
    to any sampled frame of the clip, found at `closest_t`. `source_change` is copied from the SourceFrame.
    """

    t: float
    distance: float
    closest: float
    closest_t: float
    source_change: float = 0.0


class ClipFrames:
    """Small planes of a clip's sampled frames, cropped to `box`."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.luma: list[NDArray[np.uint8]] = []
        self.chroma: list[NDArray[np.uint8]] = []

    def match(self, wanted: SourceFrame, covered: Sequence[Band]) -> FrameMatch | None:
        """Compare with a source frame of the same box outside `covered` rows; None if there are no frames."""
        if not self.luma:
            return None
        luma = _uncovered(np.frombuffer(wanted.luma, np.uint8).reshape(1, *LUMA), self.box, covered)[0]
        chroma = _uncovered(np.frombuffer(wanted.chroma, np.uint8).reshape(2, *CHROMA), self.box, covered)
        lumas = _uncovered(np.array(self.luma), self.box, covered)
        chromas = _uncovered(np.array(self.chroma), self.box, covered)
        distances = np.array(
            [_distance(luma, chroma, *planes, wanted.same_colours) for planes in zip(lumas, chromas, strict=True)]
        )
        expected = min(round(wanted.t * SAMPLES_PER_SECOND), len(distances) - 1)
        near = distances[max(expected - SAMPLE_SLACK, 0) : expected + SAMPLE_SLACK + 1]
        closest = int(distances.argmin())
        return FrameMatch(
            t=wanted.t,
            distance=round(float(near.min()), 4),
            closest=round(float(distances[closest]), 4),
            closest_t=closest / SAMPLES_PER_SECOND,
            source_change=wanted.source_change,
        )


def _uncovered(planes: NDArray[np.uint8], box: Box, covered: Sequence[Band]) -> NDArray[np.float64]:
    """Rows (second to last axis) of planes that nothing can cover."""
    rows = planes.shape[-2]
    height = (box.bottom - box.top) / rows
    middles = [box.top + (row + 0.5) * height for row in range(rows)]
    free = np.array([not any(band.holds(middle, COVER_ROOM) for band in covered) for middle in middles])
    return planes[..., free if free.any() else slice(None), :].astype(np.float64)


def _distance(
    luma: NDArray[np.float64],
    chroma: NDArray[np.float64],
    other_luma: NDArray[np.float64],
    other_chroma: NDArray[np.float64],
    same_colours: bool,
) -> float:
    shape = 1 - correlation(luma, other_luma, FLAT_VARIANCE)
    if not same_colours:
        return shape
    tint = float(np.abs(chroma - other_chroma).mean()) / MAX_CHROMA_DIFFERENCE
    return max(shape, tint, abs(luma.mean() - other_luma.mean()) / MAX_LUMA_DIFFERENCE)
