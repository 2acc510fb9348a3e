"""Which revision of a job's clips a request reads, and where it is in the bucket."""

import logging
from typing import Annotated

from fastapi import HTTPException, Query

from deployments.api.dependencies import Services
from deployments.api.models import NO_DOCUMENT, NO_REVISION, NOT_COMPLETED
from infra.errors import ObjectMissing, StoreError
from infra.jobs.record import Job
from infra.states import JobState
from tasks.core.object_keys import revision_folder
from tasks.revisions import EditableSource, Revision

RevisionInQuery = Annotated[int | None, Query(ge=1, le=1_000_000, description="An older revision, by its number.")]

BAD_REVISION = (400, "revision: input should be greater than or equal to 1")

logger = logging.getLogger(__name__)


def published_revision(job: Job, services: Services) -> int | None:
    """The number of the published revision; None before success, and for a job without a document."""
    if job.revision is not None or job.status is not JobState.SUCCEEDED:
        return job.revision
    try:
        return 1 if services.documents.is_editable(job.job_id) else None
    except StoreError as error:
        logger.warning("Whether %s has a document is not known: %s", job.job_id, error)
        return None


def folder_of(job: Job, revision: int | None = None) -> str:
    """The folder of a revision of the job, or of the published one, below the job's prefix.

    Raises:
        HTTPException: 404 if the revision is newer than the published one.
    """
    if revision is not None and revision > (job.revision or 1):
        raise HTTPException(*NO_REVISION)
    return "" if job.revision is None else revision_folder(revision or job.revision)


def readable_revision(job: Job, services: Services, number: int | None = None) -> Revision:
    """The revision of a succeeded job.

    Raises:
        HTTPException: 409 before success, 404 if there is no document or no such revision.
        StoreError: the bucket does not answer, or a document is malformed.
    """
    if job.status is not JobState.SUCCEEDED:
        raise HTTPException(*NOT_COMPLETED)
    folder = folder_of(job, number)
    try:
        return services.documents.revision(job.job_id, folder)
    except ObjectMissing:
        raise HTTPException(*(NO_REVISION if folder else NO_DOCUMENT)) from None


def editable_source(job: Job, services: Services) -> tuple[Revision, EditableSource]:
    """The published revision, and what its successor is checked against; see `readable_revision`."""
    revision = readable_revision(job, services)
    try:
        return revision, services.documents.source(job.job_id, revision)
    except ObjectMissing:
        raise HTTPException(*NO_DOCUMENT) from None
