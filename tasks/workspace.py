"""What a stage works in: a folder of the job's own, the bucket, and somebody to tell how it goes."""

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
from infra.bucket import background
from infra.bucket.store import ArtifactRef, ArtifactStore
from infra.digests import sha256_of
from infra.errors import DiskFull, MachineError
from infra.jobs.reports import Say, Sink, sinks, stage_reports
from infra.jobs.store import JobRef, Report
from infra.settings import Settings
from infra.states import Stage
from tasks.core.errors import ProgramStopped
from tasks.core.keys import job_key, media_key
from tasks.core.transcript import TRANSCRIPT_JSON, Speech
from tasks.engines.footage import Footage
from tasks.records import SourceRecord, TranscriptRecord

ARTIFACT_INTERVAL = 3.0
"""Seconds between two updates of the progress artifact; each costs the server some 30 ms."""

LEFT_BEHIND_SECONDS = 2 * 86400
"""A folder untouched for so long belongs to no run; the longest source is hours."""


class Workspace:
    """A job's folder and its prefix of the bucket. Files in the folder are named by content."""

    def __init__(self, job: JobRef, settings: Settings, say: Say) -> None:
        self.job = job
        self.settings = settings
        self.store = ArtifactStore.from_settings(settings)
        self.folder = folder_of(job, settings)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.say = say
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time since the stage began."""
        return round(time.monotonic() - self._began, 3)

    def fetch(self, ref: ArtifactRef) -> Path:
        """The object as a local file. One that is here was checked when it came, and its name is its content."""
        path = self._local(ref)
        if not path.is_file():
            background.wait(path)
        return path if path.is_file() else self.store.fetch(ref, path)

    def footage(self, source: SourceRecord, transcript: TranscriptRecord) -> Footage:
        """Picture, sound and words of the job's source, as the records name them."""
        segments = TRANSCRIPT_JSON.validate_json(self.fetch(transcript.artifacts["transcript"]).read_bytes())
        return Footage(
            video=self.fetch(source.artifacts["video"]),
            audio=self.fetch(source.artifacts["audio"]),
            info=source.info,
            speech=Speech(segments, transcript.language),
        )

    def fetch_beside(self, ref: ArtifactRef) -> None:
        """Begin to fetch what a later stage will want."""
        path = self._local(ref)
        if not path.is_file():
            background.begin(path, lambda: self.store.fetch(ref, path, alone=True))

    def fetch_as(self, ref: ArtifactRef, name: str) -> Path:
        """The object as a local file of that name."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.hardlink_to(self.fetch(ref))
        return path

    def keep_json(self, name: str, content: Any) -> ArtifactRef:
        """Write one of the job's JSON artifacts."""
        return self.store.put_json(job_key(self.job.job_id, name), content)

    def keep_file(self, key: str, path: Path, sha256: str | None = None) -> ArtifactRef:
        """Put a file into the bucket and move it to where `fetch` finds it."""
        ref = self.store.put_file(key, path, sha256=sha256)
        shutil.move(path, self._local(ref))
        return ref

    def keep_beside(self, ref: ArtifactRef, path: Path, then: Callable[[], object]) -> None:
        """Move a file to where `fetch` finds it and begin to put it into the bucket as `ref`; `then` follows it."""
        local = self._local(ref)
        shutil.move(path, local)

        def put() -> None:
            self.store.put_file(ref.key, local, sha256=ref.sha256, alone=True)
            then()

        background.begin(local, put)

    def _local(self, ref: ArtifactRef) -> Path:
        return self.folder / f"{ref.sha256}{Path(ref.key).suffix}"


@contextmanager
def at_work(job: JobRef, stage: Stage) -> Generator[Workspace]:
    """Run a stage in its job's workspace, reporting to Redis, by callback and to Prefect's artifact.

    Raises:
        DiskFull: no space is left for what the stage writes.
        MachineError: a program that the stage runs was stopped.
    """
    configured = settings.load()
    to = [*sinks(configured), *_artifact_sinks(job)]
    with stage_reports(job, stage, to) as say:
        try:
            yield Workspace(job, configured, say)
        except ProgramStopped as error:
            raise MachineError(str(error)) from error
        except OSError as error:
            if not disk.is_full_error(error):
                raise
            raise DiskFull(disk.told(configured.data_dir)) from error


def media_ref(source: str, name: str, path: Path) -> ArtifactRef:
    """Where one of a source's media belongs in the shared cache: by content, so that no writer disturbs another."""
    content = sha256_of(path)
    key = media_key(source, f"{name}-{content[:16]}{path.suffix}")
    return ArtifactRef(key=key, sha256=content, size=path.stat().st_size)


def folder_of(job: JobRef, settings: Settings) -> Path:
    """Folder for an attempt's files in work; everything in it can be had again from the bucket."""
    return settings.data_dir / "work" / f"{job.job_id}-{job.attempt}"


def sweep(job: JobRef, settings: Settings) -> None:
    """Remove what runs that were killed left on this disk: earlier attempts of the job, and anything old."""
    old = time.time() - LEFT_BEHIND_SECONDS
    for folder in (settings.data_dir / "work").glob("*-*"):
        is_earlier = folder.name.startswith(f"{job.job_id}-") and folder != folder_of(job, settings)
        with contextlib.suppress(FileNotFoundError):  # its run has just ended
            if is_earlier or folder.stat().st_mtime < old:
                shutil.rmtree(folder, ignore_errors=True)


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
