"""A stage's workspace: a local folder, the job's prefix in the bucket, and progress reports."""

import contextlib
import shutil
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect.artifacts import update_progress_artifact

from infra import disk, settings
from infra.bucket import background_transfers
from infra.bucket.store import ArtifactRef, ArtifactStore
from infra.digests import sha256_of
from infra.errors import DiskFull, MachineError
from infra.granted.access import access_of
from infra.jobs.record import JobRef, Report
from infra.jobs.reports import Progress, Sink, sinks_of, stage_reports
from infra.jobs.store import JobStore
from infra.prefect import stop_signals
from infra.settings import Settings
from infra.states import Stage
from tasks import kept_sources
from tasks.core.errors import ProgramStopped
from tasks.core.object_keys import job_key, media_key
from tasks.core.transcript import TRANSCRIPT_JSON, Speech
from tasks.engines import memory
from tasks.engines.footage import Footage
from tasks.records import SourceRecord, TranscriptRecord
from tasks.shared_cache import mark_use

ARTIFACT_INTERVAL = 3.0
"""Seconds between updates of the progress artifact. Each costs the Prefect server about 30 ms."""

ABANDONED_SECONDS = 2 * 86400
"""A folder untouched for this long belongs to no live run: even the longest source takes hours, not days."""


class Workspace:
    """A job's local folder and its prefix in the bucket. Files in the folder are named after their SHA-256."""

    def __init__(self, job: JobRef, settings: Settings, report_progress: Progress) -> None:
        self.job = job
        self.settings = settings
        self.store = ArtifactStore.from_settings(settings)
        self.folder = work_folder(job, settings)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.report_progress = report_progress
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the stage began."""
        return round(time.monotonic() - self._began, 3)

    def fetch(self, ref: ArtifactRef) -> Path:
        """The object as a local file, downloaded and verified unless it is already there."""
        path = self._local(ref)
        if not path.is_file():
            background_transfers.wait(path)
        return path if path.is_file() else self.store.fetch(ref, path)

    def footage(self, source: SourceRecord) -> Footage:
        """Video and audio of the job's source. Our own machines keep them for recuts; see `kept_sources`."""
        video, audio = (self._fetch_source(source.artifacts[name]) for name in ("video", "audio"))
        return Footage(video=video, audio=audio, info=source.info)

    def speech(self, transcript: TranscriptRecord) -> Speech:
        """The transcript of the job's source."""
        segments = TRANSCRIPT_JSON.validate_json(self.fetch(transcript.artifacts["transcript"]).read_bytes())
        return Speech(segments, transcript.language)

    def prefetch(self, ref: ArtifactRef) -> None:
        """Start downloading the object in the background, for a later stage."""
        path = self._local(ref)
        if not path.is_file():
            background_transfers.begin(path, lambda: self.store.fetch(ref, path, use_threads=False))

    def fetch_to(self, ref: ArtifactRef, name: str) -> Path:
        """The object as the local file `name`, a path relative to the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.hardlink_to(self.fetch(ref))
        return path

    def put_json(self, name: str, content: Any) -> ArtifactRef:
        """Store a JSON artifact below the job's prefix."""
        return self.store.put_json(job_key(self.job.job_id, name), content)

    def put_file(self, key: str, path: Path, sha256: str | None = None) -> ArtifactRef:
        """Upload a file, then move it to where `fetch` looks."""
        ref = self.store.put_file(key, path, sha256=sha256)
        shutil.move(path, self._local(ref))
        return ref

    def put_in_background(self, ref: ArtifactRef, path: Path, then: Callable[[], object]) -> None:
        """Move a file to where `fetch` looks, and upload it in the background as `ref`; then call `then`."""
        local = self._local(ref)
        shutil.move(path, local)

        def put() -> None:
            self.store.put_file(ref.key, local, sha256=ref.sha256, use_threads=False)
            then()

        background_transfers.begin(local, put)

    def mark_use(self, key: str) -> None:
        """Mark that the job uses an entry of the shared cache. A rented machine cannot; our API does it for its run."""
        if access_of(self.settings) is None:
            mark_use(key, self.job.job_id, self.store)

    def _fetch_source(self, ref: ArtifactRef) -> Path:
        job_id, data_dir, path = self.job.job_id, self.settings.data_dir, self._local(ref)
        if access_of(self.settings) is not None:
            return self.fetch(ref)
        if not path.is_file() and kept_sources.take(job_id, path, ref.size, data_dir):
            return path
        self.fetch(ref)
        kept_sources.keep(job_id, path, data_dir)
        return path

    def _local(self, ref: ArtifactRef) -> Path:
        return self.folder / f"{ref.sha256}{Path(ref.key).suffix}"


