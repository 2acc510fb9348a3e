"""What a rented machine gets of a job in order to draw a recut's clips, and what it gives back.

It reaches nothing but the job's granted root. So our API copies there what the flow reads, in the layout of the job's
prefix. Documents are copied; the source's media stay in the shared cache, from which the machine may read them.
"""

import contextlib
from typing import Any, Self

from pydantic import BaseModel

from infra.bucket.store import ArtifactRef, ArtifactStore
from infra.errors import ObjectMissing
from infra.granted.access import granted_root
from infra.jobs.record import Job, JobRef
from tasks.core.object_keys import is_cache_index, job_key, job_uses, revision_folder

_OF_JOB = ("meta.json", "transcript.json", "video_stats.json")
_OF_REVISION = ("edit.json", "edl.json", "manifest.json")


class Handover(BaseModel):
    """What a run must know of the job's record: the published revision, and the request."""

    published: int | None
    request: dict[str, Any]

    @classmethod
    def of(cls, job: Job) -> Self:
        return cls(published=job.revision, request=job.request)


def hand_over(job: Job, run: JobRef, bucket: ArtifactStore) -> None:
    """Copy what the run reads to the job's granted root. What an earlier attempt has drawn there stays.

    Raises:
        StoreError: the bucket does not answer.
    """
    base = revision_folder(job.revision) if job.revision else ""
    names = [*_OF_JOB, *(base + name for name in _OF_REVISION), f"{_folder(run)}edit.json"]
    for key in [*(job_key(job.job_id, name) for name in names), *_index_of_source(job.job_id, bucket)]:
        with contextlib.suppress(ObjectMissing):  # the run says what it lacks
            bucket.copy(ArtifactRef(key=key, sha256="", size=0), granted_root(job.job_id) + key)
    bucket.put_json(granted_root(job.job_id) + _handover_key(run), Handover.of(job))


def read_handover(run: JobRef, store: ArtifactStore) -> Handover:
    """What `hand_over` has written, read on the rented machine."""
    return Handover.model_validate(store.get_json(_handover_key(run)))


def drawn_key(run: JobRef) -> str:
    """Key of the list of clips that a rented machine has drawn: a `DrawnClips`."""
    return job_key(run.job_id, f"{_folder(run)}drawn.json")


def _index_of_source(job_id: str, bucket: ArtifactStore) -> list[str]:
    """Keys of the marks and entries by which the job's source is found in the shared cache."""
    marks = list(bucket.list(f"{job_uses(job_id)}cache/media/"))
    folders = [mark.removeprefix(job_uses(job_id)) for mark in marks]
    return marks + [key for folder in folders for key in bucket.list(f"{folder}/source-") if is_cache_index(key)]


def _handover_key(run: JobRef) -> str:
    return job_key(run.job_id, f"{_folder(run)}handover.json")


def _folder(run: JobRef) -> str:
    return revision_folder(run.revision or 0)
