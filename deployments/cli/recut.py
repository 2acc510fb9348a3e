"""`kangklip edit` prints a job's edit document, `kangklip recut` changes it: on this machine, or by an API."""

import contextlib
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from deployments import console, local_run
from deployments.api_client import ApiClient, Report
from deployments.cli.printing import FinishedJob
from infra.errors import ConfigError, ObjectMissing, StateError
from infra.jobs.record import Job
from infra.jobs.store import JobStore
from infra.states import JobState
from tasks.core.edit.document import EDIT_BYTES, EditDocument
from tasks.core.edit.faults import faults
from tasks.core.errors import BadRequest, RecutRefused
from tasks.core.object_keys import job_key, revision_folder
from tasks.revisions import Revision, read_revision, read_source

SHOWN_FAULTS = 10
POLL_SECONDS = 0.2


def read_file(path: Path) -> Any:
    """The JSON value in a file.

    Raises:
        BadRequest: it cannot be read, is too large, or is not JSON.
    """
    try:
        with path.open("rb") as file:
            data = file.read(EDIT_BYTES + 1)
        if len(data) > EDIT_BYTES:
            raise BadRequest(f"{path} is too large.", "An edit document has at most 1 MiB.")
        return json.loads(data)
    except OSError as error:
        raise BadRequest(
            f"Cannot read {path} ({error.strerror}).", "Give a file that kangklip edit has written."
        ) from None
    except (ValueError, RecursionError):
        raise BadRequest(
            f"{path} is not JSON.", "Give a file that kangklip edit has written, and change that."
        ) from None


def write(content: Any, path: Path) -> None:
    try:
        path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot write {path} ({error.strerror}); choose another file.") from None


def document_here(job_id: str, jobs: JobStore) -> Any:
    """The document of the job's published clips.

    Raises:
        BadRequest: there is no such job, it has not succeeded, or it has no document.
    """
    return _published(_job(job_id, jobs)).document.model_dump(mode="json")


def recut_here(job_id: str, content: Any, jobs: JobStore) -> None:
    """Change the job's document and draw what that changes, in this process.

    Raises:
        BadRequest: the job, or the document, does not allow it.
        ClipError, InfraError: the recut failed; the published clips are as they were.
    """
    job = _job(job_id, jobs)
    base = _published(job)
    found = faults(content, read_source(job_id, base, local_run.bucket()).facts)
    if found:
        more = f" And {len(found) - SHOWN_FAULTS} more." if len(found) > SHOWN_FAULTS else ""
        raise BadRequest(
            f"The document is wrong: {'; '.join(found[:SHOWN_FAULTS])}.{more}", "Correct it and try again."
        )
    document = EditDocument.model_validate(content)
    if document.revision != base.document.revision:
        raise BadRequest(
            f"The document is of revision {document.revision}, but revision {base.document.revision} is published.",
            f"Run kangklip edit {job_id}, and change what it prints.",
        )
    revision = jobs.recuts.begin(job_id, document.revision)
    store = local_run.bucket()
    try:
        written = document.model_copy(update={"revision": revision})
        store.put_json(job_key(job_id, f"{revision_folder(revision)}edit.json"), written)
        with _bar() as report, _followed(job_id, jobs, report):
            local_run.run_recut(job_id, revision)
    except BaseException:  # a run that has begun has already said why
        jobs.recuts.end(job_id, revision, 1, JobState.FAILED, f"It was stopped. {RecutRefused.next_step}")
        raise


def recut_remotely(api: ApiClient, job_id: str, content: Any, folder: Path) -> FinishedJob:
    """Have the API change the document, and fetch the clips into the folder."""
    revision = api.recut(job_id, content)
    with _bar() as report:
        api.follow_recut(job_id, revision, report)
    return FinishedJob(job_id, folder, api.download(job_id, folder))


def _job(job_id: str, jobs: JobStore) -> Job:
    job = jobs.get(job_id)
    if job is None:
        raise BadRequest(f"There is no job {job_id} here.", "To see recent jobs: kangklip list")
    if job.status is not JobState.SUCCEEDED:
        raise BadRequest(f"Job {job_id} has not succeeded.", f"See kangklip status {job_id}")
    return job


def _published(job: Job) -> Revision:
    folder = revision_folder(job.revision) if job.revision else ""
    try:
        return read_revision(job.job_id, folder, local_run.bucket())
    except ObjectMissing:
        raise BadRequest(
            f"Job {job.job_id} has no edit document.", "An earlier version made it; cut it again."
        ) from None


@contextmanager
def _bar() -> Generator[Report]:
    columns = (
        *(TextColumn("{task.description}"), BarColumn(bar_width=32), TextColumn("{task.percentage:>3.0f}%")),
        *(TimeElapsedColumn(), TextColumn("{task.fields[message]}", style="dim", markup=False)),
    )
    with Progress(*columns, console=console.console) as bars:
        task = bars.add_task("recut", total=1, message="")
        yield lambda share, message: bars.update(task, completed=share, message=message)


@contextmanager
def _followed(job_id: str, jobs: JobStore, report: Report) -> Generator[None]:
    """Report the recut's progress while the body runs."""
    done = threading.Event()

    def follow() -> None:
        while not done.wait(POLL_SECONDS):
            with contextlib.suppress(StateError):  # if Redis does not come back, the run reports the fault
                job = jobs.get(job_id)
                if job and job.recut:
                    report(job.recut.progress / 100, job.recut.message)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        done.set()
        follower.join(5)
    report(1, "")
