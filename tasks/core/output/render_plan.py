"""Turn an EDL clip and the camera's shots into frames, pieces and crop expressions.

There are two clocks: the source's (seconds from its start) and the clip's (seconds from the first frame
of the finished file). Segments are cut to whole frames to keep picture and sound in sync.
"""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Literal

from pydantic import BaseModel, Field

from tasks.core.appearance import Ratio
from tasks.core.edl import EdlClip, Span
from tasks.core.media import MediaInfo
from tasks.core.picture.camera import CropKey, Shot
from tasks.core.picture.field_order import Scan
from tasks.core.picture.placement import Layout

TARGET_LUFS = -14.0
MAX_TRUE_PEAK = -1.0
"""dBTP."""
_NTSC = [Fraction(n, 1001) for n in (24000, 30000, 60000)]
_STANDARD_RATES = sorted([*_NTSC, *map(Fraction, (24, 25, 30, 50, 60, 120))])
LONGEST_SKIP = 3.0
"""Seconds between two segments that cost less to decode than a second decoder."""
_SAME_RATE = 0.005
"""Share by which the average rate of real files differs from their nominal rate."""


class RenderOptions(BaseModel):
    """How clips are rendered.

    `parallel` is the number of simultaneous encodes; None chooses by cores. `threads` are those of x264; None lets it
    choose.
    """

    width: int = Field(default=1080, ge=16, multiple_of=2)
    height: int = Field(default=1920, ge=16, multiple_of=2)
    max_fps: float = Field(default=30, ge=1, le=120)
    crf: int = Field(default=20, ge=0, le=51)
    preset: str = "veryfast"
    encoder: Literal["auto", "x264", "nvenc"] = "auto"
    parallel: int | None = Field(default=None, ge=1, exclude=True)
    threads: int | None = Field(default=None, ge=1, exclude=True)

    def at_ratio(self, ratio: Ratio | None) -> "RenderOptions":
        """The same for a picture of this ratio: its shorter side stays. None changes nothing."""
        if ratio is None:
            return self
        across, down = map(int, ratio.split(":"))
        scale = min(self.width, self.height) / min(across, down)
        width, height = (2 * round(side * scale / 2) for side in (across, down))
        return self.model_copy(update={"width": width, "height": height})


class Correction(BaseModel):
    """What to change when rendering the same clip again.

    `extra_gain` and `lower_ceiling` are in dB; `dropped_frames` are cut off at the end.
    """

    extra_gain: float = 0.0
    lower_ceiling: float = 0.0
    dropped_frames: int = 0


class Piece(BaseModel):
    """Consecutive frames of a segment with the same framing; `first` counts from the segment's first frame.

    `keys` are on the piece's own clock: 0 at its first frame.
    """

    first: int
    frames: int
    layout: Layout
    crop_width: int = 0
    crop_height: int = 0
    keys: list[CropKey] = Field(default_factory=list[CropKey])


class SegmentPlan(BaseModel):
    """One segment of the source, from `start` seconds, `frames` frames long at the output rate."""

    start: float
    frames: int
    pieces: list[Piece]
    scan: Scan = Scan()


class RenderPlan(BaseModel):
    """Everything an encode needs except file names. `rate_num`/`rate_den` is the exact frame rate."""

    rate_num: int
    rate_den: int
    segments: list[SegmentPlan]

    @property
    def rate(self) -> Fraction:
        return Fraction(self.rate_num, self.rate_den)

    @property
    def frames(self) -> int:
        return sum(segment.frames for segment in self.segments)

    @property
    def duration(self) -> float:
        """Length of the finished clip in seconds."""
        return float(self.frames / self.rate)

    def seconds(self, segment: SegmentPlan) -> float:
        """Length of one segment in seconds."""
        return float(segment.frames / self.rate)


@dataclass(frozen=True)
class OnReel:
    """A segment among those that are decoded in one go. `first` counts its first frame from that of the reel."""

    first: int
    segment: SegmentPlan


def reels(plan: RenderPlan) -> list[list[OnReel]]:
    """The segments in playing order, grouped by what to decode in one go: each begins soon after the one before it.

    A decoder of its own for each of the parts that removed words leave would take 60 MB for a part of 1080p. A segment
    begins with the reel's nearest frame, at most half a frame away.
    """
    found: list[list[OnReel]] = []
    for segment in plan.segments:
        reel = found[-1] if found else []
        if reel and _follows(reel[-1].segment, segment, plan):
            first = round((segment.start - reel[0].segment.start) * plan.rate)
            reel.append(OnReel(first, segment))
        else:
            found.append([OnReel(0, segment)])
    return found


def _follows(before: SegmentPlan, segment: SegmentPlan, plan: RenderPlan) -> bool:
    skipped = segment.start - before.start - plan.seconds(before)
    return segment.scan == before.scan and -1 / plan.rate <= skipped <= LONGEST_SKIP


