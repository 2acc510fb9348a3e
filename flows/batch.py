"""The batch flow: one job for each new video of a list or a feed."""

import logging
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from prefect import State, flow, get_run_logger
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.runtime import flow_run
from prefect.states import Failed
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_random_exponential

from flows.batch_jobs import BatchJobs, Submit
from flows.parameters import validate
from flows.run_log import run_log
from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import ConfigError, StoreError, SubmitError
from infra.jobs.batches import BatchMemory
from infra.jobs.record import Job
from infra.jobs.store import JobStore
from tasks.core.errors import BadRequest
from tasks.core.plurals import pluralize
from tasks.core.source.addresses import loggable
from tasks.core.source.batch import BatchReport, BatchRequest, Listing, Outcome, markdown
from tasks.feed import feed

logger = logging.getLogger(__name__)
SUBMIT_SECONDS = 60
"""How long submitting a run is retried if the Prefect server does not answer."""


@flow(name="batch", validate_parameters=False)
def batch(request: BatchRequest) -> dict[str, Any] | State[Any]:
    """Cut the videos of a list, or the newest of a feed, into clips. Later runs skip finished videos.

    A failed video does not stop the others. The report is saved as an artifact of this run, and as
    `batches/{id of this run}.json` in the bucket.

    Args:
        request: which videos, how many at once, and which clips of each.
    """
    try:
        request = validate(BatchRequest, request)
    except BadRequest as error:
        return Failed(message=str(error))
    with run_log():
        return _batch(request).model_dump(mode="json")


def _batch(request: BatchRequest) -> BatchReport:
    configured = settings.load()
    jobs, memory = JobStore.from_settings(configured), BatchMemory.from_settings(configured, request.memory_name)
    if jobs is None or memory is None:
        raise ConfigError("A batch needs Redis to remember its videos; set REDIS_URL.")
    bucket = ArtifactStore.from_settings(configured)
    deployment = _deployment_id(request.deployment)  # fails before any video gets a job
    found = feed(request)
    batch_jobs = BatchJobs(request, memory, jobs, bucket, submit=_submitter(deployment), run_end=_run_end)
    entries = batch_jobs.choose(found)
    report = _new_report(request, found, memory, {entry.key for entry in entries})
    log = get_run_logger()
    videos = pluralize(len(entries), "video")
    log.info("Batch %s: %s to process, %d left out", report.name, videos, len(report.left_out))
    for line in batch_jobs.follow(entries, request.wait_hours * 3600):
        log.info("%s %s %s", line.job_id, line.outcome, line.error or "")
        report.items.append(line)
        _store(report, bucket)
    report.ended_at = time.time()
    _store(report, bucket)
    _show(report)
    return report


def _new_report(request: BatchRequest, found: Listing, memory: BatchMemory, chosen: set[str]) -> BatchReport:
    known = memory.videos_with_job(item.key for item in found.items)
    return BatchReport(
        batch_id=str(flow_run.get_id()),
        name=request.memory_name,
        source=loggable(request.feed) if request.feed else pluralize(len(request.urls), "address", "addresses"),
        began_at=time.time(),
        done_before=len(known - chosen),
        for_later=len(found.items) - len(known),
        left_out=found.left_out,
    )


def _store(report: BatchReport, bucket: ArtifactStore) -> None:
    """Store the report so far, so that it is there if the run dies."""
    try:
        bucket.put_json(f"batches/{report.batch_id}.json", report)
    except StoreError as error:
        logger.warning("The report of the batch could not be stored in the bucket: %s", error)


def _show(report: BatchReport) -> None:
    """Show the report in the Prefect UI. Errors are logged."""
    try:
        videos = pluralize(len(report.items), "video")
        create_markdown_artifact(
            key=f"batch-{report.batch_id}",
            markdown=markdown(report),
            description=f"{report.count(Outcome.SUCCEEDED)} of {videos} of {report.name}",
        )
    except Exception:
        logger.exception("The batch is done, but its report could not be shown in the Prefect UI")


def _deployment_id(name: str) -> UUID:
    """The deployment's id.

    Raises:
        SubmitError: there is no such deployment, or the Prefect server does not answer.
    """
    with _submit_errors(), get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(name).id
        except ObjectNotFound:
            message = f"The Prefect server has no deployment {name}; choose another, or run: kangklip deploy"
            raise SubmitError(message) from None


def _submitter(deployment: UUID) -> Submit:
    """Return a function that submits a run of the deployment, once per attempt thanks to an idempotency key."""

    @retry(
        retry=retry_if_exception_type(SubmitError),
        wait=wait_random_exponential(max=10),
        stop=stop_after_delay(SUBMIT_SECONDS),
        reraise=True,
    )
    def submit(job: Job) -> str:
        with _submit_errors(), get_client(sync_client=True) as client:
            run = client.create_flow_run_from_deployment(
                deployment,
                parameters={"request": job.request, "job_id": job.job_id, "attempt": job.attempt},
                name=job.job_id,
                idempotency_key=f"{job.job_id}:{job.attempt}",
                tags=["clip", job.job_id],
            )
        return str(run.id)

    return submit


def _run_end(run_id: str) -> str | None:
    """How a flow run ended, or None if it has not."""
    with _submit_errors(), get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(run_id)).state
        except ObjectNotFound:
            return "deleted"
    return state.type.lower() if state and state.is_final() else None


@contextmanager
def _submit_errors() -> Generator[None]:
    """Turn the errors of Prefect's client into `SubmitError`."""
    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        raise SubmitError(f"The Prefect server did not answer ({type(error).__name__}).") from error
