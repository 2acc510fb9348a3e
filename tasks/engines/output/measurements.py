"""Measures a finished clip: its streams, MP4 boxes, sound and scaled-down picture."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import av
import ffmpeg
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream

from tasks.core.captions.card import SECONDS
from tasks.core.captions.presets import CLASSIC, Band, Colour, Look
from tasks.core.errors import UnreadableMedia
from tasks.core.output.clip_checks import CAPTION_PIXELS, ClipMeasurements
from tasks.core.output.source_match import (
    CHROMA,
    LUMA,
    SAMPLES_PER_SECOND,
    ClipFrames,
    SourceExcerpt,
    covered_rows,
    dropouts,
    lags,
    lost_in_mono,
)
from tasks.core.picture.motion import difference, is_black, stretches
from tasks.engines.ffmpeg import FfmpegError, run
from tasks.engines.output.envelope import sound_levels
from tasks.engines.output.poster import PosterFrames, look
from tasks.engines.output.source_frames import part_of
from tasks.engines.sound.loudness import read_summary

SAMPLE_SIDE = 270
"""Pixels of the shorter side: a quarter of the usual clip's width. Smaller clips are not scaled."""
SHORTEST_STRETCH = 0.5
FROZEN_DIFFERENCE = 0.02
"""Grey levels of 255; stricter than for sources, so that slow motion does not count as frozen after encoding."""
GREY = 128
"""Chroma of grey."""
_BOX_HEADER, _LARGE_BOX_HEADER = 8, 16


def measure_clip(
    path: Path, source: SourceExcerpt, look: Look = CLASSIC, card: Band | None = None, timeout: float = 300
) -> ClipMeasurements:
    """Measure a finished file, with captions of this look and a card over these rows, and compare it with its source.

    Decodes the reference frames once, scaled down, and all of the sound.

    Raises:
        UnreadableMedia: no demuxer or decoder reads it.
    """
    try:
        with av.open(str(path)) as container:
            measure = _streams(container, path)
        shrink = max(1.0, min(measure.width, measure.height) / SAMPLE_SIDE)
        boxes = {frame.box: ClipFrames(frame.box) for frame in source.frames}
        size = _even(measure.width / shrink), _even(measure.height / shrink)
        captions = look.band((measure.width, measure.height) if measure.video_streams else (1, 1))
        carded = round(SECONDS * SAMPLES_PER_SECOND) + 1 if card else 0
        frame_sets, poster = list(boxes.values()), PosterFrames(measure.duration)
        meter = _PictureMeter(*size, captions, look.preset.mark, carded, frame_sets, poster)
        with ThreadPoolExecutor(1) as beside:
            levels = beside.submit(sound_levels, path, [(0.0, measure.duration)]) if measure.audio_streams else None
            log = _decode(path, measure, meter, timeout)
    except (FFmpegError, FfmpegError) as error:
        raise UnreadableMedia(f"The clip {path.name} cannot be read ({type(error).__name__}).") from error
    sound = read_summary(log) if measure.audio_streams else None
    clip_levels = levels.result() if levels else None
    compared = [boxes[frame.box].match(frame, covered_rows(captions, card)) for frame in source.frames]
    candidates, fault = meter.poster.candidates()
    return measure.model_copy(
        update={
            "black": stretches(meter.black, 0.0, SAMPLES_PER_SECOND, SHORTEST_STRETCH),
            "frozen": stretches(meter.frozen, 0.0, SAMPLES_PER_SECOND, SHORTEST_STRETCH),
            "highlight": [(n / SAMPLES_PER_SECOND, pixels) for n, pixels in enumerate(meter.highlight)],
            "integrated": sound.integrated if sound else None,
            "true_peak": sound.true_peak if sound else None,
            "lost_in_mono": lost_in_mono(clip_levels) if clip_levels else 0.0,
            "lags": lags(clip_levels, source.sound) if clip_levels and source.sound.channels else None,
            "dropouts": dropouts(clip_levels, source.sound) if clip_levels else [],
            "frame_matches": [one for one in compared if one],
            "poster_candidates": candidates,
            "poster_fault": fault,
        }
    )


def _even(side: float) -> int:
    return 2 * round(side / 2)


def _streams(container: InputContainer, path: Path) -> ClipMeasurements:
    measure = ClipMeasurements(
        size_bytes=path.stat().st_size,
        duration=(container.duration or 0) / av.time_base,
        video_streams=len(container.streams.video),
        audio_streams=len(container.streams.audio),
        moov_first=moov_first(path),
    )
    update: dict[str, object] = {}
    for video in container.streams.video[:1]:
        context = video.codec_context
        aspect = video.sample_aspect_ratio
        start, end = _extent(video)
        update |= {"video_codec": context.name, "pixel_format": context.pix_fmt, "width": context.width}
        update |= {"height": context.height, "sample_aspect_ratio": float(aspect) if aspect else 1.0}
        update |= {"video_start": start, "video_end": end}
    for audio in container.streams.audio[:1]:
        start, end = _extent(audio)
        update |= {"audio_codec": audio.codec_context.name, "sample_rate": audio.codec_context.sample_rate}
        update |= {"audio_start": start, "audio_end": end}
    return measure.model_copy(update=update)


