"""Extracts a source's sound to a separate file on the same clock, and decides which containers may be opened."""

import logging
from dataclasses import dataclass
from pathlib import Path

import av
from av.error import FFmpegError

from tasks.core.errors import UnreadableMedia
from tasks.core.media import AudioTrack, MediaInfo
from tasks.core.sound.channels import UNCHANGED, Mix, discrete_mix, is_silent, stereo_mix
from tasks.engines import ffmpeg
from tasks.engines.probe import PROBE_LIMITS
from tasks.engines.sound.channels import gapless_arguments, is_discrete, measure_channels

log = logging.getLogger(__name__)

CONTAINERS = (
    "mov,matroska,mpegts,mpeg,avi,flv,ogg,asf,mxf,wav,mp3,aac,flac,w64,aiff,h264,hevc,av1,ivf,amr,caf,nut,gif,dv"
)
"""Demuxers that read only the file they are given.

Playlists and scripts (hls, dash, concat, sdp, image sequences) are excluded: an untrusted
"video.mp4" that is really a playlist would make ffmpeg read other files and contact other hosts.
"""
SEEKABLE_CONTAINERS = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi"}
"""Containers with an index, and with a time per frame or a constant rate; clips are cut from them directly."""
COPIED_CODECS = frozenset({"aac", "opus", "flac", "alac"})
"""Codecs that MP4 supports and whose parameters are constant in a seekable container, by PyAV's decoder names."""
LATE_SECONDS = 0.010
"""Sound that starts later than this after the picture is re-encoded with leading silence."""
EARLIEST_START = -0.1
"""Seconds: ffmpeg's seeks find nothing in files that start earlier; encoder delay is shorter."""
RESTART_SECONDS = 0.5
"""A larger backward step is a restart of the timestamps, as where recordings were joined."""
LONGEST_GAP = 10.0
"""Seconds: a longer step in both picture and sound is a new clock; in only one of them, it is a gap."""
MAX_TRACKS = 8
"""Maximum number of audio tracks to analyse."""
TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True)
class Sound:
    """The selected track, the mix its channels need, and warnings for the user about the choice."""

    track: AudioTrack
    mix: Mix = UNCHANGED
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SeekableSource:
    """A file to cut clips from, and a warning for the user about how it was made."""

    path: Path
    warning: str = ""


@dataclass(frozen=True)
class AudioCopy:
    """The sound alone; `reason` tells why it was copied or re-encoded."""

    path: Path
    copied: bool
    reason: str


_SAFE = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}


def check_container(path: Path) -> None:
    """Reject a file that no demuxer in `CONTAINERS` reads, before anything else opens it.

    Raises:
        UnreadableMedia: no such demuxer reads it.
    """
    if path.stat().st_size == 0:
        raise UnreadableMedia("The file is empty.")
    try:
        with av.open(f"file:{path}", options=_SAFE):
            pass
    except (FFmpegError, UnicodeError, ValueError) as error:
        raise UnreadableMedia("The file is not a video or sound in a known format, or it is damaged.") from error


def choose_sound(source: Path, tracks: list[AudioTrack]) -> Sound:
    """The first of `tracks` that is not silent, with the mix its channels need.

    Raises:
        UnreadableMedia: none can be decoded.
    """
    silent: list[AudioTrack] = []
    warnings: list[str] = []
    for track in tracks[:MAX_TRACKS]:
        name = f"sound track {1 + sum(other.index < track.index for other in tracks)} of {len(tracks)}"
        for variant in (track, track.without_layout):
            power = measure_channels(source, variant)
            if power is not None and not is_silent(power):
                mix = discrete_mix(power) if is_discrete(variant) else stereo_mix(power)
                skipped = [*warnings, f"{name} is used"] if warnings else []
                return Sound(variant, mix, (*skipped, *filter(None, [mix.reason])))
        silent += [track] if power is not None else []
        warnings.append(f"{name} is silent" if power is not None else f"{name} cannot be decoded")
    if not silent:
        raise UnreadableMedia("The video's sound cannot be decoded.")
    return Sound(silent[0])


