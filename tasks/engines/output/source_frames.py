"""Reads frames of the source at selected moments of a clip, by the source's own timestamps."""

from collections import deque
from collections.abc import Iterator
from itertools import pairwise
from math import ceil
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation
from av.video.stream import VideoStream

from tasks.core.captions.presets import Band
from tasks.core.edl import EdlClip, Span
from tasks.core.errors import UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.core.output.render_plan import RenderOptions
from tasks.core.output.source_match import CHROMA, FEWEST_FRAMES, LUMA, Box, SourceFrame, framing
from tasks.core.picture.camera import Shot
from tasks.engines.decoding import key_frame_before, video_frames
from tasks.engines.probe import picture_of

TARGET_FRAMES = 7
KEY_FRAME_DELAY = 0.12
"""Seconds to wait after a key frame: it often starts a shot, and a clip's frame may be half a frame early."""
SPACING = 0.8
"""Seconds between frames after the same key frame, in files with few key frames."""
LEAD_SHARE = 0.15
"""Longest lead to decode for the clip's first frame, as a fraction of the clip's length."""
DECODED_AHEAD, FRAMES_AHEAD = 1.0, 24
"""Seconds, and frames, before a moment from which every frame is decoded: more than any frame reordering."""
LONGER_SIDE = 480
HALF_FRAME = 0.017
"""Seconds by which frame times may differ, because a clip shows the source's nearest frame."""
EARLIER = 0.08
"""Seconds over which to measure change in the source; a clip's sample may be off by this much."""
HD_LINES = 720
"""Untagged files with at least this many lines are BT.709."""
BLACK = np.array([16, 128, 128])[:, None, None]
"""Luma and chroma in limited range."""
_MATRICES = {1: Colorspace.ITU709, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M}
_HDR_TRANSFERS, _WIDE_PRIMARIES, _WIDE_MATRICES = {16, 18}, {9}, {9, 10}
"""Code points of ISO/IEC 23091-2 whose colours change when rendered."""


def source_frames(
    video: Path, info: MediaInfo, clip: EdlClip, shots: list[list[Shot]], options: RenderOptions, covered: list[Band]
) -> list[SourceFrame]:
    """The source at five to seven moments of the clip, cropped as the camera crops it.

    `covered` rows of the clip are not compared. This is cheap, because only a few frames after some of the key frames
    are decoded. If the file has no key frame inside the clip, all moments are in the clip's first seconds.

    Raises:
        UnreadableMedia: no decoder reads the file.
    """
    found: list[SourceFrame] = []
    elapsed = 0.0
    try:
        with av.open(str(video), metadata_errors="ignore") as container:
            stream = picture_of(container)
            if stream is None:
                return []
            for span, views in zip(clip.segments, shots, strict=True):
                share = span.duration / clip.duration
                for key, moments in _moments_by_key_frame(container, stream, span, share).items():
                    for at, frame, before in _frames_at(container, stream, key, sorted(moments)):
                        shot = next((view for view in reversed(views) if view.start <= at), views[0])
                        source, earlier = (_cut(one, at, shot, info, options) for one in (frame, before))
                        found.append(source.at_clip_time(at - span.start + elapsed, earlier, covered))
                elapsed += span.duration
    except (FFmpegError, ValueError) as error:
        raise UnreadableMedia(f"The picture of {video.name} cannot be read ({type(error).__name__}).") from error
    return sorted(found, key=lambda frame: frame.t)


def _moments_by_key_frame(
    container: InputContainer, stream: VideoStream, span: Span, share: float
) -> dict[float, list[float]]:
    """Moments to decode, grouped by the key frame to start from; the span gets a `share` of the clip's frames."""
    wanted, enough = ceil(TARGET_FRAMES * share), ceil(FEWEST_FRAMES * share)
    latest = span.end - KEY_FRAME_DELAY
    before = key_frame_before(container, stream, span.start)
    targets = [span.start + (i + 1) * span.duration / wanted for i in range(wanted)]
    keys = {key_frame_before(container, stream, target) for target in targets} - {before, None}
    inside = sorted(key for key in keys if key is not None and span.start <= key < latest - KEY_FRAME_DELAY)
    before = 0.0 if before is None else min(before, span.start)
    moments = {key: [key + KEY_FRAME_DELAY] for key in inside}
    if span.start - before <= LEAD_SHARE * span.duration:
        moments[before] = [span.start + KEY_FRAME_DELAY]
    ends = dict(pairwise([*sorted(moments), latest]))
    for i in range(1, FEWEST_FRAMES):
        for key, times in moments.items():
            at = times[0] + i * SPACING
            if sum(map(len, moments.values())) < enough and at < ends[key]:
                times.append(at)
    if sum(map(len, moments.values())) < enough:
        first, last = span.start + KEY_FRAME_DELAY, min([*inside, latest])
        step = min(SPACING, (last - first) / wanted)
        moments[before] = [first + i * step for i in range(wanted)]
    return moments


