"""DOWNLOAD: stores the source's video and audio in the bucket, for all jobs with the same source."""

from pathlib import Path

from prefect import task
from pydantic import ValidationError

from infra.errors import ObjectMissing, SiteError
from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import task_arguments
from tasks.core.errors import SourceNotFound
from tasks.core.media import SourceMeta
from tasks.core.object_keys import SOURCE_VERSION, alias_key, digest, source_key
from tasks.core.request import ClipRequest
from tasks.core.sound.channels import rank_tracks
from tasks.engines.ffmpeg import binary_dir
from tasks.engines.sound.loudness import integrated
from tasks.options import SourceOptions
from tasks.records import SharedSource, SourceRecord
from tasks.stages.download import (
    DownloadOptions,
    LocalSource,
    SourceIdentity,
    TransientDownloadError,
    acquire,
    acquire_file,
    file_meta,
    identify,
)
from tasks.workspace import Workspace, media_ref, stage_workspace


@task(**task_arguments(Stage.DOWNLOAD, SOURCE_VERSION))
def download(job: JobRef, request: ClipRequest, options: SourceOptions) -> SourceRecord:
    """Download the source into the bucket, unless another job has done so."""
    with stage_workspace(job, Stage.DOWNLOAD) as work:
        try:
            shared, meta, reused = _shared_media(request, _engine_options(options, request, work), work)
        except TransientDownloadError as error:
            raise SiteError(str(error)) from error
        stats = shared.info.model_dump(mode="json") | {"loudness": {"integrated_lufs": shared.loudness}}
        return SourceRecord(
            artifacts={
                "video": shared.video,
                "audio": shared.audio,
                "meta": work.put_json("meta.json", meta.model_dump(mode="json")),
                "video_stats": work.put_json("video_stats.json", stats),
            },
            seconds=work.seconds,
            reused=reused,
            warnings=shared.warnings,
            info=shared.info,
        )


def _shared_media(
    request: ClipRequest, options: DownloadOptions, work: Workspace
) -> tuple[SharedSource, SourceMeta, bool]:
    """The source's entry in the shared cache, its page's current metadata, and whether the entry already existed."""
    found = identify(request.video_url, options, binary_dir()) if request.video_url else None
    source = found.digest if found else digest("upload", request.source_key)
    index = source_key(source)
    work.mark_use(index)
    work.mark_use(alias_key(request.video_url) if request.video_url else str(request.source_key))
    if request.video_url:
        work.store.put_json(alias_key(request.video_url), {"source": source})
    meta = found.meta if found else file_meta(str(request.source_key), request.source_name)
    if (entry := _cached(index, work)) and _has_same_track(entry, request.language, meta):
        work.prefetch(entry.video)
        return entry, meta, True
    acquired = _download(found, request, options, work)
    return _share(acquired, source, index, request, work), acquired.meta, False


def _cached(index: str, work: Workspace) -> SharedSource | None:
    """The shared entry, or None if it is missing or malformed, or if its media no longer exist."""
    try:
        entry = SharedSource.model_validate(work.store.get_json(index))
    except (ObjectMissing, ValidationError):
        return None
    return entry if work.store.has_all([entry.video, entry.audio]) else None


def _has_same_track(entry: SharedSource, language: str, meta: SourceMeta) -> bool:
    """Whether this request would choose the same audio track as the entry."""
    return rank_tracks(entry.tracks, language, meta.extra.get("language"))[:1] == entry.tracks[:1]


def _download(
    found: SourceIdentity | None, request: ClipRequest, options: DownloadOptions, work: Workspace
) -> LocalSource:
    folder = work.folder / "source"
    if found is None:
        path = _fetch_file(str(request.source_key), work)
        return acquire_file(path, request.source_name, options, folder)

    def progress(done: int, total: int | None) -> None:
        of_all = f" of {total / 1e6:.0f}" if total else ""
        work.report_progress(done / total if total else 0.5, f"{done / 1e6:.0f}{of_all} MB")

    return acquire(found, options, folder, progress, binary_dir())


def _fetch_file(key: str, work: Workspace) -> Path:
    try:
        return work.store.fetch(key, work.folder / Path(key).name)
    except ObjectMissing:
        raise SourceNotFound(
            "The file is no longer in the bucket.", "Upload it again, or cut it with kangklip clip FILE."
        ) from None


def _share(acquired: LocalSource, source: str, index: str, request: ClipRequest, work: Workspace) -> SharedSource:
    """Store a source in the shared cache: first the media, then the entry. A file already in the bucket is not copied.

    The video is uploaded in the background, since this run has it on disk. If the run dies before the upload ends,
    no entry is written, and the next run downloads the source again.
    """
    video, key = acquired.video, request.source_key or ""
    is_registered = video.name == Path(key).name and work.store.exists(key)
    ref = media_ref(source, "video", video)
    if is_registered:
        ref = ref.model_copy(update={"key": key})
    sound = media_ref(source, "audio", acquired.audio)
    entry = SharedSource(
        video=ref,
        audio=sound,
        audio_made=acquired.audio_copy.reason,
        info=acquired.info,
        loudness=integrated(acquired.audio),
        tracks=acquired.tracks,
        warnings=acquired.warnings,
    )
    work.put_file(sound.key, acquired.audio, sound.sha256)
    if is_registered:
        work.store.put_json(index, entry)
    else:
        work.put_in_background(ref, video, lambda: work.store.put_json(index, entry))
    return entry


def _engine_options(options: SourceOptions, request: ClipRequest, work: Workspace) -> DownloadOptions:
    return DownloadOptions(
        max_seconds=work.settings.max_source_seconds,
        max_bytes=work.settings.max_source_bytes,
        max_fps=options.max_fps,
        language=request.language,
        allow_private_addresses=work.settings.allow_private_addresses,
        cookies_file=work.settings.ytdlp_cookies_file,
        timeout_seconds=work.settings.download_timeout_seconds,
    )
