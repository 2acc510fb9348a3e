"""DOWNLOAD: turn a URL or file into the source's video, sound and metadata. Does not touch the bucket.

`identify` cheaply finds out what the request refers to. Before it calls `acquire`, the caller can check by
`SourceIdentity.digest` whether it already has the media.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from infra.untrusted_text import one_line
from tasks.core.errors import NoAudio, SourceTooLarge, SourceTooLong
from tasks.core.media import AudioTrack, MediaInfo, SourceMeta
from tasks.core.sound.channels import rank_tracks
from tasks.core.source.page import MAX_TITLE_CHARS
from tasks.engines.probe import probe
from tasks.engines.source import ytdlp
from tasks.engines.source.cover import with_picture
from tasks.engines.source.demux import (
    SEEKABLE_CONTAINERS,
    AudioCopy,
    check_container,
    choose_sound,
    extract_audio,
    make_seekable,
)
from tasks.engines.source.egress import SYSTEM, Network
from tasks.engines.source.ytdlp import DownloadOptions, Fetched, Inspection, TransientDownloadError
from tasks.engines.source.ytdlp_process import Progress

__all__ = [
    "DownloadOptions",
    "LocalSource",
    "SourceIdentity",
    "TransientDownloadError",
    "acquire",
    "acquire_file",
    "identify",
]


@dataclass(frozen=True)
class SourceIdentity:
    """What a URL refers to; `digest` names its media in the shared cache."""

    digest: str
    meta: SourceMeta
    inspected: Inspection


@dataclass(frozen=True)
class LocalSource:
    """A source on disk. `audio` is on the clock of `video`; `audio_copy` tells how it was made.

    `tracks` are the file's audio tracks, best first; `warnings` tell the user which one was chosen and why.
    """

    video: Path
    audio: Path
    info: MediaInfo
    meta: SourceMeta
    audio_copy: AudioCopy
    tracks: list[AudioTrack]
    warnings: list[str]


def identify(url: str, options: DownloadOptions, ffmpeg_dir: Path, *, network: Network = SYSTEM) -> SourceIdentity:
    """Find out what `url` refers to without downloading it.

    Raises:
        ClipError: the subclass names the cause.
        TransientDownloadError: worth retrying.
    """
    inspected = ytdlp.inspect(url, options, ffmpeg_dir, network=network)
    return SourceIdentity(inspected.digest, inspected.meta, inspected)


def acquire(
    identified: SourceIdentity,
    options: DownloadOptions,
    folder: Path,
    progress: Progress,
    ffmpeg_dir: Path,
    *,
    network: Network = SYSTEM,
) -> LocalSource:
    """Download the identified source into `folder` and extract its sound.

    `progress` is called with the bytes done and the total, if known. Raises the same errors as `identify`.
    """
    fetched = ytdlp.fetch(identified.inspected, options, folder, progress, ffmpeg_dir, network=network)
    return _prepare(fetched, identified.meta, options, folder)


def acquire_file(path: Path, name: str, options: DownloadOptions, folder: Path) -> LocalSource:
    """Use a local file. `name` is its original name, which is never used to open it.

    Raises:
        ClipError: unreadable, without sound, too long or too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return _prepare(Fetched(path), file_meta(path.name, name), options, folder)


def file_meta(key: str, name: str) -> SourceMeta:
    """Metadata of an uploaded file, from its key and its original name."""
    stem = one_line(os.path.splitext(os.path.basename(name))[0], MAX_TITLE_CHARS)  # noqa: PTH119, PTH122 - a name, not a path
    return SourceMeta(source_id=f"upload-{os.path.basename(key)[:64]}", kind="local_file", title=stem)  # noqa: PTH119


def _prepare(fetched: Fetched, meta: SourceMeta, options: DownloadOptions, folder: Path) -> LocalSource:
    video = fetched.media
    check_container(video)
    found = probe(video)
    check_media(found, options)
    if found.video_codec is None:
        return _prepare_sound(fetched, found, meta, options, folder)
    tracks = rank_tracks(found.tracks, options.language, meta.extra.get("language"))
    sound = choose_sound(video, tracks)
    copy = make_seekable(video, found, sound, folder)
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
    return LocalSource(video, audio.path, info, meta, audio, tracks, warnings)


def _prepare_sound(
    fetched: Fetched, found: MediaInfo, meta: SourceMeta, options: DownloadOptions, folder: Path
) -> LocalSource:
    """A source of sound alone, with a still picture."""
    file = fetched.media
    tracks = rank_tracks(found.tracks, options.language, meta.extra.get("language"))
    sound = choose_sound(file, tracks)
    audio = extract_audio(file, found, sound, folder / "audio.m4a")
    video = folder / f"{file.stem}-pictured.mp4"
    shown = with_picture(file, audio.path, meta.title, video, fetched.cover)
    info = probe(video).model_copy(update={"is_cover": True, "duration": probe(audio.path).duration})
    check_length(info, options)
    meta = meta if meta.duration else meta.model_copy(update={"duration": info.duration})
    return LocalSource(video, audio.path, info, meta, audio, tracks, [*sound.warnings, *shown])


def check_media(info: MediaInfo, options: DownloadOptions) -> None:
    """Reject media that cannot become clips.

    Raises:
        NoAudio, SourceTooLong, SourceTooLarge
    """
    if info.audio_codec is None:
        raise NoAudio("The file has no sound." if info.video_codec is None else "The video has no audio track.")
    if info.size_bytes > options.max_bytes:
        raise SourceTooLarge(f"The video has {info.size_bytes} bytes; the limit is {options.max_bytes}.")
    if info.container in SEEKABLE_CONTAINERS:  # other containers report no reliable length; it is known after copying
        check_length(info, options)


def check_length(info: MediaInfo, options: DownloadOptions) -> None:
    """Reject media that is too long.

    Raises:
        SourceTooLong
    """
    if info.duration > options.max_seconds:
        raise SourceTooLong(f"The video is {info.duration:.0f} s long; the limit is {options.max_seconds:.0f} s.")