@contextmanager
def stage_workspace(job: JobRef, stage: Stage) -> Generator[Workspace]:
    """Set up a stage's workspace. Its progress goes to Redis, the callback URL and Prefect's progress artifact.

    Raises:
        DiskFull: the disk filled up while the stage was writing.
        MachineError: a program run by the stage was killed, or hung.
    """
    configured = settings.load()
    to = [*sinks_of(configured), *_artifact_sinks(job)]
    with stage_reports(job, stage, to) as report:

        def report_progress(fraction: float, message: str) -> None:
            stop_signals.raise_pending()
            report(fraction, message)

        try:
            with machine_failures(configured):
                yield Workspace(job, configured, report_progress)
        finally:
            memory.give_back()


@contextmanager
def machine_failures(configured: Settings) -> Generator[None]:
    """Name a killed program and a full disk as failures of the machine.

    Raises:
        DiskFull: the disk filled up during the block.
        MachineError: a program run in the block was killed, or hung.
    """
    try:
        yield
    except ProgramStopped as error:
        raise MachineError(str(error)) from error
    except OSError as error:
        if not disk.is_full_error(error):
            raise
        raise DiskFull(disk.full_message(configured.data_dir)) from error


def media_ref(source: str, name: str, path: Path) -> ArtifactRef:
    """The reference of a media file in the shared cache. Its key contains its digest, so writers never collide."""
    content = sha256_of(path)
    key = media_key(source, f"{name}-{content[:16]}{path.suffix}")
    return ArtifactRef(key=key, sha256=content, size=path.stat().st_size)


def work_folder(job: JobRef, settings: Settings) -> Path:
    """An attempt's local folder. Everything in it can be downloaded or rebuilt."""
    of_revision = f"r{job.revision}-" if job.revision else ""
    return settings.data_dir / "work" / f"{job.job_id}-{of_revision}{job.attempt}"


def sweep(job: JobRef, settings: Settings, store: JobStore | None = None) -> None:
    """Delete the folders of killed runs: of the job's earlier attempts, of jobs that are over, and all old ones.

    So do kept sources, of deleted jobs and beyond the limits.
    """
    if store:
        kept_sources.forget_deleted(settings.data_dir, store)
    kept_sources.drop_old(settings.data_dir)
    old = time.time() - ABANDONED_SECONDS
    for folder in (settings.data_dir / "work").glob("*-*"):
        of_job = folder.name.partition("-")[0]
        is_earlier = of_job == job.job_id and folder != work_folder(job, settings)
        with contextlib.suppress(FileNotFoundError):  # its run has just deleted it
            if is_earlier or folder.stat().st_mtime < old or (of_job != job.job_id and _is_over(of_job, store)):
                shutil.rmtree(folder, ignore_errors=True)


def _is_over(job_id: str, store: JobStore | None) -> bool:
    """Whether nothing is under way for a known job, and no process runs it: one may have been killed just after."""
    found = store.get(job_id) if store else None
    return store is not None and found is not None and found.is_settled and not store.leases.is_held(job_id)


def _artifact_sinks(job: JobRef) -> list[Sink]:
    if job.progress_artifact is None:
        return []
    artifact = UUID(job.progress_artifact)
    last = {"at": 0.0, "stage": ""}

    def update(report: Report) -> None:
        now = time.monotonic()
        if report.stage != last["stage"] or now - float(last["at"]) >= ARTIFACT_INTERVAL:
            last.update(at=now, stage=str(report.stage))
            update_progress_artifact(
                artifact, progress=report.progress or 0.0, description=f"{report.stage}: {report.message}"
            )

    return [update]
