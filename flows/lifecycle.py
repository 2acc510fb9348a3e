"""Opens a job's attempt before the stages, holds its lease while they run, and ends it with their outcome."""

import logging
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException
from prefect.runtime import deployment, flow_run
from pydantic import ValidationError
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from flows.run_display import artifact_key, create_progress, name_run, show_failure, show_success
from infra import settings
from infra.broken_pipe import ignore_broken_pipe
from infra.bucket import background_transfers
from infra.bucket.store import ArtifactStore
from infra.errors import (
    DiskFull,
    InfraError,
    JobConflict,
    ReportLost,
    StateError,
)
from infra.granted.access import access_of
from infra.jobs.ids import job_id_of_run
from infra.jobs.record import JobRef
from infra.jobs.reports import FINAL_PATIENCE, STOPPED_PATIENCE, report_end, sinks_of
from infra.jobs.run_lease import RunLease
from infra.jobs.store import JobStore
from infra.prefect import stop_signals
from infra.settings import Settings
from infra.states import JobState, Stage
from tasks.caching_and_retries import failed_stage
from tasks.core.errors import ClipError
from tasks.core.object_keys import job_key
from tasks.core.request import ClipRequest
from tasks.records import UploadRecord
from tasks.workspace import sweep, work_folder

logger = logging.getLogger(__name__)


@contextmanager
def attempt(request: ClipRequest, job_id: str | None, number: int | None = None) -> Generator[JobRef]:
    """Open the job's attempt `number` and hold its lease. If the stages raise, end it FAILED with an `error.json`.

    Without a number, open the attempt that waits without a run, or the next one.

    Raises:
        JobConflict: this run may not open the attempt, or the job has a different request.
    """
    ignore_broken_pipe()
    configured = settings.load()
    store = JobStore.from_settings(configured)
    job_id = job_id or job_id_of_run(str(flow_run.get_id()))
    name_run(job_id)
    opened: JobRef | None = None
    with stop_signals.recorded(), RunLease(store, job_id) as lease:
        try:
            opened = _open_attempt(request, job_id, number, store)
            lease.guard(opened)
            sweep(opened, configured, store)
            opened = create_progress(opened)
            yield opened
        except (JobConflict, ReportLost):
            raise
        except BaseException as error:
            if lease.loss_reason:
                raise JobConflict(lease.loss_reason) from error
            lease.guard(None)
            if opened or number is not None:  # otherwise we do not know which attempt to end
                _fail(opened or JobRef(job_id=job_id, attempt=number or 1), error, configured)
            raise
        else:
            background_transfers.wait_all(work_folder(opened, configured))
        finally:
            if opened:  # otherwise the folder may belong to another run
                shutil.rmtree(work_folder(opened, configured), ignore_errors=True)


def succeed(job: JobRef, published: UploadRecord) -> None:
    """End the job SUCCEEDED, show the clips in the Prefect UI, and delete intermediate objects.

    Raises:
        ReportLost: the clips are published, but the job's record could not be updated.
    """
    configured = settings.load()
    report = job.report(status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100, message="done")
    if not report_end(report, sinks_of(configured)):
        raise ReportLost(f"The clips of {job.job_id} are published, but its record was not updated; resume the job.")
    show_success(job, len(published.clips))
    try:
        if access_of(configured) is None:  # after a rented machine, our API has already cleaned up
            _delete_leftovers(job.job_id, ArtifactStore.from_settings(configured))
        create_markdown_artifact(
            key=artifact_key("clips", job.job_id),
            markdown=_markdown(job.job_id, published, configured),
            description=f"Clips of {job.job_id}",
        )
    except Exception:
        logger.exception("The clips of %s are published; cleaning up afterwards failed", job.job_id)


@retry(retry=retry_if_exception_type(StateError), wait=wait_exponential(max=5), stop=stop_after_delay(60), reraise=True)
def _open_attempt(request: ClipRequest, job_id: str, number: int | None, store: JobStore | None) -> JobRef:
    """Open the attempt that this run executes."""
    access = access_of(settings.load())
    if store is None:
        opened = access.attempt if access else number
        return JobRef(job_id=job_id, attempt=opened or 1, is_attempt_known=opened is not None)
    known = store.get(job_id)
    if known and not _is_same(known.request, request):
        raise JobConflict(f"Job {job_id} has a different request; use another id.")
    request_json, is_retry = request.model_dump_json(exclude_none=True), flow_run.get_run_count() > 1
    opened = store.open(job_id, str(flow_run.get_id()), number, request_json, is_retry=is_retry, lease=True)
    return JobRef(job_id=job_id, attempt=opened)


def _is_same(recorded: dict[str, Any], request: ClipRequest) -> bool:
    try:
        return ClipRequest.model_validate(recorded) == request
    except ValidationError:
        return False


