"""The output contract: the requirements for a finished file, checked against its measurements."""

from collections.abc import Sequence
from math import isfinite

from pydantic import Field

from tasks.core.edl import EdlClip
from tasks.core.output.check import LENGTH_TOLERANCE, Check
from tasks.core.output.render_plan import MAX_TRUE_PEAK, TARGET_LUFS, RenderOptions
from tasks.core.output.shown_picture import ShownPicture
from tasks.core.output.source_match import FEWEST_FRAMES, LAG_TOLERANCE, FrameMatch, Lag
from tasks.core.plurals import pluralize
from tasks.core.titles.grounding import unspoken_words
from tasks.core.titles.headline import fallback_title
from tasks.core.transcript import Word

Stretch = tuple[float, float]

TICK_TOLERANCE = 0.001
"""Seconds by which it may exceed the requested length: containers count time in whole ticks."""
START_TOLERANCE, END_TOLERANCE = 0.040, 0.060
LOUDNESS_TOLERANCE = 1.0
EDGE_SLACK = 0.4
"""Seconds a black or frozen stretch may extend beyond the source's: the two are measured at different rates."""
LONGEST_DEFECT = 0.5
CAPTION_SHARE = 0.95
"""Share of the words that must be seen highlighted; the rest may fall between two sampled frames."""
CAPTION_PIXELS = 2
"""Pixels of the highlight colour that count as a word, in a quarter-size picture with half-size chroma."""
CAPTION_SLACK = 0.12
"""Most seconds between a word's middle and a sampled frame that counts for it."""


MIN_MATCH = 0.6
"""Correlation of the levels below which the sound is a different one. A louder copy has 0.99, a phone line 0.97."""
LOST_SHARE = 0.1
"""Share of a clip's sound that may vanish in mono."""
MAX_DISTANCE = 0.25
"""Distance between frames, beyond the source's own change, above which they are different pictures. Correct frames
have 0.02."""
CLEARLY_CLOSER = 3.0
"""A frame is out of place if the clip has one this many times closer to the source's frame,"""
CLEARLY_DISTANT = 0.05
"""and if its own distance is at least this: a talking face looks equally close at any time."""
MAX_MISPLACED = 1
"""Frames, of FEWEST_FRAMES or more, that may seem out of place by chance."""


class ClipMeasurements(ShownPicture):
    """Measurements of a finished file. Times are seconds on the clip's clock; missing streams have None or 0.

    `frames` are those that the file's index lists. `is_as_drawn` says whether the file shows what was drawn, or is None
    if that is not known. `moov_first` means that a player can start before the whole file has
    arrived. `lost_in_mono` is the share of the sound that vanishes in mono. `lags` and `dropouts` compare it with the
    source's: `lags` is None if there was no sound to compare, and empty if the source's is too steady to show a lag.
    """

    size_bytes: int
    duration: float
    video_streams: int = 0
    audio_streams: int = 0
    video_codec: str | None = None
    pixel_format: str | None = None
    frames: int = 0
    is_as_drawn: bool | None = None
    width: int = 0
    height: int = 0
    sample_aspect_ratio: float = 1.0
    audio_codec: str | None = None
    sample_rate: int = 0
    video_start: float | None = None
    video_end: float | None = None
    audio_start: float | None = None
    audio_end: float | None = None
    integrated: float | None = None
    true_peak: float | None = None
    moov_first: bool = False
    lost_in_mono: float = 0.0
    lags: list[Lag] | None = None
    dropouts: list[Stretch] = Field(default_factory=list[Stretch])


