"""What the source shows at some moments of a clip, found by its own time stamps."""

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

from tasks.core.edl import EdlClip, Span
from tasks.core.errors import UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.core.out.likeness import CHROMA, LUMA, Box, SourceFrame, framing
from tasks.core.out.render_plan import RenderOptions
from tasks.core.picture.camera import Shot
from tasks.engines.decoding import key_before, pictures
from tasks.engines.probe import picture_of

WANTED, ENOUGH = 7, 5
SETTLED = 0.12
"""Seconds after a key frame: it often begins a shot, and a clip's frame may be half a frame early."""
FURTHER = 0.8
"""Seconds between glimpses after the same key frame, where there are few key frames."""
LEAD_SHARE = 0.15
"""Share of the clip's length that is decoded to see its first frame, at most."""
LONGER_SIDE = 480
HALF_FRAME = 0.017
"""Seconds: a clip shows the frame that begins nearest to its own."""
EARLIER = 0.08
"""Seconds over which it is seen how fast the picture changes: a look at a clip may be so much off."""
HD_LINES = 720
"""Files that do not tell their matrix mean BT.709 from this many lines on."""
_MATRICES = {1: Colorspace.ITU709, 5: Colorspace.ITU601, 6: Colorspace.ITU601, 7: Colorspace.SMPTE240M}
_HDR_TRANSFERS, _WIDE_PRIMARIES, _WIDE_MATRICES = {16, 18}, {9}, {9, 10}
"""Code points of ISO/IEC 23091-2: the clip's colours are not the source's numbers."""


def source_frames(
    video: Path, info: MediaInfo, clip: EdlClip, shots: list[list[Shot]], options: RenderOptions
) -> list[SourceFrame]:
    """What the source shows at five to seven moments all over the clip, cut as the camera cuts it.

    Key frames are sought and few frames decoded after each, so that this costs little.

    Raises:
        UnreadableMedia: no decoder reads the file.
    """
    found: list[SourceFrame] = []
    elapsed = 0.0
    try:
        with av.open(str(video), metadata_errors="ignore") as container:
            stream = picture_of(container)
            if stream is None or info.alpha:  # what shows through is the renderer's choice
                return []
            for span, views in zip(clip.segments, shots, strict=True):
                share = span.duration / clip.duration
                for key, moments in _moments(container, stream, span, share).items():
                    for at, frame, before in _on_show(container, stream, key, sorted(moments)):
                        shot = next((view for view in reversed(views) if view.start <= at), views[0])
                        glimpse, earlier = (_cut(one, at, shot, info, options) for one in (frame, before))
                        found.append(glimpse.placed(at - span.start + elapsed, earlier))
                elapsed += span.duration
    except (FFmpegError, ValueError) as error:
        raise UnreadableMedia(f"The picture of {video.name} cannot be read ({type(error).__name__}).") from error
    return sorted(found, key=lambda glimpse: glimpse.t)


def _moments(container: InputContainer, stream: VideoStream, span: Span, share: float) -> dict[float, list[float]]:
    """When to look, by the key frame from which that is decoded; a span has its share of the glimpses."""
    wanted, enough = ceil(WANTED * share), ceil(ENOUGH * share)
    latest = span.end - SETTLED
    before = key_before(container, stream, span.start)
    targets = [span.start + (i + 1) * span.duration / wanted for i in range(wanted)]
    keys = {key_before(container, stream, target) for target in targets} - {before, None}
    inside = sorted(key for key in keys if key is not None and span.start <= key < latest - SETTLED)
    before = 0.0 if before is None else min(before, span.start)
    moments = {key: [key + SETTLED] for key in inside}
    if span.start - before <= LEAD_SHARE * span.duration:
        moments[before] = [span.start + SETTLED]
    ends = dict(pairwise([*sorted(moments), latest]))
    for i in range(1, ENOUGH):
        for key, times in moments.items():
            at = times[0] + i * FURTHER
            if sum(map(len, moments.values())) < enough and at < ends[key]:
                times.append(at)
    if sum(map(len, moments.values())) < enough:
        first, last = span.start + SETTLED, min([*inside, latest])
        moments[before] = [first + i * (last - first) / wanted for i in range(wanted)]
    return moments


def _on_show(
    container: InputContainer, stream: VideoStream, key: float, moments: list[float]
) -> Iterator[tuple[float, VideoFrame, VideoFrame]]:
    """For each moment, in order, the last frame that begins at or before it, and the one on show a little earlier."""
    waiting = list(moments)
    recent: deque[tuple[float, VideoFrame]] = deque()
    for begins, frame in pictures(container, stream, key):
        while waiting and recent and begins > waiting[0] + HALF_FRAME:
            yield waiting.pop(0), recent[-1][1], recent[0][1]
        if not waiting:
            return
        recent.append((begins, frame))
        while len(recent) > 1 and recent[1][0] <= begins - EARLIER:
            recent.popleft()
    for at in waiting if recent else []:
        yield at, recent[-1][1], recent[0][1]


def _cut(frame: VideoFrame, at: float, shot: Shot, info: MediaInfo, options: RenderOptions) -> SourceFrame:
    """The part of the frame that the camera shows at the moment, small."""
    within, box = framing(shot, at, info, options)
    sizes = (LUMA, CHROMA, CHROMA)
    luma, *chroma = (part_of(plane, within, size) for plane, size in zip(_upright(frame, info), sizes, strict=True))
    is_wide = frame.colorspace in _WIDE_MATRICES or frame.color_primaries in _WIDE_PRIMARIES
    same = not is_wide and frame.color_trc not in _HDR_TRANSFERS
    return SourceFrame(box=box, luma=luma.tobytes(), chroma=np.stack(chroma).tobytes(), same_colours=same)


def _upright(frame: VideoFrame, info: MediaInfo) -> list[np.ndarray]:
    """Luma and both chroma planes of the whole frame as shown, all of one small size."""
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
    whole = np.full((3, height, width), 128, np.uint8)
    whole[0] = 16
    top, left = (height - inside[1]) // 2, (width - inside[0]) // 2
    whole[:, top : top + inside[1], left : left + inside[0]] = small.to_ndarray().reshape(3, *inside[::-1])
    return [np.rot90(plane, -info.rotation // 90) for plane in whole]


def _fitted(frame: VideoFrame, info: MediaInfo, size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a frame in `size`: all of it, but where it is not of the size that the file began with."""
    aspect = info.sample_aspect_ratio
    shown = (info.height, info.width) if info.rotation in (90, 270) else (info.width, info.height)
    coded = shown[0] / aspect, shown[1]
    if abs(frame.width - coded[0]) + abs(frame.height - coded[1]) < 2:
        return size
    scale = min(size[0] / frame.width, size[1] / frame.height)
    return max(2, round(frame.width * scale)), max(2, round(frame.height * scale))


def part_of(plane: np.ndarray, box: Box, size: tuple[int, int]) -> np.ndarray:
    """The part of a plane (rows, columns) in a box of shares, averaged to `size` (width, height)."""
    rows, columns = plane.shape
    top, bottom = round(box.top * rows), max(round(box.bottom * rows), round(box.top * rows) + 1)
    left, right = round(box.left * columns), max(round(box.right * columns), round(box.left * columns) + 1)
    return cv2.resize(np.ascontiguousarray(plane[top:bottom, left:right]), size, interpolation=cv2.INTER_AREA)