def _extent(stream: VideoStream | AudioStream) -> tuple[float | None, float | None]:
    """Start and end of a stream as players show it, with edit lists applied."""
    if stream.time_base is None or stream.duration is None:
        return None, None
    start = float((stream.start_time or 0) * stream.time_base)
    return start, start + float(stream.duration * stream.time_base)


def moov_first(path: Path) -> bool:
    """Whether the file's index comes before its media data (ISO 14496-12, top-level boxes)."""
    with path.open("rb") as file:
        for name in _boxes(file):
            if name in (b"moov", b"mdat"):
                return name == b"moov"
    return False


def _boxes(file: IO[bytes]) -> Iterator[bytes]:
    while len(header := file.read(_BOX_HEADER)) == _BOX_HEADER:
        size, name = int.from_bytes(header[:4]), header[4:]
        yield name
        if size == 1:
            size = int.from_bytes(file.read(8)) - (_LARGE_BOX_HEADER - _BOX_HEADER)
        if size < _BOX_HEADER:
            return
        file.seek(size - _BOX_HEADER, 1)


def _decode(path: Path, measure: ClipMeasurements, meter: "_PictureMeter", timeout: float) -> str:
    source = ffmpeg.input(f"file:{path}", skip_frame="noref", skip_loop_filter="all")
    outputs = []
    if measure.video_streams:
        small = source.video.filter("fps", SAMPLES_PER_SECOND, start_time=0).filter(
            "scale", meter.width, meter.height, flags="fast_bilinear"
        )
        outputs.append(small.output("pipe:1", f="rawvideo", pix_fmt="yuv420p"))
    if measure.audio_streams:
        outputs.append(source.audio.filter("ebur128", peak="true", framelog="quiet").output("-", f="null"))
    return run(ffmpeg.merge_outputs(*outputs), timeout, read=meter.watch).stderr if outputs else ""


@dataclass
class _PictureMeter:
    """Measures scaled-down frames, with one list entry per frame. A card covers the first `carded` frames."""

    width: int
    height: int
    captions: Band
    mark: Colour
    carded: int
    frame_sets: list[ClipFrames]
    poster: PosterFrames
    black: list[bool] = field(default_factory=list[bool])
    frozen: list[bool] = field(default_factory=list[bool])
    highlight: list[int] = field(default_factory=list[int])

    def watch(self, pipe: IO[bytes]) -> None:
        size = self.width * self.height * 3 // 2
        previous = None
        while len(data := pipe.read(size)) == size:
            luma, chroma = self._planes(data)
            picture = np.delete(luma, self._band(self.height), axis=0)[::2, ::2]
            change = difference(picture, previous)
            highlighted = int(_is_mark(self.mark, luma[::2, ::2], *chroma)[self._band(self.height // 2)].sum())
            self._show(data, change, is_captioned=highlighted >= CAPTION_PIXELS or len(self.black) < self.carded)
            self.black.append(is_black(picture))
            self.frozen.append(change < FROZEN_DIFFERENCE)
            self.highlight.append(highlighted)
            previous = picture
            for frames in self.frame_sets:
                frames.luma.append(part_of(luma, frames.box, LUMA))
                frames.chroma.append(np.stack([part_of(plane, frames.box, CHROMA) for plane in chroma]))

    def _show(self, data: bytes, change: float, *, is_captioned: bool) -> None:
        planes = np.frombuffer(data, np.uint8).reshape(self.height * 3 // 2, self.width)
        self.poster.see(look(planes, self._band(self.height), len(self.black), change, is_captioned=is_captioned))

    def _planes(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        """The luma plane (height, width) and both chroma planes (2, height / 2, width / 2)."""
        flat = np.frombuffer(data, np.uint8)
        luma = self.width * self.height
        return flat[:luma].reshape(self.height, self.width), flat[luma:].reshape(2, self.height // 2, self.width // 2)

    def _band(self, height: int) -> slice:
        return slice(round(self.captions.top * height), round(self.captions.bottom * height))


def _is_mark(mark: Colour, luma: np.ndarray, blue: np.ndarray, red: np.ndarray) -> np.ndarray:
    """Mask of pixels with the mark's colour, allowing for antialiasing and chroma subsampling.

    The colours of marks are saturated; antialiasing changes most the chroma that is farthest from grey.
    """
    _, cb, cr = _bt709(*mark)
    reach = (60, 30) if abs(cb - GREY) >= abs(cr - GREY) else (30, 60)
    near_blue, near_red = np.abs(blue.astype(int) - cb) < reach[0], np.abs(red.astype(int) - cr) < reach[1]
    return near_blue & near_red & (luma > 110)


def _bt709(red: int, green: int, blue: int) -> tuple[float, float, float]:
    """Y, Cb, Cr in limited range (ITU-R BT.709)."""
    y = (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
    return 16 + 219 * y, 128 + 224 * (blue / 255 - y) / 1.8556, 128 + 224 * (red / 255 - y) / 1.5748
