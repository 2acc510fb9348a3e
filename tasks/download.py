"""DOWNLOAD: the request's video as media in the bucket, shared by every job that cuts the same source."""

from pathlib import Path
from typing import Any

from prefect import task

from infra.artifacts import ArtifactRef
from infra.errors import SiteError
from infra.jobs import JobRef
from infra.states import Stage
from tasks.core.keys import digest, media_key
from tasks.core.media import MediaInfo, SourceMeta
from tasks.core.request import ClipRequest
from tasks.engines.ffmpeg import binary_dir
from tasks.options import SourceOptions
from tasks.policy import stage_options
from tasks.records import SourceRecord
from tasks.stages.download import (
    Acquired,
    DownloadOptions,
    Identified,
    TransientDownloadError,
    acquire,
    acquire_file,
    identify,
)
from tasks.workspace import Workspace, at_work

VERSION = 1


@task(**stage_options(Stage.DOWNLOAD, VERSION))
def download(job: JobRef, request: ClipRequest, options: SourceOptions) -> SourceRecord:
    """Bring the source's video and audio into the bucket, unless another job has."""
    with at_work(job, Stage.DOWNLOAD) as work:
        try:
            shared, reused = _shared_media(request, _engine_options(options, work), work)
        except TransientDownloadError as error:
            raise SiteError(str(error)) from error
        info, meta = MediaInfo.model_validate(shared["info"]), SourceMeta.model_validate(shared["meta"])
        return SourceRecord(
            artifacts={
                **_media(shared),
                "meta": work.keep_json("meta.json", meta.model_dump(mode="json")),
                "video_stats": work.keep_json("video_stats.json", info.model_dump(mode="json")),
            },
            seconds=work.seconds,
            reused=reused,
            info=info,
        )


def _shared_media(request: ClipRequest, options: DownloadOptions, work: Workspace) -> tuple[dict[str, Any], bool]:
    """The source's entry in the shared cache, and whether it was there already."""
    found = identify(request.video_url, options, binary_dir()) if request.video_url else None
    source = found.digest if found else digest("upload", request.source_key)
    index = media_key(source, f"source-{VERSION}.json")
    if work.store.exists(index):
        entry = work.store.get_json(index)
        if work.store.has_all(_media(entry).values()):
            return entry, True
    entry = _entry(_acquired(found, request, options, work), source, request, work)
    work.store.put_json(index, entry)
    return entry, False


def _acquired(found: Identified | None, request: ClipRequest, options: DownloadOptions, work: Workspace) -> Acquired:
    folder = work.folder / "source"
    if found is None:
        path = work.store.fetch(str(request.source_key), work.folder / Path(str(request.source_key)).name)
        return acquire_file(path, request.source_name, options, folder)

    def progress(done: int, total: int | None) -> None:
        of_all = f" of {total / 1e6:.0f}" if total else ""
        work.say(done / total if total else 0.5, f"{done / 1e6:.0f}{of_all} MB")

    return acquire(found, options, folder, progress, binary_dir())


def _entry(acquired: Acquired, source: str, request: ClipRequest, work: Workspace) -> dict[str, Any]:
    """What the shared cache says of a source. A registered file is its own video."""
    if request.source_key:
        video = work.store.stat(request.source_key)
    else:
        video = work.keep_file(media_key(source, f"video{acquired.video.suffix}"), acquired.video)
    audio = work.keep_file(media_key(source, f"audio{acquired.audio.suffix}"), acquired.audio)
    return {
        "video": video.model_dump() if video else None,
        "audio": audio.model_dump(),
        "audio_made": acquired.audio_copy.reason,
        "info": acquired.info.model_dump(mode="json"),
        "meta": acquired.meta.model_dump(mode="json"),
    }


def _media(entry: dict[str, Any]) -> dict[str, ArtifactRef]:
    return {name: ArtifactRef.model_validate(entry[name]) for name in ("video", "audio")}


def _engine_options(options: SourceOptions, work: Workspace) -> DownloadOptions:
    return DownloadOptions(
        max_seconds=work.settings.max_source_seconds,
        max_bytes=work.settings.max_source_bytes,
        max_fps=options.max_fps,
        allow_private_addresses=work.settings.allow_private_addresses,
        cookies_file=work.settings.ytdlp_cookies_file,
        timeout_seconds=work.settings.download_timeout_seconds,
    )