def _fail(job: JobRef, error: BaseException, configured: Settings) -> None:
    """Report why the attempt failed. If it is retried, no `error.json` is written, because the job has not failed."""
    was_stopped = not isinstance(error, Exception)
    if access_of(configured) is not None and may_pass(error):
        return  # the worker that rented the machine ends the attempt, or the API does by the run's state: both retry
    record = error_record(error)
    is_cancel = was_stopped and is_cancelled()
    if is_cancel:
        record["error"] = "The run was cancelled in the Prefect UI."
    elif _is_retried_automatically(error, configured):
        if was_stopped:
            record["error"] = "The worker was stopped while the job ran."
        _report_failure(job, record, configured, is_retried=True)
        return
    try:
        ArtifactStore.from_settings(configured).put_json(
            job_key(job.job_id, "error.json"),
            {"job_id": job.job_id, "attempt": job.attempt, "stage": failed_stage(error), **record},
        )
    except InfraError as missing:
        logger.warning("error.json of %s could not be written: %s", job.job_id, missing)
    _report_failure(job, record, configured, is_cancel=is_cancel)


def _report_failure(
    job: JobRef,
    record: dict[str, Any],
    configured: Settings,
    *,
    is_retried: bool = False,
    is_cancel: bool = False,
) -> None:
    text = f"{record['error']} {record['next_step']}".strip()
    reason = record["error"] if is_retried else None
    report = job.report(status=JobState.FAILED, error=text, message=text, retry_reason=reason, is_cancel=is_cancel)
    show_failure(job, text)
    report_end(report, sinks_of(configured), STOPPED_PATIENCE if record["code"] == "stopped" else FINAL_PATIENCE)


def _is_retried_automatically(error: BaseException, configured: Settings) -> bool:
    """Whether the attempt is retried: the error is transient, and a worker on one of our machines runs it.

    In a terminal, the user resumes the job.
    """
    is_served = deployment.get_id() is not None and configured.redis_url is not None
    return is_served and may_pass(error)


def may_pass(error: BaseException) -> bool:
    """Whether the run was stopped from outside, or failed by something that may pass."""
    return not isinstance(error, Exception) or (isinstance(error, InfraError) and error.is_transient)


def is_cancelled() -> bool:
    """Whether the user cancelled this run. The signal alone does not tell: a stopping worker sends the same one."""
    try:
        with get_client(sync_client=True) as client:
            state = client.read_flow_run(UUID(str(flow_run.get_id()))).state
    except (PrefectException, httpx.HTTPError) as error:
        logger.warning("The Prefect server did not say whether the run was cancelled (%s)", type(error).__name__)
        return False
    return state is not None and (state.is_cancelling() or state.is_cancelled())


def error_record(error: BaseException) -> dict[str, Any]:
    """The content of `error.json`: the cause, its code, and the next step."""
    if isinstance(error, ClipError):
        return {"error": error.message, "code": error.code, "next_step": error.next_step}
    if isinstance(error, DiskFull):
        return {"error": str(error), "code": "disk_full", "next_step": "Free some space, then resume the job."}
    if isinstance(error, InfraError):
        return {"error": str(error), "code": "infrastructure", "next_step": "Fix that, then run the job again."}
    if not isinstance(error, Exception):
        return {"error": "The run was stopped.", "code": "stopped", "next_step": "Resume the job to continue."}
    return {
        "error": f"There is a bug in KangKlip ({type(error).__name__}).",
        "code": "bug",
        "next_step": "Report it with the job id; the run's log has the details.",
    }


def _delete_leftovers(job_id: str, store: ArtifactStore) -> None:
    for key in [*store.list(job_key(job_id, "rendered/")), job_key(job_id, "error.json")]:
        store.delete(key)


def _markdown(job_id: str, published: UploadRecord, configured: Settings) -> str:
    lines = [f"## {job_id}", "", "| clip | title | seconds | score | checks |", "|---|---|---|---|---|"]
    for clip in published.clips:
        title = clip.title.replace("|", "\\|")
        lines.append(
            f"| [{clip.file}]({_link(job_id, clip.file, configured)}) | {title} | {clip.duration:.1f} "
            f"| {clip.score:.2f} | {clip.checks_passed}/{clip.checks} |"
        )
    lines += [f"- dropped: {reason}" for reason in published.dropped]
    return "\n".join(lines)


def _link(job_id: str, file: str, configured: Settings) -> str:
    """A URL for the clip: a presigned one, or our API's on a rented machine, which cannot presign."""
    if access := access_of(configured):
        return f"{access.url}/api/jobs/{job_id}/clips/{file}"
    return ArtifactStore.from_settings(configured).presign(job_key(job_id, file))
