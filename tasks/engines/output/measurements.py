"""Measures a finished clip: its streams, MP4 boxes, sound and picture."""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from os import SEEK_END
from pathlib import Path
from typing import IO

import av
import ffmpeg
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from tasks.core.captions.presets import CLASSIC, Band, Look
from tasks.core.errors import UnreadableMedia
from tasks.core.output.clip_checks import ClipMeasurements
from tasks.core.output.shown_picture import DrawnPicture, ShownPicture
from tasks.core.output.source_match import SourceExcerpt, dropouts, lags, lost_in_mono
from tasks.engines.ffmpeg import FfmpegError, run
from tasks.engines.output.envelope import sound_levels
from tasks.engines.output.picture_meter import Painted, PictureMeter, small_size, thumbnail
from tasks.engines.sound.loudness import loudness_of

_log = logging.getLogger(__name__)

_BOX_HEADER, _LARGE_BOX_HEADER = 8, 16


def measure_clip(
    path: Path,
    source: SourceExcerpt,
    look: Look = CLASSIC,
    card: Band | None = None,
    drawn: DrawnPicture | None = None,
    timeout: float = 300,
) -> ClipMeasurements:
    """Measure a finished file, with captions of this look and a card over these rows, and compare it with its source.

    Decodes all of the sound, and of the picture the key frames if they show what was `drawn`, otherwise all of it.

    Raises:
        UnreadableMedia: no demuxer or decoder reads it, or it is cut short.
    """
    if is_cut_short(path):
        raise UnreadableMedia(f"The clip {path.name} is cut short.")
    try:
        with av.open(str(path)) as container:
            measure = _streams(container, path)
        with ThreadPoolExecutor(2) as beside:
            levels = beside.submit(sound_levels, path, [(0.0, measure.duration)]) if measure.audio_streams else None
            loudness = beside.submit(loudness_of, path, timeout) if measure.audio_streams else None
            is_as_drawn = _is_as_drawn(path, measure, drawn) if drawn else None
            shown = drawn.shown if drawn and is_as_drawn else _decoded(path, measure, source, look, card, timeout)
        sound, clip_levels = loudness.result() if loudness else None, levels.result() if levels else None
    except (FFmpegError, FfmpegError) as error:
        raise UnreadableMedia(f"The clip {path.name} cannot be read ({type(error).__name__}).") from error
    return measure.model_copy(
        update={
            **dict(shown),
            "is_as_drawn": is_as_drawn,
            "integrated": sound.integrated if sound else None,
            "true_peak": sound.true_peak if sound else None,
            "lost_in_mono": lost_in_mono(clip_levels) if clip_levels else 0.0,
            "lags": lags(clip_levels, source.sound) if clip_levels and source.sound.channels else None,
            "dropouts": dropouts(clip_levels, source.sound) if clip_levels else [],
        }
    )


def _decoded(
    path: Path, measure: ClipMeasurements, source: SourceExcerpt, look: Look, card: Band | None, timeout: float
) -> ShownPicture:
    """What all of the file's picture shows."""
    size, places = (measure.width or 1, measure.height or 1), frozenset(frame.box for frame in source.frames)
    meter = PictureMeter(Painted(size, measure.duration, look, card, places))
    if measure.video_streams:
        decoded = ffmpeg.input(f"file:{path}", skip_loop_filter="all").video
        run(meter.small(decoded), timeout, read=meter.watch)
    return meter.shown(source.frames)


def _is_as_drawn(path: Path, measure: ClipMeasurements, drawn: DrawnPicture) -> bool:
    is_alike = drawn.frames == measure.frames and drawn.is_like(_key_frames(path, measure))
    if not is_alike:
        _log.warning("%s does not show what was drawn: all of it is decoded", path.name)
    return is_alike


def _key_frames(path: Path, measure: ClipMeasurements) -> list[tuple[float, np.ndarray]]:
    """Time and thumbnail of every key frame; none if one of them does not decode."""
    found: list[tuple[float, np.ndarray]] = []
    size, keys = small_size((measure.width, measure.height)), 0
    with av.open(str(path)) as container:
        (stream,) = container.streams.video[:1]
        stream.thread_type, stream.codec_context.skip_frame = "AUTO", "NONKEY"
        for packet in container.demux(stream):
            keys += packet.is_keyframe
            with suppress(FFmpegError):
                for frame in packet.decode():
                    small = frame.reformat(*size, "yuv420p", interpolation=Interpolation.FAST_BILINEAR).to_ndarray()
                    found.append((frame.time or 0.0, thumbnail(small[: size[1]])))
    return found if len(found) == keys else []


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
        update |= {
            "frames": video.frames,
            "height": context.height,
            "sample_aspect_ratio": float(aspect) if aspect else 1.0,
        }
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
        for name, _ in _boxes(file):
            if name in (b"moov", b"mdat"):
                return name == b"moov"
    return False


def is_cut_short(path: Path) -> bool:
    """Whether the file ends inside one of its top-level boxes (ISO 14496-12), or in the header of one."""
    with path.open("rb") as file:
        ends = [end for _, end in _boxes(file)]
    return (ends or [0])[-1] != path.stat().st_size


def _boxes(file: IO[bytes]) -> Iterator[tuple[bytes, int]]:
    """Name and end of every top-level box; the end is an offset in the file, or beyond it."""
    length = file.seek(0, SEEK_END)
    file.seek(0)
    while len(header := file.read(_BOX_HEADER)) == _BOX_HEADER:
        start, size, name = file.tell() - _BOX_HEADER, int.from_bytes(header[:4]), header[4:]
        if size == 1:
            size = max(_LARGE_BOX_HEADER, int.from_bytes(file.read(_LARGE_BOX_HEADER - _BOX_HEADER)))
        elif size == 0:
            size = length - start
        yield name, start + size
        if size < _BOX_HEADER or start + size > length:
            return
        file.seek(start + size)
