"""A job's attempt around the stages: opened, held while it runs, and ended truthfully."""

import logging
import shutil
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_progress_artifact
from prefect.runtime import flow_run

from infra import settings
from infra.artifacts import ArtifactStore
from infra.errors import InfraError, JobConflict, StateError
from infra.jobs import LEASE_SECONDS, JobRef, JobStore, Report, job_id_of_run
from infra.progress import report_end, sinks
from infra.settings import Settings
from infra.states import JobState, Stage
from tasks.core.errors import ClipError
from tasks.core.keys import job_key
from tasks.core.request import ClipRequest
from tasks.policy import failed_stage
from tasks.records import UploadRecord
from tasks.workspace import folder_of

logger = logging.getLogger(__name__)


@contextmanager
def attempt(request: ClipRequest, job_id: str | None) -> Generator[JobRef]:
    """Open the job's attempt, keep its lease, and end it FAILED with `error.json` when the stages raise."""
    configured = settings.load()
    store = JobStore.from_settings(configured)
    job_id = job_id or job_id_of_run(str(flow_run.get_id()))
    with _held(job_id, store):
        job = _opened(request, job_id, store)
        try:
            yield job
        except BaseException as error:
            _fail(job, error, configured)
            raise
        finally:
            shutil.rmtree(folder_of(job.job_id, configured), ignore_errors=True)


def succeed(job: JobRef, published: UploadRecord) -> None:
    """Show the clips in the Prefect UI, drop what only the stages needed, and end the job SUCCEEDED."""
    configured = settings.load()
    store = ArtifactStore.from_settings(configured)
    create_markdown_artifact(
        key=_artifact_key("clips", job.job_id),
        markdown=_markdown(job.job_id, published, store),
        description=f"Clips of {job.job_id}",
    )
    for key in [*store.list(job_key(job.job_id, "rendered/")), job_key(job.job_id, "error.json")]:
        store.delete(key)
    report = Report(
        job_id=job.job_id,
        attempt=job.attempt,
        status=JobState.SUCCEEDED,
        stage=Stage.DONE,
        progress=100,
        message="done",
    )
    report_end(report, sinks(configured))


def _opened(request: ClipRequest, job_id: str, store: JobStore | None) -> JobRef:
    """The job to run; one that failed, or whose run died, gets its next attempt."""
    number = 1
    if store is not None:
        store.create(job_id, request.model_dump_json(exclude_none=True))
        job = store.get(job_id)
        if job is None:
            raise StateError("Redis forgot a job that was just written; check its memory policy.")
        number = job.attempt if job.status is JobState.QUEUED else store.reopen(job_id)
        store.set_run(job_id, str(flow_run.get_id()))
    artifact = create_progress_artifact(progress=0, key=_artifact_key("progress", job_id), description=job_id)
    return JobRef(job_id=job_id, attempt=number, progress_artifact=str(artifact))


@contextmanager
def _held(job_id: str, store: JobStore | None) -> Generator[None]:
    """Hold the job's lease, so that nobody runs it twice and a dead run is known as dead."""
    if store is None:
        yield
        return
    if not store.hold(job_id):
        raise JobConflict(f"Job {job_id} is being run by another process; wait for it or stop it.")
    done = threading.Event()

    def renew() -> None:
        while not done.wait(LEASE_SECONDS / 3):
            try:
                store.hold(job_id)
            except StateError as error:
                logger.warning("The lease of %s could not be renewed: %s", job_id, error)

    threading.Thread(target=renew, daemon=True, name="lease").start()
    try:
        yield
    finally:
        done.set()
        try:
            store.release(job_id)
        except StateError as error:
            logger.warning("The lease of %s runs out by itself: %s", job_id, error)


def _fail(job: JobRef, error: BaseException, configured: Settings) -> None:
    record = describe(error)
    try:
        ArtifactStore.from_settings(configured).put_json(
            job_key(job.job_id, "error.json"),
            {"job_id": job.job_id, "attempt": job.attempt, "stage": failed_stage(error), **record},
        )
    except InfraError as missing:
        logger.warning("error.json of %s could not be written: %s", job.job_id, missing)
    text = f"{record['error']} {record['next_step']}".strip()
    report = Report(job_id=job.job_id, attempt=job.attempt, status=JobState.FAILED, error=text, message=text)
    report_end(report, sinks(configured))


def describe(error: BaseException) -> dict[str, Any]:
    """What `error.json` says: the cause in words, its code, and what to do next."""
    if isinstance(error, ClipError):
        return {"error": error.message, "code": error.code, "next_step": error.next_step}
    if isinstance(error, InfraError):
        return {"error": str(error), "code": "infrastructure", "next_step": "Run the job again once that is mended."}
    if not isinstance(error, Exception):
        return {"error": "The run was stopped.", "code": "stopped", "next_step": "Resume the job to go on."}
    return {
        "error": f"A fault in KangKlip ({type(error).__name__}).",
        "code": "bug",
        "next_step": "Report the job id; the run's log has the details.",
    }


def _markdown(job_id: str, published: UploadRecord, store: ArtifactStore) -> str:
    lines = [f"## {job_id}", "", "| clip | title | seconds | score | checks |", "|---|---|---|---|---|"]
    for clip in published.clips:
        link = store.presign(job_key(job_id, clip.file))
        title = clip.title.replace("|", "\\|")
        lines.append(
            f"| [{clip.file}]({link}) | {title} | {clip.duration:.1f} | {clip.score:.2f} "
            f"| {clip.checks_passed}/{clip.checks} |"
        )
    lines += [f"- dropped: {reason}" for reason in published.dropped]
    return "\n".join(lines)


def _artifact_key(kind: str, job_id: str) -> str:
    return f"{kind}-{job_id.lower().replace('_', '-')}"
