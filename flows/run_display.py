"""Shows a job in the Prefect UI: the run's name and tags, and its progress.

Errors here are logged, and the run continues.
"""

import logging
from collections.abc import Generator
from contextlib import contextmanager
from uuid import UUID

from prefect.artifacts import create_progress_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.runtime import flow_run

from infra.jobs.record import JobRef
from tasks.core.plurals import pluralize

logger = logging.getLogger(__name__)


def name_run(job_id: str) -> None:
    """Name and tag the run after its job, so that users find it by the job id however it was started."""
    wanted = {*flow_run.get_tags(), "clip", job_id}
    if flow_run.get_name() == job_id and wanted == set(flow_run.get_tags()):
        return
    with _best_effort("name"), get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.get_id())), name=job_id, tags=sorted(wanted))


def create_progress(job: JobRef) -> JobRef:
    """Create a progress artifact and return the job with its id, or unchanged if that fails."""
    with _best_effort("progress"):
        described = f"Progress of {job.job_id}"
        artifact = create_progress_artifact(progress=0, key=artifact_key("progress", job.job_id), description=described)
        return job.model_copy(update={"progress_artifact": str(artifact)})
    return job


def artifact_key(kind: str, job_id: str) -> str:
    """The key of one of the job's artifacts, using only characters that Prefect accepts."""
    return f"{kind}-{job_id.lower().replace('_', '-')}"


def show_success(job: JobRef, clips: int) -> None:
    """Show 100 percent, which no stage reports."""
    _show(job, ArtifactUpdate(description=f"Done: {pluralize(clips, 'clip')}.", data=100.0))


def show_failure(job: JobRef, error: str) -> None:
    """Show why the run failed, without changing its progress."""
    _show(job, ArtifactUpdate(description=f"Failed: {error}"))


def _show(job: JobRef, artifact: ArtifactUpdate) -> None:
    if job.progress_artifact is not None:
        with _best_effort("progress"), get_client(sync_client=True) as client:
            client.update_artifact(UUID(job.progress_artifact), artifact)


@contextmanager
def _best_effort(what: str) -> Generator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 the job does not depend on it
        logger.warning("The run's %s could not be shown in the Prefect UI (%s).", what, type(error).__name__)