def frame_rate(source: float, highest: float) -> Fraction:
    """The clip's frame rate: the source's nominal rate, divided by a whole number to stay within `highest`.

    Non-standard rates (variable ones, webcams at 10 fps) are raised to a standard one, so that captions change
    close to their words; repeated frames cost the encoder almost nothing.
    """
    if source <= 0:
        return Fraction(highest).limit_denominator(1001)
    rate = _nominal(source, highest)
    steps = ceil(rate / Fraction(highest) - Fraction(1, 100))
    divided = rate / max(steps, 1)
    return divided if steps <= 1 or divided >= min(23, highest / 2) else Fraction(highest).limit_denominator(1001)


def _nominal(source: float, highest: float) -> Fraction:
    nearest = min(_STANDARD_RATES, key=lambda r: abs(r - source))
    if abs(nearest - source) <= _SAME_RATE * nearest:
        return nearest
    multiples = [(r, times * source) for times in range(2, 31) for r in _STANDARD_RATES if r <= highest]
    rate, multiple = min(multiples, key=lambda pair: abs(pair[0] - pair[1]), default=(nearest, 0.0))
    if abs(rate - multiple) <= _SAME_RATE * rate:
        return rate
    return next((r for r in _STANDARD_RATES if r >= source), Fraction(source).limit_denominator(1001))


def correction_for(integrated: float | None, true_peak: float | None, faults: list[str]) -> Correction:
    """The correction for failed checks, given the loudness (LUFS) and true peak (dBTP) of the first render."""
    extra_gain = TARGET_LUFS - integrated if "loudness" in faults and integrated is not None else 0.0
    above = true_peak - MAX_TRUE_PEAK + 0.5 if "true peak" in faults and true_peak is not None else 0.0
    return Correction(
        extra_gain=extra_gain, lower_ceiling=max(above, 0.0), dropped_frames=1 if "length" in faults else 0
    )


def plan(
    clip: EdlClip,
    shots: list[list[Shot]],
    info: MediaInfo,
    options: RenderOptions,
    dropped_frames: int = 0,
    scans: list[Scan] | None = None,
) -> RenderPlan:
    """The plan for one clip; `shots` has one list for each of its segments, `scans` one item (all progressive if None).

    Frames are counted over the whole clip and rounded down, so the clip is never longer than its EDL;
    `dropped_frames` more are cut off at its end.
    """
    rate = frame_rate(info.pictures_per_second, options.max_fps)
    segments: list[SegmentPlan] = []
    before, elapsed = 0, 0.0
    scans = scans or [Scan()] * len(clip.segments)
    for span, views, scan in zip(clip.segments, shots, scans, strict=True):
        elapsed += span.duration
        upto = floor(elapsed * rate + Fraction(1, 1000))
        if span is clip.segments[-1]:
            upto -= dropped_frames
        if upto > before:
            pieces = _pieces(span, upto - before, views, rate)
            segments.append(SegmentPlan(start=span.start, frames=upto - before, pieces=pieces, scan=scan))
        before = upto
    return RenderPlan(rate_num=rate.numerator, rate_den=rate.denominator, segments=segments)


def _pieces(span: Span, frames: int, shots: list[Shot], rate: Fraction) -> list[Piece]:
    """Shots as runs of frames that cover the segment without gap or overlap."""
    shots = sorted(shots, key=lambda s: s.start) or [Shot(start=span.start, end=span.end, layout="fit")]
    edges = [0] + [min(max(round((s.start - span.start) * rate), 0), frames) for s in shots[1:]] + [frames]
    return [
        _piece(shot, first, last - first, span.start + float(first / rate))
        for shot, first, last in zip(shots, edges, edges[1:], strict=False)
        if last > first
    ]


def _piece(shot: Shot, first: int, frames: int, begins: float) -> Piece:
    keys = [CropKey(t=key.t - begins, x=key.x, y=key.y) for key in sorted(shot.keys, key=lambda k: k.t)]
    return Piece(
        first=first,
        frames=frames,
        layout=shot.layout,
        crop_width=shot.crop_width,
        crop_height=shot.crop_height,
        keys=keys if shot.layout in ("pan", "split") else keys[:1],
    )


def path_expression(points: list[tuple[float, float]]) -> str:
    """An ffmpeg expression in `t` that is linear between (time, value) points and constant outside them.

    It is a flat sum of ramps, because nested `if`s hit the depth limit of ffmpeg's parser at 100 points.
    """
    terms = [f"{points[0][1]:.2f}"]
    for (t0, v0), (t1, v1) in pairwise(points):
        if t1 > t0 and abs(v1 - v0) >= 0.005:
            terms.append(f"{(v1 - v0) / (t1 - t0):+.4f}*clip(t{-t0:+.4f},0,{t1 - t0:.4f})")
    return "".join(terms)


def on_clip_clock(clip: EdlClip, stretches: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Stretches of the source, clipped to the clip's segments, in seconds on the clip's clock."""
    result: list[tuple[float, float]] = []
    elapsed = 0.0
    for span in clip.segments:
        for start, end in stretches:
            first, last = max(start, span.start), min(end, span.end)
            if last > first:
                result.append((first - span.start + elapsed, last - span.start + elapsed))
        elapsed += span.duration
    return result
