"""The recut flow: draws what somebody has changed in a job's edit document, and publishes the new revision."""

import logging
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Annotated, Any

from prefect import State, flow
from prefect.states import Failed
from pydantic import Field

from flows import recut_lifecycle
from flows.parameters import validate_attempt, validate_job_id
from flows.recut_lifecycle import RecutRun
from flows.run_log import run_log
from infra import settings
from infra.jobs.ids import JobId
from tasks.caching_and_retries import run_stage
from tasks.core.errors import BadRequest, RecutRefused
from tasks.core.object_keys import job_key
from tasks.core.request import ClipRequest
from tasks.download import download
from tasks.next_revision import plan_recut
from tasks.options import run_options
from tasks.records import SourceRecord
from tasks.recut import draw_and_check
from tasks.revisions import find_media

logger = logging.getLogger(__name__)


@flow(name="recut", validate_parameters=False)
def recut(
    job_id: JobId,
    revision: Annotated[int, Field(ge=2)],
    attempt: Annotated[int, Field(ge=1)] = 1,
) -> dict[str, Any] | State[Any]:
    """Draw the clips that a new revision of a job's edit document changes, and publish the revision.

    The API and `kangklip recut` store the document and start this; a run without them finds nothing to do.

    Args:
        job_id: a job that has succeeded.
        revision: the number that its record has given to the new revision.
        attempt: the run's attempt, set by whoever submits the run.
    """
    try:
        validate_job_id(job_id)
        validate_attempt(revision)
        validate_attempt(attempt)
    except BadRequest as error:
        return Failed(message=str(error))
    with run_log(), recut_lifecycle.attempt(job_id, revision, attempt) as run:
        make_revision(run)
    return {"job_id": job_id, "revision": revision}


def make_revision(run: RecutRun) -> None:
    """Make the run's revision, let readers see it, and bring the job's own folder to it.

    What is kept of earlier revisions is copied while the clips are drawn.
    """
    if run.published != run.job.revision:  # an earlier attempt may have published it and died
        work = run.work
        planned = plan_recut(run.job, run.published, work.store)
        with ThreadPoolExecutor(1) as beside:
            preparation = beside.submit(copy_context().run, run.prepare, planned)
            source = _source(run, planned.document.source.video) if planned.drawn else None
            drawn = draw_and_check(planned, run_options(work.settings).picture, source, work)
            preparation.result()
        run.publish(planned, drawn)
    run.complete()


def _source(run: RecutRun, video: str) -> SourceRecord:
    """The job's source, whose video has this SHA-256. If it is no longer in the bucket, it is downloaded again.

    Raises:
        RecutRefused: there is another video at its address now.
    """
    job_id, store = run.job.job_id, run.work.store
    if found := find_media(job_id, video, store):
        return SourceRecord(artifacts={"video": found.video, "audio": found.audio}, info=found.info)
    logger.warning("The source of %s is no longer in the bucket; it is downloaded again.", job_id)
    described = {
        key: store.get_json(key) for key in (job_key(job_id, "meta.json"), job_key(job_id, "video_stats.json"))
    }
    request = ClipRequest.model_validate(run.request)
    source = run_stage(download, run.job, request, run_options(settings.load()).source)
    if source.artifacts["video"].sha256 == video:
        return source
    for key, content in described.items():
        store.put_json(key, content)
    raise RecutRefused(
        "The source is no longer in the bucket, and its address has another video now.", "Create a new job."
    )
