"""Decodes frames from a given time with PyAV, by the file's own timestamps; time 0 is the start of the file."""

from collections.abc import Iterator
from typing import TypeVar

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

Kind = TypeVar("Kind", AudioFrame, VideoFrame)


def seek(container: InputContainer, stream: AudioStream | VideoStream, at: float) -> None:
    """Seek to the last key frame at or before `at` seconds."""
    container.seek(round((at + _origin(container)) / float(stream.time_base or 1)), stream=stream)


def key_frame_before(container: InputContainer, stream: VideoStream, at: float) -> float | None:
    """The time of the key frame to start from to decode the picture at `at` seconds, or None."""
    seek(container, stream, at)
    for packet in container.demux(stream):
        if packet.is_keyframe and packet.pts is not None:
            return _time(container, stream, packet.pts)
    return None


def video_frames(container: InputContainer, stream: VideoStream, start: float) -> Iterator[tuple[float, VideoFrame]]:
    """Frames with their start times, from the key frame before `start`."""
    return _frames(container, stream, start, VideoFrame)


def audio_frames(container: InputContainer, stream: AudioStream, start: float) -> Iterator[tuple[float, AudioFrame]]:
    """Frames with their start times, from `start` or slightly earlier."""
    return _frames(container, stream, start, AudioFrame)


def _frames(
    container: InputContainer, stream: AudioStream | VideoStream, start: float, kind: type[Kind]
) -> Iterator[tuple[float, Kind]]:
    """Skip damaged packets, as players do; a frame without a timestamp gets the previous frame's."""
    seek(container, stream, start)
    begins = start
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except FFmpegError:
            continue
        for frame in frames:
            if isinstance(frame, kind):
                begins = begins if frame.pts is None else _time(container, stream, frame.pts)
                yield begins, frame


def _time(container: InputContainer, stream: AudioStream | VideoStream, pts: int) -> float:
    return float(pts * (stream.time_base or 1)) - _origin(container)


def _origin(container: InputContainer) -> float:
    return (container.start_time or 0) / av.time_base
