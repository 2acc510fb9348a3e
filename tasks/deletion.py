"""Deletes jobs: the record first, then the objects, so that a deletion that fails midway can be repeated."""

from infra import settings
from infra.bucket.store import ArtifactStore, Deleted
from infra.granted.access import granted_root
from infra.jobs.store import JobStore
from tasks import kept_sources
from tasks.core.object_keys import job_key
from tasks.shared_cache import release


def delete_job(job_id: str, jobs: JobStore, bucket: ArtifactStore) -> Deleted | None:
    """Delete a job that has ended, its objects, and what only this job used of the shared cache.

    None if there is no such job. An earlier deletion that did not finish is continued.

    Raises:
        JobConflict: the job has not ended.
        RunNotStopped: it has ended, but its run may still write.
        StoreError: the bucket does not answer; the job is gone, and another call deletes its objects.
    """
    if not jobs.begin_deletion(job_id):
        return None
    deleted = delete_objects(job_id, bucket)
    jobs.end_deletion(job_id)
    return deleted


def delete_objects(job_id: str, bucket: ArtifactStore) -> Deleted:
    """Delete the objects of a job without a record, what only it used of the shared cache, and its source here."""
    kept_sources.forget(job_id, settings.load().data_dir)
    return release(job_id, bucket) + bucket.delete_all(granted_root(job_id)) + bucket.delete_all(job_key(job_id, ""))
