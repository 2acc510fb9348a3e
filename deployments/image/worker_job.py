"""`kangklip job`: one job from the documented worker environment, without a work pool.

It runs on a private Prefect server, uses the bucket it was given, logs to standard output,
reports by callback, and exits non-zero when the job fails.
"""

import logging
import os
import sys

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from deployments import local_run
from infra import settings
from infra.errors import ConfigError, ReportLost
from infra.faults import faults
from infra.jobs.ids import JobId
from infra.jobs.record import Report
from infra.jobs.reports import report_end, sinks_of
from infra.local.parts import Part
from infra.local.stack import LocalStack
from infra.states import JobState, Stage
from tasks.core.counting import counted
from tasks.core.keys import job_key
from tasks.core.request import (
    SHORTEST_SHARE,
    ClipCount,
    ClipRequest,
    ClipSeconds,
    Language,
    ShortestSeconds,
    VideoUrl,
)

REQUIRED = ("r2_endpoint", "r2_access_key_id", "r2_secret_access_key")


class WorkerEnvironment(BaseSettings):
    """What the container is told of its job."""

    model_config = SettingsConfigDict(case_sensitive=False, extra="ignore", env_ignore_empty=True)

    job_id: JobId = Field(examples=["kk_01ARZ3NDEKTSV4RRFFQ69G5FAV"])
    video_url: VideoUrl[str]
    clip_count: ClipCount
    min_clip_seconds: ShortestSeconds[float]
    max_clip_seconds: ClipSeconds
    output_language: Language = "auto"
    r2_prefix: str | None = None


def read_request() -> tuple[str, ClipRequest]:
    """Job id and request, as the environment names them.

    Raises:
        ConfigError: one line that names every variable that is missing or malformed.
    """
    configured = settings.load()
    lacking = [f"{name.upper()} is required" for name in REQUIRED if getattr(configured, name) is None]
    if not os.environ.get("R2_BUCKET"):
        lacking.append("R2_BUCKET is required")
    try:
        given = WorkerEnvironment()  # pyright: ignore[reportCallIssue] filled from the environment
    except ValidationError as error:
        raise _wrong([*lacking, faults(error, WorkerEnvironment, str.upper)]) from None
    if given.r2_prefix is not None and given.r2_prefix.strip("/") != job_key(given.job_id, "").strip("/"):
        lacking.append("R2_PREFIX must be jobs/JOB_ID")
    if given.min_clip_seconds > given.max_clip_seconds:
        lacking.append("MIN_CLIP_SECONDS must not exceed MAX_CLIP_SECONDS")
    if lacking:
        raise _wrong(lacking)
    return given.job_id, _request(given)


def _request(given: WorkerEnvironment) -> ClipRequest:
    """Equal bounds mean the asked duration, 0.8 to 1.0 of it; different ones are the bounds."""
    same = given.min_clip_seconds == given.max_clip_seconds
    shortest = SHORTEST_SHARE * given.max_clip_seconds if same else given.min_clip_seconds
    return ClipRequest(
        video_url=given.video_url,
        clip_duration_seconds=given.max_clip_seconds,
        min_clip_seconds=shortest,
        clip_count=given.clip_count,
        language=given.output_language,
    )


def _wrong(told: list[str]) -> ConfigError:
    return ConfigError(f"Correct the environment: {'; '.join(told)}.")


def run_job() -> None:
    """Run the environment's job; the flow's own failure is the caller's to show."""
    job_id, request = read_request()
    local_run.quiet_prefect()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    log = logging.getLogger("kangklip.job")
    if local_run.is_published(job_id):
        log.info("%s is published already", job_id)
        report = Report(job_id=job_id, attempt=None, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100)
        if not report_end(report, sinks_of(settings.load())):
            raise ReportLost(f"The clips of {job_id} are published, but the callback address does not take it.")
        return
    with local_run.unwound_on_sigterm(), LocalStack(settings.load(), (Part.PREFECT,), progress=log.info) as stack:
        stack.apply()
        published = local_run.run_flow(request, job_id)
    log.info("%s: %s", job_id, counted(len(published.clips), "clip"))
