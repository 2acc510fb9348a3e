"""The housekeeping flow: deletes what is older than RETENTION_DAYS."""

import time
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.run_log import run_log
from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import ConfigError
from infra.jobs.store import JobStore
from tasks import kept_sources
from tasks.housekeeping import clean, markdown


@flow(name="housekeeping")
def housekeeping(dry_run: bool = False) -> dict[str, Any]:
    """Delete the jobs, sources and transcripts that nobody has used for RETENTION_DAYS. The report is an artifact.

    Args:
        dry_run: report what would be deleted, and delete nothing.
    """
    configured = settings.load()
    jobs = JobStore.from_settings(configured)
    if jobs is None:
        raise ConfigError("Housekeeping needs Redis to know which jobs have ended; set REDIS_URL.")
    with run_log():
        if not configured.retention_days:
            get_run_logger().warning("RETENTION_DAYS is not set for this worker: nothing is deleted by its age")
        bucket = ArtifactStore.from_settings(configured)
        if not dry_run:
            kept_sources.forget_deleted(configured.data_dir, jobs)
            kept_sources.drop_old(configured.data_dir)
        report = clean(jobs, bucket, configured.retention_days, time.time(), dry_run=dry_run)
        create_markdown_artifact(key="housekeeping", markdown=markdown(report), description="What was deleted, and why")
    return report.model_dump(mode="json")
