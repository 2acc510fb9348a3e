"""Runs a job in this process, for `kangklip clip`, `resume`, `demo` and `job`.

Slow libraries are imported where they are used, so that help and rejected input never wait for them.
"""

import contextlib
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

from infra import settings
from infra.digests import sha256_of
from infra.errors import ConfigError, ObjectMissing
from infra.untrusted_text import one_line
from tasks.core.errors import BadRequest
from tasks.core.object_keys import job_key, upload_key
from tasks.core.request import ClipRequest

if TYPE_CHECKING:
    from infra.bucket.store import ArtifactStore
    from infra.jobs.record import Job
    from tasks.records import UploadRecord

PRIVATE = ("records/", "rendered/", "revisions/")
"""Folders under a job's prefix that are not its results."""


def quiet_prefect() -> None:
    """Show only Prefect's critical log lines on the terminal. Call this before Prefect is imported."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("DO_NOT_TRACK", "1")


def register_file(path: Path, job_id: str | None = None) -> tuple[str, str]:
    """Upload a local file to the bucket, for a job; return its key (derived from its content) and its name.

    Raises:
        BadRequest: the file does not exist.
    """
    if not path.is_file():
        raise BadRequest(f"There is no file {path}.", "Give a file that exists, or an http(s) address.")
    content = sha256_of(path)
    key = upload_key(content)
    store = bucket()
    if job_id:
        from tasks.shared_cache import mark_use  # noqa: PLC0415 boto3

        mark_use(key, job_id, store)
    if not store.exists(key):
        store.put_file(key, path, sha256=content)
    return key, readable_name(path.name)


def readable_name(name: str) -> str:
    """A file's name as one line of at most 255 characters, without invalid UTF-8 or invisible characters."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return one_line(text, 255) or "unnamed"


def run_flow(request: ClipRequest, job_id: str) -> "UploadRecord":
    """Run the flow in this process. Exceptions from the flow propagate."""
    from prefect.logging.handlers import APILogHandler  # noqa: PLC0415 Prefect reads its settings on import

    from flows.clip import clip  # noqa: PLC0415
    from tasks.records import UploadRecord  # noqa: PLC0415

    try:
        return UploadRecord.model_validate(clip(request, job_id))
    finally:
        APILogHandler().flush()  # before the server stops


def run_recut(job_id: str, revision: int) -> None:
    """Run the first attempt at a recut in this process. Exceptions from the flow propagate."""
    from prefect.logging.handlers import APILogHandler  # noqa: PLC0415 Prefect reads its settings on import

    from flows.recut import recut  # noqa: PLC0415

    try:
        recut(job_id, revision)
    finally:
        APILogHandler().flush()  # before the server stops


def request_of(job_id: str) -> ClipRequest | None:
    """A job's request, or None if the job is unknown."""
    job = _job(job_id)
    return ClipRequest.model_validate(job.request) if job else None


def is_published(job_id: str) -> bool:
    """Whether the bucket holds the job's manifest and every clip that it names."""
    store = bucket()
    try:
        clips = store.get_json(job_key(job_id, "manifest.json"))["clips"]
    except ObjectMissing:
        return False
    return bool(clips) and all(store.exists(job_key(job_id, clip["file"])) for clip in clips)


def export(job_id: str, folder: Path) -> list[Path]:
    """Copy the job's clips and JSON artifacts from the bucket into `folder`.

    Raises:
        ConfigError: the folder is not writable.
    """
    store = bucket()
    prefix = job_key(job_id, "")
    names = [key.removeprefix(prefix) for key in store.list(prefix)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [store.fetch(prefix + name, folder / name) for name in names if not name.startswith(PRIVATE)]
        for file in files:
            file.chmod(0o644)  # files are fetched with owner-only permissions
    except OSError as error:
        message = (
            f"Cannot write to {folder} ({error.strerror}); the clips are safe: kangklip resume {job_id} --out FOLDER"
        )
        raise ConfigError(message) from None
    return files


@contextlib.contextmanager
def sigterm_as_interrupt() -> Generator[None]:
    """Raise KeyboardInterrupt on SIGTERM, so that a stopped run ends its job and its child processes."""

    def interrupt(signum: int, frame: object) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def prefect_ui() -> str:
    """Address of the Prefect UI on the configured server."""
    return (settings.load().prefect_api_url or "").removesuffix("/").removesuffix("/api")


def run_path(job_id: str) -> str:
    """Path of the job's run in the Prefect UI, relative to the UI's address; empty if there is no run."""
    job = _job(job_id)
    return f"/runs/flow-run/{job.flow_run_id}" if job and job.flow_run_id else ""


def bucket() -> "ArtifactStore":
    """The bucket of the settings."""
    from infra.bucket.store import ArtifactStore  # noqa: PLC0415 boto3

    return ArtifactStore.from_settings(settings.load())


def _job(job_id: str) -> "Job | None":
    from infra.jobs.store import JobStore  # noqa: PLC0415 redis-py

    store = JobStore.from_settings(settings.load())
    return store.get(job_id) if store else None
