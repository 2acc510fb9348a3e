"""Runs a job in this process, for `kangklip clip`, `resume`, `demo` and `job`.

Libraries that are slow to import are imported where they are used: help and refused input need none of them.
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

PRIVATE = ("records/", "rendered/")
"""Parts of a job's prefix that only the pipeline uses."""


def quiet_prefect() -> None:
    """Keep Prefect's log off the terminal, except for critical faults; call before Prefect is imported."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("DO_NOT_TRACK", "1")


def register_file(path: Path) -> tuple[str, str]:
    """Put a local file into the bucket; return its key, which is by content, and its name.

    Raises:
        BadRequest: there is no such file.
    """
    if not path.is_file():
        raise BadRequest(f"There is no file {path}.", "Give a file that exists, or an http(s) address.")
    content = sha256_of(path)
    key = upload_key(content)
    store = _bucket()
    if not store.exists(key):
        store.put_file(key, path, sha256=content)
    return key, readable(path.name)


def readable(name: str) -> str:
    """A file's name as one line of at most 255 characters, without invalid UTF-8 or invisible characters."""
    whole = os.fsencode(name).decode("utf-8", "replace")
    return one_line(whole, 255) or "unnamed"


def run_flow(request: ClipRequest, job_id: str) -> "UploadRecord":
    """Run the flow in this process; raises what the flow raises."""
    from prefect.logging.handlers import APILogHandler  # noqa: PLC0415 Prefect reads its settings when it is imported

    from flows.clip import clip  # noqa: PLC0415
    from tasks.records import UploadRecord  # noqa: PLC0415

    try:
        return UploadRecord.model_validate(clip(request, job_id))
    finally:
        APILogHandler().flush()  # while its server is still up


def request_of(job_id: str) -> ClipRequest | None:
    """A job's request, or None if the job is unknown."""
    job = _job(job_id)
    return ClipRequest.model_validate(job.request) if job else None


def is_published(job_id: str) -> bool:
    """Whether the job's prefix is complete: a manifest, and every clip it names."""
    store = _bucket()
    try:
        clips = store.get_json(job_key(job_id, "manifest.json"))["clips"]
    except ObjectMissing:
        return False
    return bool(clips) and all(store.exists(job_key(job_id, clip["file"])) for clip in clips)


def export(job_id: str, folder: Path) -> list[Path]:
    """Copy the job's clips and JSON artifacts from the bucket into `folder`.

    Raises:
        ConfigError: the folder cannot be written.
    """
    store = _bucket()
    prefix = job_key(job_id, "")
    names = [key.removeprefix(prefix) for key in store.list(prefix)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        files = [store.fetch(prefix + name, folder / name) for name in names if not name.startswith(PRIVATE)]
        for file in files:
            file.chmod(0o644)  # fetched files are readable only by their owner
    except OSError as error:
        told = (
            f"{folder} cannot be written ({error.strerror}); the clips are kept: kangklip resume {job_id} --out FOLDER"
        )
        raise ConfigError(told) from None
    return files


@contextlib.contextmanager
def unwound_on_sigterm() -> Generator[None]:
    """Raise KeyboardInterrupt on SIGTERM: a stopped run then ends its job and its children."""

    def interrupt(signum: int, frame: object) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def prefect_ui() -> str:
    """Address of the Prefect UI, on the server that the settings name."""
    return (settings.load().prefect_api_url or "").removesuffix("/").removesuffix("/api")


def run_path(job_id: str) -> str:
    """Path of the job's run in the Prefect UI, relative to its address; empty if there is none."""
    job = _job(job_id)
    return f"/runs/flow-run/{job.flow_run_id}" if job and job.flow_run_id else ""


def _bucket() -> "ArtifactStore":
    from infra.bucket.store import ArtifactStore  # noqa: PLC0415 boto3

    return ArtifactStore.from_settings(settings.load())


def _job(job_id: str) -> "Job | None":
    from infra.jobs.store import JobStore  # noqa: PLC0415 redis-py

    store = JobStore.from_settings(settings.load())
    return store.get(job_id) if store else None
