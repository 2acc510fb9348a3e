"""Describes the streams of a media file with PyAV."""

import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from tasks.core.errors import UnreadableMedia
from tasks.core.media import AudioTrack, MediaInfo
from tasks.core.sound.channels import rank_tracks
from tasks.engines.programs import programs

_MATRICES = {
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
}
_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
_TRANSFERS = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    18: "arib-std-b67",
}
"""Code points of ISO/IEC 23091-2, which ffmpeg uses unchanged; all others count as unknown."""
_PROGRESSIVE = 1
"""AVFieldOrder: 0 is unknown, 2 to 5 are interlaced orders."""
_NEVER_INTERLACED = frozenset({"vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d", "gif"})
_PLACES = (0.2, 0.5, 0.8)
"""Fractions of the duration at which to read a frame's flags: an intro may be progressive when the rest is not."""
_SECOND = Fraction(1, av.time_base)
PROBE_LIMITS = {"analyzeduration": "60000000", "probesize": "50000000"}
"""Microseconds and bytes within which a stream's first frame must appear; ffmpeg's default is five seconds."""
_FASTEST = 300
"""Frames per second: a higher rate is a time base mistaken for a rate, as with DV."""
_ASIDE = (
    Disposition.comment
    | Disposition.karaoke
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
    | Disposition.clean_effects
)
"""Flags of audio tracks other than the main programme."""


def probe(path: Path) -> MediaInfo:
    """Streams of the file at `path`; a missing stream is None in the result.

    Decodes one frame, because only frames carry the rotation. For a transport stream with several programs,
    describes the first one with both picture and sound.

    Raises:
        UnreadableMedia: no demuxer or decoder can read it.
    """
    try:
        with av.open(str(path), options=PROBE_LIMITS) as container:
            return _describe(container, path)
    except (FFmpegError, UnicodeError, ValueError) as error:
        raise UnreadableMedia(f"The file cannot be read as audio or video ({_short_reason(error)}).") from error


def _describe(container: InputContainer, path: Path) -> MediaInfo:
    found = programs(path) if container.format.name == "mpegts" else []
    chosen = _program(container, found) if len(found) > 1 else None
    pids = None if chosen is None else found[chosen]
    video = picture_of(container, pids)
    info = MediaInfo(
        duration=_duration(container),
        size_bytes=path.stat().st_size,
        container=container.format.name,
        start=float((container.start_time or 0) * _SECOND),
        programs=len(found),
        program=None if chosen is None else chosen + 1,
    )
    sounds = [stream for stream in container.streams.audio if pids is None or stream.id in pids]
    if tracks := rank_tracks([_track(stream) for stream in sounds], "auto"):
        info = info.model_copy(update={"tracks": tracks}).with_track(tracks[0])
    return info if video is None else info.model_copy(update=_describe_video(container, video))


def _program(container: InputContainer, found: list[frozenset[int]]) -> int:
    """Index of the first program with picture and sound, else the first with a picture, else the first."""
    pictures = {stream.id for stream in _moving_pictures(container)}
    sounds = {stream.id for stream in container.streams.audio}
    return max(range(len(found)), key=lambda n: (bool(found[n] & pictures), bool(found[n] & sounds)))


def _track(stream: AudioStream) -> AudioTrack:
    context, flags = stream.codec_context, stream.disposition
    return AudioTrack(
        index=stream.index,
        codec=context.name,
        sample_rate=context.sample_rate or 0,
        channels=context.channels,
        layout=context.layout.name,
        language=stream.language,
        default=bool(flags & Disposition.default),
        original=bool(flags & Disposition.original),
        aside=bool(flags & _ASIDE),
        start=_seconds(stream.start_time, stream.time_base),
    )


def _moving_pictures(container: InputContainer) -> list[VideoStream]:
    """The video streams that are not cover images."""
    covers = Disposition.attached_pic | Disposition.still_image | Disposition.timed_thumbnails
    return [s for s in container.streams.video if not s.disposition & covers]


def picture_of(container: InputContainer, pids: frozenset[int] | None = None) -> VideoStream | None:
    """The video stream flagged as default, else the first; limited to those with one of `pids` if set."""
    streams = [stream for stream in _moving_pictures(container) if pids is None or stream.id in pids]
    return next((s for s in streams if s.disposition & Disposition.default), streams[0] if streams else None)


def _describe_video(container: InputContainer, video: VideoStream) -> dict[str, object]:
    frame = _first_frame(container, video)
    aspect = video.sample_aspect_ratio or Fraction(1)
    aspect = aspect if aspect > 0 else Fraction(1)
    rotation = round(-frame.rotation / 90) * 90 % 360
    width, height = round(frame.width * aspect), frame.height
    if rotation in (90, 270):
        width, height = height, width
    return {
        "video_index": video.index,
        "video_is_first": video.index == _moving_pictures(container)[0].index,
        "video_codec": video.codec_context.name,
        "width": width,
        "height": height,
        "rotation": rotation,
        "sample_aspect_ratio": float(aspect),
        "fps": next((float(r) for r in (video.average_rate, video.guessed_rate) if r and r <= _FASTEST), 0.0),
        "pixel_format": frame.format.name,
        "color_matrix": "gbr" if frame.format.is_rgb else _MATRICES.get(frame.colorspace),
        "color_primaries": _PRIMARIES.get(frame.color_primaries),
        "color_transfer": _TRANSFERS.get(frame.color_trc) or _transfer_by_display(frame),
        "alpha": any(component.is_alpha for component in frame.format.components),
        "interlaced": _is_interlaced(container, video, frame),
        "video_start": _seconds(video.start_time, video.time_base),
    }


def _transfer_by_display(frame: VideoFrame) -> str | None:
    """PQ if the transfer is untagged but there is mastering display metadata, which only HDR10 has."""
    return "smpte2084" if frame.side_data.get("MASTERING_DISPLAY_METADATA") else None


def _is_interlaced(container: InputContainer, video: VideoStream, first: VideoFrame) -> bool:
    """Whether the container or any sampled frame says so."""
    if video.codec_context.name in _NEVER_INTERLACED:
        return False
    if first.interlaced_frame or video.codec_context.field_order > _PROGRESSIVE:
        return True
    return any(frame.interlaced_frame for frame in _spread_frames(container, video))


def _spread_frames(container: InputContainer, video: VideoStream) -> Iterator[VideoFrame]:
    """A frame at each of `_PLACES`; stops at the first failure, which the range analysis will report."""
    for share in _PLACES:
        try:
            container.seek(int(share * (container.duration or 0)))
            yield from itertools.islice(container.decode(video), 1)
        except FFmpegError:
            return


def _first_frame(container: InputContainer, video: VideoStream) -> VideoFrame:
    for frame in container.decode(video):
        return frame
    raise UnreadableMedia("The file has a video stream, but none of its frames can be decoded.")


def _duration(container: InputContainer) -> float:
    """The container's duration, or the longest stream's if the container has none."""
    if container.duration:
        return float(container.duration * _SECOND)
    return max((_seconds(s.duration, s.time_base) for s in container.streams), default=0.0)


def _seconds(ticks: int | None, time_base: Fraction | None) -> float:
    return float(ticks * time_base) if ticks is not None and time_base is not None else 0.0


def _short_reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
