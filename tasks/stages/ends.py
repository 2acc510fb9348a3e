"""Snap the ends of clips to cuts in the picture."""

import logging
from collections.abc import Callable
from pathlib import Path

import cv2

from tasks.core.edl import EdlClip
from tasks.core.errors import UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.core.picture.clip_ends import EdgeAnalysis, Pauses, best_end, best_start, pauses, with_ends
from tasks.core.speech.sentences import ordered_words
from tasks.core.transcript import Segment
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.picture.clip_ends import analyse_edge
from tasks.engines.picture.faces import FaceDetector
from tasks.engines.weights import WeightsMissing, yunet

_log = logging.getLogger(__name__)

CONTEXT_SECONDS = 1.0
"""Seconds of picture to analyse on both sides of the free time, to measure shots and to make cuts stand out."""
MAX_FPS = 30.0
"""Most frames per second to analyse."""


def snap_ends(
    clips: list[EdlClip],
    segments: list[Segment],
    video: Path,
    info: MediaInfo,
    bounds: tuple[float, float],
    occupied: list[tuple[float, float]] | None = None,
    left_out: Callable[[EdlClip], float] | None = None,
) -> list[EdlClip]:
    """The clips with their ends on cuts where possible. `bounds` are the shortest and longest length in seconds.

    `left_out` tells how many seconds of a clip are not played, which the bounds do not count.

    Clips that show a cover keep their ends. So does a clip whose picture cannot be read, and the log says why.
    `occupied` are time ranges of other clips.
    """
    if info.is_cover:
        return clips
    words = ordered_words(segments)
    detector = _detector()
    snapped: list[EdlClip] = []
    spans = [(clip.segments[0].start, clip.segments[-1].end) for clip in clips]
    for i, clip in enumerate(clips):
        unheard = left_out(clip) if left_out else 0.0
        limits = bounds[0] + unheard, bounds[1] + unheard
        others = [*(occupied or []), *spans[:i], *spans[i + 1 :]]
        try:
            start, end = _find_ends(clip, pauses(*spans[i], words, others), video, info, limits, detector)
        except (UnreadableMedia, cv2.error) as error:
            _log.warning("Clip %d keeps its ends: %s", clip.index, error)
            start, end = spans[i]
        spans[i] = start, end
        snapped.append(with_ends(clip, start, end))
    return snapped


def _find_ends(
    clip: EdlClip,
    free: Pauses,
    video: Path,
    info: MediaInfo,
    bounds: tuple[float, float],
    detector: FaceDetector | None,
) -> tuple[float, float]:
    start, end = clip.segments[0].start, clip.segments[-1].end
    shortest, longest = bounds
    spare = max(clip.duration - shortest, 0.0)
    fps = min(info.fps or MAX_FPS, MAX_FPS)

    def look(low: float, high: float, *, poster: bool) -> EdgeAnalysis:
        span = max(low - CONTEXT_SECONDS, 0.0), min(high + CONTEXT_SECONDS, info.duration)
        exe = ffmpeg_exe()
        return analyse_edge(video, info, span, fps=fps, poster=poster, detector=detector, ffmpeg=exe)

    room = (max(free.start[0], start - max(longest - clip.duration, 0.0)), free.start[1])
    begins = best_start(start, room, look(*room, poster=True), start + spare)
    rest = clip.duration + start - begins
    ending = (free.end[0], min(free.end[1], info.duration))
    ends = best_end(
        end, ending, look(*ending, poster=False), end - max(rest - shortest, 0.0), end + max(longest - rest, 0.0)
    )
    return begins, ends


def _detector() -> FaceDetector | None:
    try:
        return FaceDetector(yunet())
    except (WeightsMissing, cv2.error) as error:
        _log.warning("Choosing the ends of clips without face detection: %s", error)
        return None
