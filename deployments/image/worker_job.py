"""`kangklip job`: runs one job from the documented worker environment, without a work pool.

It starts a private Prefect server, uses the bucket in the environment, logs to standard output, reports by callback,
and exits non-zero if the job fails.
"""

import logging
import os
import sys
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from deployments import local_run
from infra import settings
from infra.errors import ConfigError, ReportLost
from infra.jobs.ids import JobId
from infra.jobs.record import Report
from infra.jobs.reports import report_end, sinks_of
from infra.local.services import Service
from infra.local.stack import LocalStack
from infra.states import JobState, Stage
from infra.validation import describe_errors
from tasks.core.object_keys import job_key
from tasks.core.plurals import pluralize
from tasks.core.request import (
    DOCUMENTED_CLIPS,
    SHORTEST_SHARE,
    ClipCount,
    ClipRequest,
    ClipSeconds,
    FramingChoice,
    Language,
    PresetChoice,
    RatioChoice,
    ShortestSeconds,
    TightenChoice,
    TopicChoice,
    VideoUrl,
)

REQUIRED = ("r2_endpoint", "r2_access_key_id", "r2_secret_access_key")


class WorkerEnvironment(BaseSettings):
    """The job in the container's environment."""

    model_config = SettingsConfigDict(case_sensitive=False, extra="ignore", env_ignore_empty=True)

    job_id: JobId = Field(examples=["kk_01ARZ3NDEKTSV4RRFFQ69G5FAV"])
    video_url: VideoUrl[str]
    clip_count: Annotated[ClipCount, Field(le=DOCUMENTED_CLIPS)]
    min_clip_seconds: ShortestSeconds
    max_clip_seconds: ClipSeconds
    output_language: Language = "auto"
    ratio: RatioChoice = None
    caption_preset: PresetChoice = None
    framing: FramingChoice = None
    tighten: TightenChoice = None
    topic: TopicChoice = None
    r2_prefix: str | None = None


def read_request() -> tuple[str, ClipRequest]:
    """The job's id and request, from the environment.

    Raises:
        ConfigError: variables are missing or malformed; the message lists all of them.
    """
    configured = settings.load()
    problems = [f"{name.upper()} is required" for name in REQUIRED if getattr(configured, name) is None]
    if not os.environ.get("R2_BUCKET"):
        problems.append("R2_BUCKET is required")
    try:
        environment = WorkerEnvironment()  # pyright: ignore[reportCallIssue] filled from the environment
    except ValidationError as error:
        raise _invalid_environment([*problems, describe_errors(error, WorkerEnvironment, str.upper)]) from None
    if environment.r2_prefix is not None and environment.r2_prefix.strip("/") != job_key(environment.job_id, "").strip(
        "/"
    ):
        problems.append("R2_PREFIX must be jobs/JOB_ID")
    if environment.min_clip_seconds > environment.max_clip_seconds:
        problems.append("MIN_CLIP_SECONDS must not exceed MAX_CLIP_SECONDS")
    if problems:
        raise _invalid_environment(problems)
    return environment.job_id, _request(environment)


def _request(environment: WorkerEnvironment) -> ClipRequest:
    """Equal bounds mean a target duration: clips are 0.8 to 1.0 of it. Different ones are the bounds themselves."""
    is_target = environment.min_clip_seconds == environment.max_clip_seconds
    shortest = SHORTEST_SHARE * environment.max_clip_seconds if is_target else environment.min_clip_seconds
    return ClipRequest(
        video_url=environment.video_url,
        clip_duration_seconds=environment.max_clip_seconds,
        min_clip_seconds=shortest,
        clip_count=environment.clip_count,
        language=environment.output_language,
        ratio=environment.ratio,
        caption_preset=environment.caption_preset,
        framing=environment.framing,
        tighten=environment.tighten,
        topic=environment.topic,
    )


def _invalid_environment(problems: list[str]) -> ConfigError:
    return ConfigError(f"Correct the environment: {'; '.join(problems)}.")


def run_job() -> None:
    """Run the environment's job. Failures propagate to the caller, who prints them."""
    job_id, request = read_request()
    local_run.quiet_prefect()
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    log = logging.getLogger("kangklip.job")
    if local_run.is_published(job_id):
        log.info("%s is already published", job_id)
        report = Report(job_id=job_id, attempt=None, status=JobState.SUCCEEDED, stage=Stage.DONE, progress=100)
        if not report_end(report, sinks_of(settings.load())):
            raise ReportLost(
                f"The clips of {job_id} are published, but CALLBACK_URL did not accept the report; check it."
            )
        return
    with local_run.sigterm_as_interrupt(), LocalStack(settings.load(), (Service.PREFECT,), progress=log.info) as stack:
        stack.apply()
        published = local_run.run_flow(request, job_id)
    log.info("%s: %s", job_id, pluralize(len(published.clips), "clip"))
