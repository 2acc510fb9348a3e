"""`kangklip delete`: deletes jobs, after a question."""

import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer
from rich.text import Text

from deployments import console
from deployments.cli.printing import jobs_table
from infra.errors import JobConflict, RunNotStopped
from infra.jobs.leases import LEASE_SECONDS
from tasks.core.errors import BadRequest
from tasks.core.plurals import megabytes, pluralize
from tasks.deletion import delete_job, delete_objects

if TYPE_CHECKING:
    from infra.bucket.store import ArtifactStore, Deleted
    from infra.jobs.record import Job
    from infra.jobs.store import JobStore

STOP_SECONDS = LEASE_SECONDS + 10.0
"""How long to wait for the run of a cancelled job to stop; a process that was killed holds its lease for a while."""
POLL_SECONDS = 0.5


def check_can_ask(*, yes: bool) -> None:
    """Check that the question can be answered, before anything is started.

    Raises:
        BadRequest: nobody can answer, because standard input is not a terminal.
    """
    if not yes and not sys.stdin.isatty():
        raise BadRequest("Nobody can be asked, because standard input is not a terminal.", "To delete anyway: --yes")


def delete(ids: Iterable[str], jobs: "JobStore", bucket: "ArtifactStore", *, yes: bool) -> dict[str, Any]:
    """Delete the jobs, and return the document that `--json` prints. Jobs that do not exist are not an error.

    Raises:
        JobConflict: a job has not ended; none was deleted.
        RunNotStopped: a job's run does not stop; the jobs before it were deleted.
    """
    wanted = list(dict.fromkeys(ids))
    known = [job for job_id in wanted if (job := jobs.get(job_id))]
    _check_ended(known)
    if known and not yes:
        _ask(known)
    document: dict[str, Any] = {"deleted": [], "missing": []}
    for job_id in wanted:
        deleted = _delete(job_id, jobs, bucket)
        if deleted is None:
            document["missing"].append(job_id)
        else:
            document["deleted"].append({"job_id": job_id, "objects": deleted.objects, "size_bytes": deleted.size})
    return document


def show(document: dict[str, Any]) -> None:
    for done in document["deleted"]:
        size = f"{pluralize(done['objects'], 'object')}, {megabytes(done['size_bytes'])}"
        console.out.print(Text(f"Deleted {done['job_id']}: {size}"), soft_wrap=True)
    for job_id in document["missing"]:
        console.note(f"There is no job {job_id}; nothing is left to delete.")


def _check_ended(known: "list[Job]") -> None:
    for job in known:
        if not job.has_ended:
            raise JobConflict(
                f"Job {job.job_id} has not ended, and nothing was deleted; cancel it on its page, or stop the command "
                "that runs it with Ctrl-C."
            )


def _ask(known: "list[Job]") -> None:
    console.console.print(jobs_table(known))
    question = f"Delete {pluralize(len(known), 'job')} with all clips? This cannot be undone."
    if not typer.confirm(question, err=True):
        console.note("Nothing was deleted.")
        raise typer.Abort


def _delete(job_id: str, jobs: "JobStore", bucket: "ArtifactStore") -> "Deleted | None":
    """Delete one job; None if neither its record nor an object is left."""
    with console.console.status(f"Deleting {job_id}"):
        deadline = time.monotonic() + STOP_SECONDS
        while True:
            try:
                deleted = delete_job(job_id, jobs, bucket)
                break
            except RunNotStopped:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)
        if deleted is None:  # its record may have expired before its objects
            deleted = delete_objects(job_id, bucket)
            return deleted if deleted.objects else None
        return deleted
