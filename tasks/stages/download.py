"""Turns a URL or file into the source's video, its sound and its metadata. Does not touch the bucket.

`identify` cheaply finds out what the request refers to; before calling `acquire`, the caller can check
by `Identified.digest` whether it already has the media.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from infra.untrusted_text import one_line
from tasks.core.errors import NoAudio, NoVideo, SourceTooLarge, SourceTooLong
from tasks.core.media import AudioTrack, MediaInfo, SourceMeta
from tasks.core.sound.channels import rank_tracks
from tasks.core.source.page import MAX_TITLE_CHARS
from tasks.engines.probe import probe
from tasks.engines.source import ytdlp
from tasks.engines.source.demux import (
    CLIPPED_FROM,
    AudioCopy,
    check_container,
    choose_sound,
    extract_audio,
    seekable,
)
from tasks.engines.source.egress import SYSTEM, Network
from tasks.engines.source.ytdlp import DownloadOptions, Inspected, TransientDownloadError
from tasks.engines.source.ytdlp_process import Progress

__all__ = [
    "Acquired",
    "DownloadOptions",
    "Identified",
    "TransientDownloadError",
    "acquire",
    "acquire_file",
    "identify",
]


@dataclass(frozen=True)
class Identified:
    """What a URL refers to; `digest` names its media in the shared cache."""

    digest: str
    meta: SourceMeta
    inspected: Inspected


@dataclass(frozen=True)
class Acquired:
    """A source on disk. `audio` is on the clock of `video`; `audio_copy` says how it was made.

    `tracks` are the file's sound tracks, best first; `warnings` tell the user about the choice.
    """

    video: Path
    audio: Path
    info: MediaInfo
    meta: SourceMeta
    audio_copy: AudioCopy
    tracks: list[AudioTrack]
    warnings: list[str]


def identify(url: str, options: DownloadOptions, ffmpeg_dir: Path, *, network: Network = SYSTEM) -> Identified:
    """Find out what `url` refers to without downloading it.

    Raises:
        ClipError: the subclass names the cause.
        TransientDownloadError: worth retrying.
    """
    inspected = ytdlp.inspect(url, options, ffmpeg_dir, network=network)
    return Identified(inspected.digest, inspected.meta, inspected)


def acquire(
    identified: Identified,
    options: DownloadOptions,
    folder: Path,
    progress: Progress,
    ffmpeg_dir: Path,
    *,
    network: Network = SYSTEM,
) -> Acquired:
    """Download the identified source into `folder` and extract its sound.

    `progress` gets the bytes done and the total, if known. Raises the same errors as `identify`.
    """
    video = ytdlp.fetch(identified.inspected, options, folder, progress, ffmpeg_dir, network=network)
    return _opened(video, identified.meta, options, folder)


def acquire_file(path: Path, name: str, options: DownloadOptions, folder: Path) -> Acquired:
    """Use a local file. `name` is the owner's name for it and is never used to open it.

    Raises:
        ClipError: unreadable, without picture or sound, too long or too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _opened(path, file_meta(path.name, name), options, folder)


def file_meta(key: str, name: str) -> SourceMeta:
    """Metadata of a registered file: the last part of its key, and its owner's name for it."""
    stem = one_line(os.path.splitext(os.path.basename(name))[0], MAX_TITLE_CHARS)  # noqa: PTH119, PTH122 - a name, not a path
    return SourceMeta(source_id=f"upload-{os.path.basename(key)[:64]}", kind="local_file", title=stem)  # noqa: PTH119


def _opened(video: Path, meta: SourceMeta, options: DownloadOptions, folder: Path) -> Acquired:
    check_container(video)
    found = probe(video)
    check_media(found, options)
    tracks = rank_tracks(found.tracks, options.language, meta.extra.get("language"))
    sound = choose_sound(video, tracks)
    copy = seekable(video, found, sound, folder)
    warnings = [*sound.warnings, *filter(None, [copy.warning])]
    if found.program:
        warnings.append(f"program {found.program} of {found.programs} is used")
    info = found.with_track(sound.track)
    if copy.path != video:
        video, info = copy.path, probe(copy.path)
        check_length(info, options)
        sound = choose_sound(video, info.tracks)
        warnings += [warning for warning in sound.warnings if warning not in warnings]
    audio = extract_audio(video, info, sound, folder / "audio.m4a")
    meta = meta if meta.duration else meta.model_copy(update={"duration": info.duration})
    return Acquired(video, audio.path, info, meta, audio, tracks, warnings)


def check_media(info: MediaInfo, options: DownloadOptions) -> None:
    """Reject media that cannot become clips.

    Raises:
        NoVideo, NoAudio, SourceTooLong, SourceTooLarge
    """
    if info.video_codec is None:
        raise NoVideo("The file has sound but no picture." if info.audio_codec else "The file has no picture.")
    if info.audio_codec is None:
        raise NoAudio("The video has no audio track.")
    if info.size_bytes > options.max_bytes:
        raise SourceTooLarge(f"The video has {info.size_bytes} bytes; at most {options.max_bytes} are accepted.")
    if info.container in CLIPPED_FROM:  # other containers report their length unreliably; it is known after copying
        check_length(info, options)


def check_length(info: MediaInfo, options: DownloadOptions) -> None:
    """Reject media that is too long.

    Raises:
        SourceTooLong
    """
    if info.duration > options.max_seconds:
        raise SourceTooLong(
            f"The video is {info.duration:.0f} s long; at most {options.max_seconds:.0f} s are accepted."
        )
