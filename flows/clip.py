"""The clip flow: six stages. A stage runs only if its result is missing or out of date."""

import logging
from typing import Annotated, Any

from prefect import State, flow
from prefect.states import Failed
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from flows import lifecycle
from flows.parameters import validate, validate_attempt, validate_job_id
from flows.run_log import run_log
from infra import settings
from infra.errors import ObjectMissing
from infra.jobs.ids import JobId
from infra.jobs.record import JobRef
from tasks.caching_and_retries import run_stage
from tasks.chunk import chunk
from tasks.core.errors import BadRequest
from tasks.core.request import ClipRequest
from tasks.download import download
from tasks.options import RunOptions, run_options
from tasks.records import StageRecords, UploadRecord
from tasks.render import render
from tasks.select import select
from tasks.transcribe import transcribe
from tasks.upload import upload

logger = logging.getLogger(__name__)


@flow(name="clip", validate_parameters=False)
def clip(
    request: ClipRequest,
    job_id: SkipJsonSchema[JobId | None] = None,
    attempt: SkipJsonSchema[Annotated[int, Field(ge=1)] | None] = None,
) -> dict[str, Any] | State[Any]:
    """Cut one long video into short vertical clips with titles and captions.

    Args:
        request: which video, and how many clips of which length.
        job_id: the run's job; leave it empty to create a new job.
        attempt: the run's attempt number, set by whoever submits the run; leave it empty to run the job's next attempt.
    """
    try:
        request, job_id, attempt = validate(ClipRequest, request), validate_job_id(job_id), validate_attempt(attempt)
    except BadRequest as error:
        return Failed(message=str(error))
    with run_log(), lifecycle.attempt(request, job_id, attempt) as job:
        options = run_options(settings.load())
        try:
            published = _run_stages(job, request, options)
        except ObjectMissing as missing:
            logger.warning("%s Whatever is missing is made again.", missing)
            published = _run_stages(job, request, options)
        lifecycle.succeed(job, published)
    return published.model_dump(mode="json")


def _run_stages(job: JobRef, request: ClipRequest, options: RunOptions) -> UploadRecord:
    """Run the stages whose result is missing, out of date, or refers to objects that are gone."""
    source = run_stage(download, job, request, options.source)
    transcript = run_stage(transcribe, job, request.language, options.speech, source)
    chunks = run_stage(chunk, job, transcript)
    edl = run_stage(select, job, request, options.choice, source, transcript, chunks)
    rendered = run_stage(render, job, options.picture, source, transcript, edl)
    records = StageRecords(source=source, transcript=transcript, chunks=chunks, edl=edl, rendered=rendered)
    return run_stage(upload, job, request, options.picture, records)
