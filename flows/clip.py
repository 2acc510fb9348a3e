"""The flow: six stages, each run only if its result is missing or out of date."""

from typing import Annotated, Any

from prefect import flow
from pydantic import Field

from flows import lifecycle
from infra import settings
from tasks.chunk import chunk
from tasks.core.request import ClipRequest, JobId
from tasks.download import download
from tasks.options import stage_options_of
from tasks.policy import run_stage
from tasks.render import render
from tasks.select import select
from tasks.transcribe import transcribe
from tasks.upload import upload


@flow(name="clip", validate_parameters=True)
def clip(
    request: ClipRequest, job_id: JobId | None = None, attempt: Annotated[int, Field(ge=1)] | None = None
) -> dict[str, Any]:
    """Cut one long video into short vertical clips with titles and captions.

    Args:
        request: which video, how many clips, how long.
        job_id: the job that this run belongs to; a run without one makes its own.
        attempt: the attempt that this run is, set by what submits it; leave it empty to run the job's next one.
    """
    with lifecycle.attempt(request, job_id, attempt) as job:
        options = stage_options_of(settings.load())
        source = run_stage(download, job, request, options.source)
        transcript = run_stage(transcribe, job, request.language, options.speech, source)
        chunks = run_stage(chunk, job, transcript)
        edl = run_stage(select, job, request, options.choice, source, transcript, chunks)
        rendered = run_stage(render, job, options.picture, source, transcript, edl)
        published = run_stage(upload, job, request, options.picture, source, transcript, chunks, edl, rendered)
        lifecycle.succeed(job, published)
    return published.model_dump(mode="json")
