"""A source's sound as a file of its own, on the source's clock; and which containers may be opened at all."""

import logging
from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

from tasks.core.errors import NoAudio, UnreadableMedia
from tasks.core.media import MediaInfo
from tasks.engines import ffmpeg

log = logging.getLogger(__name__)

CONTAINERS = "mov,matroska,mpegts,mpeg,avi,flv,ogg,asf,mxf,wav,mp3,aac,flac,w64,aiff,h264,hevc,av1,ivf,amr,caf,nut,gif"
"""Demuxers that read the one file they are given.

Playlists and scripts (hls, dash, concat, sdp, image sequences) are not among them: a stranger's
"video.mp4" that is a playlist inside would make ffmpeg read other files and other hosts.
"""
WITHOUT_INDEX = {"mpegts", "mpeg"}
"""Of these, ffmpeg finds no picture in the middle when key frames are far apart."""
COPIED_CODECS = frozenset({"aac", "mp3", "mp3float", "opus", "flac", "alac", "ac3"})
"""What MP4 holds, by the names of PyAV's decoders."""
LATE_SECONDS = 0.010
"""Sound that starts later than this after the picture is put in its place by encoding silence."""
TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True)
class AudioCopy:
    """The sound alone; `reason` says why it was, or was not, copied as it is."""

    path: Path
    copied: bool
    reason: str


def check_container(path: Path) -> None:
    """Refuse a file that no demuxer of `CONTAINERS` reads, before anything else opens it.

    Raises:
        UnreadableMedia: it is something else.
    """
    if path.stat().st_size == 0:
        raise UnreadableMedia("The file is empty.")
    try:
        with av.open(f"file:{path}", options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}):
            pass
    except (FFmpegError, UnicodeError, ValueError) as error:
        raise UnreadableMedia("The file is not a video in a known format, or it is damaged.") from error


def seekable(source: Path, info: MediaInfo, folder: Path) -> Path:
    """The source, or where its container has no index to seek by, a copy in Matroska with the same streams.

    Raises:
        UnreadableMedia: its streams cannot be copied.
    """
    if info.container not in WITHOUT_INDEX:
        return source
    copy = folder / f"{source.stem}.mkv"
    try:
        ffmpeg.run([*_input(source, "0:V:0", "0:a:0"), "-c", "copy", str(copy)], TIMEOUT_SECONDS)
    except ffmpeg.FfmpegError as error:
        raise UnreadableMedia(f"The {info.container} file is damaged.") from error
    return copy


def extract_audio(source: Path, info: MediaInfo, out: Path) -> AudioCopy:
    """Write the first audio stream of `source` to `out` (.m4a), so that both clocks agree.

    Time 0 is the start of the earlier of the first picture and the first sound, as ffmpeg counts.

    Raises:
        NoAudio: there is no sound.
        UnreadableMedia: the sound cannot be decoded.
    """
    if info.audio_codec is None:
        raise NoAudio("The video has no audio track.")
    start = min(info.audio_start, info.video_start) if info.video_codec else info.audio_start
    late = info.audio_start - start
    if info.audio_codec not in COPIED_CODECS:
        return _transcode(source, out, start, f"{info.audio_codec} is not kept in MP4")
    if late > LATE_SECONDS:
        return _transcode(source, out, start, f"the sound starts {late:.3f} s late")
    try:
        ffmpeg.run([*_input(source, "0:a:0"), "-c:a", "copy", "-f", "mp4", str(out)], TIMEOUT_SECONDS)
    except ffmpeg.FfmpegError:
        log.warning("the sound could not be copied, it is encoded again")
        return _transcode(source, out, start, f"{info.audio_codec} could not be copied")
    return AudioCopy(out, copied=True, reason=f"{info.audio_codec}, from the start")


def _transcode(source: Path, out: Path, start: float, reason: str) -> AudioCopy:
    """Encode, with silence where there is no sound.

    The source's own time stamps are kept and `start` is taken off by hand: of an MPEG-TS of which
    only the sound is read, ffmpeg takes the start of the sound for the start of the file.
    """
    place = f"asetpts=PTS-{start}/TB,aresample=async=1:first_pts=0"
    encode = ["-copyts", "-af", place, "-c:a", "aac", "-b:a", "192k", "-f", "mp4", str(out)]
    try:
        ffmpeg.run([*_input(source, "0:a:0"), *encode], TIMEOUT_SECONDS)
    except ffmpeg.FfmpegError as error:
        raise UnreadableMedia("The video's sound cannot be decoded.") from error
    return AudioCopy(out, copied=False, reason=reason)


def _input(source: Path, *streams: str) -> list[str]:
    safe = ["-protocol_whitelist", "file", "-format_whitelist", CONTAINERS]
    chosen = [argument for stream in streams for argument in ("-map", stream)]
    return ["-v", "error", *safe, "-i", f"file:{source}", *chosen, "-map_metadata", "-1", "-map_chapters", "-1"]