def make_seekable(source: Path, info: MediaInfo, sound: Sound, folder: Path) -> SeekableSource:
    """The source itself, or a Matroska copy of its picture and sound if clips cannot be cut from it directly.

    A copy is needed if the container has no index to seek by, does not state its duration, or omits or
    restarts timestamps; missing ones are generated. The copy's sound is re-encoded to gapless stereo, because its
    parameters may change at any time in such containers; `extract_audio` applies the mix. The picture is
    re-encoded only if it cannot be copied.

    Raises:
        UnreadableMedia: its streams cannot be read.
    """
    has_clock = info.duration > 0 and info.start > EARLIEST_START
    if info.container in SEEKABLE_CONTAINERS and has_clock and info.video_is_first:
        return SeekableSource(source)
    copy = folder / f"{source.stem}-indexed.mkv"
    try:
        jump = ["-dts_delta_threshold", f"{_smallest_restart(source, info, sound.track):g}"]
        plain = sound if is_discrete(sound.track) else Sound(sound.track)
        streams = [*_decode_sound(source, plain), "-map", "[sound]", *_AAC, "-map", f"0:{info.video_index}", *_PLAIN]
        try:
            _run([*jump, *streams, "-c:v", "copy", str(copy)])
        except ffmpeg.FfmpegError as error:
            log.warning("The picture could not be copied and is re-encoded: %s", str(error).splitlines()[-1])
            _run([*jump, *streams, *_H264, str(copy)])
            return SeekableSource(copy, "the picture could not be copied from its container and was re-encoded")
    except (ffmpeg.FfmpegError, FFmpegError) as error:
        raise UnreadableMedia(f"The {info.container} file is damaged.") from error
    return SeekableSource(copy)


def _smallest_restart(source: Path, info: MediaInfo, track: AudioTrack) -> float:
    """The smallest step between timestamps, in seconds, that ffmpeg should treat as a new clock."""
    last: dict[int, float] = {}
    longest = dict.fromkeys((info.video_index, track.index), 0.0)
    with av.open(f"file:{source}", options=_SAFE) as container:
        for packet in container.demux([container.streams[index] for index in longest]):
            if packet.dts is None or packet.time_base is None:
                continue
            index, time = packet.stream.index, float(packet.dts * packet.time_base)
            step = time - last.get(index, time)
            if step < -RESTART_SECONDS:
                return 1.0
            longest[index] = max(longest[index], step)
            last[index] = time
    return LONGEST_GAP if min(longest.values()) > LONGEST_GAP else 2 * LONGEST_GAP + max(longest.values())


def extract_audio(source: Path, info: MediaInfo, sound: Sound, out: Path) -> AudioCopy:
    """Write the selected sound of a file to `out` (.m4a), on the same clock.

    Time 0 is the start of the container, as in ffmpeg. Channels and sample rate never change.

    Raises:
        UnreadableMedia: the sound cannot be decoded.
    """
    track = sound.track
    if info.container not in SEEKABLE_CONTAINERS:
        return _transcode(source, sound, out, f"{info.container} has no index")
    if track.codec not in COPIED_CODECS:
        return _transcode(source, sound, out, f"{track.codec} is not copied")
    if not track.has_layout or sound.mix.filter:
        return _transcode(source, sound, out, sound.mix.reason or f"the layout is {track.layout}")
    if (late := track.start - info.start) > LATE_SECONDS:
        return _transcode(source, sound, out, f"the sound starts {late:.3f} s late")
    try:
        _run([*input_arguments(source), "-map", f"0:{track.index}", "-c:a", "copy", *_PLAIN, "-f", "mp4", str(out)])
    except ffmpeg.FfmpegError:
        log.warning("The sound could not be copied and is re-encoded")
        return _transcode(source, sound, out, f"{track.codec} could not be copied")
    return AudioCopy(out, copied=True, reason=f"{track.codec}, from the start")


_H264 = ["-c:v", "libx264", "-preset", "veryfast", "-crf", "17", "-fps_mode", "passthrough"]
_AAC = ["-c:a", "aac", "-b:a", "192k"]
_PLAIN = ["-map_metadata", "-1", "-map_chapters", "-1"]


def _transcode(source: Path, sound: Sound, out: Path, reason: str) -> AudioCopy:
    """Re-encode the sound, filling gaps with silence."""
    try:
        _run([*_decode_sound(source, sound), "-map", "[sound]", *_AAC, *_PLAIN, "-f", "mp4", str(out)])
    except ffmpeg.FfmpegError as error:
        raise UnreadableMedia("The video's sound cannot be decoded.") from error
    return AudioCopy(out, copied=False, reason=reason)


def _run(arguments: list[str]) -> None:
    ffmpeg.run(arguments, TIMEOUT_SECONDS)


def _decode_sound(source: Path, sound: Sound) -> list[str]:
    return [*input_arguments(source), *gapless_arguments(sound.track, sound.mix)]


def input_arguments(source: Path) -> list[str]:
    """ffmpeg's arguments that open an untrusted file, and no other."""
    safe = [word for name, value in (_SAFE | PROBE_LIMITS).items() for word in (f"-{name}", value)]
    return ["-v", "error", *safe, "-fflags", "+genpts", "-i", f"file:{source}"]