def check_clip(
    measurements: ClipMeasurements,
    clip: EdlClip,
    options: RenderOptions,
    source_black: list[Stretch],
    source_frozen: list[Stretch],
    words: Sequence[Word],
    longest: float | None = None,
) -> list[Check]:
    """Check one clip against every line of the contract.

    Args:
        source_black: black stretches of the source, on the clip's clock.
        source_frozen: frozen stretches of the source, on the clip's clock.
        words: words of the captions, on the clip's clock.
        longest: the requested length in seconds, which the clip must not exceed.
    """
    return [
        *_streams(measurements, options),
        _length(measurements, clip, longest),
        _synced("start", measurements.video_start, measurements.audio_start, START_TOLERANCE),
        _synced("end", measurements.video_end, measurements.audio_end, END_TOLERANCE),
        _loudness(measurements),
        _true_peak(measurements),
        _still("black", measurements.black, source_black),
        _still("frozen", measurements.frozen, source_frozen),
        _captions(measurements, words),
        _mono(measurements),
        _silence(measurements),
        _sound(measurements),
        _picture(measurements),
        Check(
            name="fast start",
            ok=measurements.moov_first,
            measured="moov before mdat" if measurements.moov_first else "moov after mdat or missing",
            wanted="moov before mdat",
        ),
    ]


def check_words(clip: EdlClip) -> Check:
    """Check that title and hook contain only words of the clip's segments; the fallback title always passes."""
    said = " ".join(span.text for span in clip.segments)
    title = "" if clip.title == fallback_title(clip.index) else clip.title
    unspoken = [*unspoken_words(title, said), *unspoken_words(clip.hook, said)]
    return Check(
        name="title",
        ok=not unspoken,
        measured=f"nobody says {', '.join(dict.fromkeys(unspoken))}" if unspoken else "all said",
        wanted="only words said in the clip",
    )


def _streams(measurements: ClipMeasurements, options: RenderOptions) -> list[Check]:
    video = f"{measurements.video_streams} x {measurements.video_codec} {measurements.pixel_format}"
    audio = f"{measurements.audio_streams} x {measurements.audio_codec} {measurements.sample_rate} Hz"
    size = f"{measurements.width}x{measurements.height} SAR {measurements.sample_aspect_ratio:g}"
    wanted = {
        "video stream": (video, "1 x h264 yuv420p"),
        "audio stream": (audio, "1 x aac 48000 Hz"),
        "size": (size, f"{options.width}x{options.height} SAR 1"),
    }
    return [Check(name=n, ok=has == want, measured=has, wanted=want) for n, (has, want) in wanted.items()]


def _length(measurements: ClipMeasurements, clip: EdlClip, longest: float | None) -> Check:
    close = abs(measurements.duration - clip.duration) <= LENGTH_TOLERANCE
    short_enough = longest is None or measurements.duration <= longest + TICK_TOLERANCE
    limit = "" if longest is None else f", at most {longest:g} s"
    return Check(
        name="length",
        ok=close and short_enough,
        measured=f"{measurements.duration:.3f} s",
        wanted=f"{clip.duration:.3f} ± {LENGTH_TOLERANCE:g} s{limit}",
        fixable=True,
    )


def _synced(name: str, video: float | None, audio: float | None, tolerance: float) -> Check:
    wanted = f"within {tolerance * 1000:.0f} ms"
    if video is None or audio is None:
        return Check(name=name, ok=False, measured="a stream is missing", wanted=wanted)
    apart = abs(video - audio)
    return Check(name=name, ok=apart <= tolerance, measured=f"{apart * 1000:.0f} ms apart", wanted=wanted)


def _loudness(measurements: ClipMeasurements) -> Check:
    value = measurements.integrated
    return Check(
        name="loudness",
        ok=value is not None and abs(value - TARGET_LUFS) <= LOUDNESS_TOLERANCE,
        measured="none" if value is None else f"{value:.1f} LUFS",
        wanted=f"{TARGET_LUFS:g} ± {LOUDNESS_TOLERANCE:g} LUFS",
        fixable=value is not None and isfinite(value),
    )


def _true_peak(measurements: ClipMeasurements) -> Check:
    value = measurements.true_peak
    return Check(
        name="true peak",
        ok=value is not None and value <= MAX_TRUE_PEAK,
        measured="none" if value is None else f"{value:.1f} dBTP",
        wanted=f"at most {MAX_TRUE_PEAK:g} dBTP",
        fixable=value is not None,
    )


def _still(name: str, seen: list[Stretch], in_source: list[Stretch]) -> Check:
    """Check for black or frozen stretches that the source does not have."""
    widened = sorted((start - EDGE_SLACK, end + EDGE_SLACK) for start, end in in_source)
    added = [part for stretch in seen for part in subtract(stretch, widened) if part[1] - part[0] >= LONGEST_DEFECT]
    return Check(
        name=f"no {name} stretch",
        ok=not added,
        measured=_listed(added),
        wanted="none that the source does not have",
    )