def _frames_at(
    container: InputContainer, stream: VideoStream, key: float, moments: list[float]
) -> Iterator[tuple[float, VideoFrame, VideoFrame]]:
    """For each moment, in order, the last frame starting at or before it, and the frame shown slightly earlier.

    Non-reference frames are skipped until shortly before a moment.
    """
    waiting = list(moments)
    recent: deque[tuple[float, VideoFrame]] = deque()
    ahead = max(DECODED_AHEAD, FRAMES_AHEAD / float(stream.average_rate or 25))
    stream.codec_context.skip_frame = "NONREF" if key < waiting[0] - ahead else "DEFAULT"
    for begins, frame in video_frames(container, stream, key):
        while waiting and recent and begins > waiting[0] + HALF_FRAME:
            yield waiting.pop(0), recent[-1][1], recent[0][1]
        if not waiting:
            return
        stream.codec_context.skip_frame = "NONREF" if begins < waiting[0] - ahead else "DEFAULT"
        recent.append((begins, frame))
        while len(recent) > 1 and recent[1][0] <= begins - EARLIER:
            recent.popleft()
    for at in waiting if recent else []:
        yield at, recent[-1][1], recent[0][1]


def _cut(frame: VideoFrame, at: float, shot: Shot, info: MediaInfo, options: RenderOptions) -> SourceFrame:
    """The part of the frame that the camera shows at `at`, scaled down."""
    within, box = framing(shot, at, info, options)
    sizes = (LUMA, CHROMA, CHROMA)
    luma, *chroma = (part_of(plane, within, size) for plane, size in zip(_upright(frame, info), sizes, strict=True))
    is_wide = frame.colorspace in _WIDE_MATRICES or frame.color_primaries in _WIDE_PRIMARIES
    same = not is_wide and frame.color_trc not in _HDR_TRANSFERS
    return SourceFrame(box=box, luma=luma.tobytes(), chroma=np.stack(chroma).tobytes(), same_colours=same)


def _upright(frame: VideoFrame, info: MediaInfo) -> list[np.ndarray]:
    """Luma and both chroma planes of the whole frame, rotated for display and scaled down to a common size."""
    factor = min(1.0, LONGER_SIDE / max(info.width, info.height))
    width, height = (max(16, 2 * round(side * factor / 2)) for side in (info.width, info.height))
    if info.rotation in (90, 270):
        width, height = height, width
    inside = _fitted(frame, info, (width, height))
    matrix = _MATRICES.get(
        frame.colorspace, Colorspace.ITU709 if min(info.width, info.height) >= HD_LINES else Colorspace.ITU601
    )
    small = frame.reformat(
        width=inside[0],
        height=inside[1],
        format="yuv444p",
        src_colorspace=matrix,
        dst_colorspace=Colorspace.ITU709,
        interpolation=Interpolation.AREA,
    )
    whole = np.broadcast_to(BLACK, (3, height, width)).astype(np.uint8)
    top, left = (height - inside[1]) // 2, (width - inside[0]) // 2
    shown = _over_black(small.to_ndarray().reshape(3, *inside[::-1]), frame, info)
    whole[:, top : top + inside[1], left : left + inside[0]] = shown
    return [np.rot90(plane, -info.rotation // 90) for plane in whole]


def _over_black(planes: np.ndarray, frame: VideoFrame, info: MediaInfo) -> np.ndarray:
    """The frame's planes (3, rows, columns) with black where the frame is transparent, as in clips."""
    if not info.alpha:
        return planes
    rows, columns = planes.shape[1:]
    whole = frame.reformat(width=columns, height=rows, format="rgba", interpolation=Interpolation.AREA)
    opacity = whole.to_ndarray()[..., 3] / 255
    return (BLACK + (planes - BLACK) * opacity).round().astype(np.uint8)


def _fitted(frame: VideoFrame, info: MediaInfo, size: tuple[int, int]) -> tuple[int, int]:
    """The frame's size inside `size`; smaller only if the frame differs in size from the file's first frame."""
    aspect = info.sample_aspect_ratio
    shown = (info.height, info.width) if info.rotation in (90, 270) else (info.width, info.height)
    coded = shown[0] / aspect, shown[1]
    if abs(frame.width - coded[0]) + abs(frame.height - coded[1]) < 2:
        return size
    scale = min(size[0] / frame.width, size[1] / frame.height)
    return max(2, round(frame.width * scale)), max(2, round(frame.height * scale))


def part_of(plane: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The part of a plane (rows, columns) inside `box`, averaged down to `size` (width, height)."""
    rows, columns = plane.shape
    top, bottom = round(box.top * rows), max(round(box.bottom * rows), round(box.top * rows) + 1)
    left, right = round(box.left * columns), max(round(box.right * columns), round(box.left * columns) + 1)
    return cv2.resize(np.ascontiguousarray(plane[top:bottom, left:right]), size, interpolation=cv2.INTER_AREA)