def _mono(measurements: ClipMeasurements) -> Check:
    return Check(
        name="mono",
        ok=measurements.lost_in_mono <= LOST_SHARE,
        measured=f"{measurements.lost_in_mono:.0%} of the sound vanishes",
        wanted=f"at most {LOST_SHARE:.0%}",
    )


def _silence(measurements: ClipMeasurements) -> Check:
    return Check(
        name="no silent stretch",
        ok=not measurements.dropouts,
        measured=_listed(measurements.dropouts),
        wanted="none that the source does not have",
    )


def _sound(measurements: ClipMeasurements) -> Check:
    """Check that the sound matches the source's at the EDL's seconds throughout."""
    wanted = f"within {LAG_TOLERANCE * 1000:.0f} ms of the source's"
    if not measurements.lags:
        is_compared = measurements.lags is not None
        measured = "too steady to tell" if is_compared else "not compared"
        return Check(name="sound", ok=is_compared, measured=measured, wanted=wanted)
    worst = max(measurements.lags, key=lambda lag: (lag.match < MIN_MATCH, abs(lag.lag)))
    if worst.match < MIN_MATCH:
        return Check(name="sound", ok=False, measured=f"a different sound at {worst.t:.1f} s", wanted=wanted)
    return Check(
        name="sound",
        ok=abs(worst.lag) <= LAG_TOLERANCE,
        measured=f"at most {abs(worst.lag) * 1000:.0f} ms {'late' if worst.lag > 0 else 'early'}, at {worst.t:.1f} s",
        wanted=wanted,
    )


def _picture(measurements: ClipMeasurements) -> Check:
    """Check that the picture matches the source's at the EDL's seconds."""
    other = [one for one in measurements.frame_matches if one.distance > MAX_DISTANCE + one.source_change]
    misplaced = [one for one in measurements.frame_matches if _is_misplaced(one)]
    bad = sorted({one.t for one in [*other, *(misplaced if len(misplaced) > MAX_MISPLACED else [])]})
    count = len(measurements.frame_matches)
    matching = f"{count - len(bad)} of {count} frames match"
    return Check(
        name="picture",
        ok=not bad and count >= FEWEST_FRAMES,
        measured=matching + (f", not those at {', '.join(f'{t:.1f}' for t in bad)} s" if bad else ""),
        wanted=f"the source's frame at that time, for at least {FEWEST_FRAMES} frames",
    )


def _is_misplaced(one: FrameMatch) -> bool:
    return one.distance > CLEARLY_DISTANT + one.source_change and one.distance > CLEARLY_CLOSER * one.closest


def _listed(found: list[Stretch]) -> str:
    return ", ".join(f"{start:.1f} to {end:.1f} s" for start, end in found) or "none"


def subtract(stretch: Stretch, holes: list[Stretch]) -> list[Stretch]:
    """The parts of a stretch outside `holes`, which are sorted by start."""
    start, end = stretch
    left: list[Stretch] = []
    for first, last in holes:
        if first > start:
            left.append((start, min(first, end)))
        start = max(start, last)
        if start >= end:
            return left
    return [*left, (start, end)]


def _captions(measurements: ClipMeasurements, words: Sequence[Word]) -> Check:
    """Check that words are highlighted: a word counts if a frame sampled near its middle shows the highlight."""
    heard = [word for word in words if word.end > word.start]
    shown = sum(_is_shown(word, measurements.highlight) for word in heard)
    return Check(
        name="captions",
        ok=shown >= CAPTION_SHARE * len(heard),
        measured=f"shown during {shown} of {pluralize(len(heard), 'word')}",
        wanted=f"shown during {CAPTION_SHARE:.0%} of the words",
    )


def _is_shown(word: Word, highlight: list[tuple[float, int]]) -> bool:
    middle = (word.start + word.end) / 2
    near = [pixels for t, pixels in highlight if abs(t - middle) <= CAPTION_SLACK]
    return max(near, default=0) >= CAPTION_PIXELS
