"""Bodies, parameters and errors of the API, as in its OpenAPI document."""

from typing import Annotated, Any

from fastapi import Path
from pydantic import BaseModel, Field

from infra.jobs.ids import JobId
from infra.jobs.record import Attempt, Job, StageTimes, WebhookState
from infra.states import JobState, Stage
from tasks.core.edit.camera_views import CameraView
from tasks.core.object_keys import SubtitleFormat

EXAMPLE_ID = "kk_01JB2Q8Y7N4M3K6T9V5W1X0Z2R"

JobIdInPath = Annotated[str, Path(description="The job's id: kk_ and a ULID.", examples=[EXAMPLE_ID])]
FileInPath = Annotated[str, Path(description="A file named in the job's manifest.", examples=["clip_01.mp4"])]

Refusals = dict[int | str, dict[str, Any]]


class Detail(BaseModel):
    """Why the request was refused, in one sentence."""

    detail: str


def refusals(*errors: tuple[int, str]) -> Refusals:
    """OpenAPI responses for an operation's errors; texts that share a status become its examples."""
    texts: dict[int, list[str]] = {}
    for status, text in errors:
        texts.setdefault(status, []).append(text)
    return {
        status: {
            "model": Detail,
            "description": " · ".join(group),
            "content": {"application/json": {"examples": {text: {"value": {"detail": text}} for text in group}}},
        }
        for status, group in texts.items()
    }


def body_of(*models: type[BaseModel]) -> dict[str, Any]:
    """OpenAPI description of a body that its handler parses; `app` moves the `$defs` to the components."""
    schemas = [model.model_json_schema(ref_template="#/components/schemas/{model}") for model in models]
    schema = {"anyOf": schemas} if len(schemas) > 1 else schemas[0]
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


NO_JOB = (404, "job not found")
NO_BUCKET = (502, "bucket did not answer")
NO_UPLOAD = (404, "upload not found")
NO_STORE = (503, "job store unavailable")
NO_SPACE = (503, "no space is left on the server's disk")
BUSY = (503, "too many streams are open; try again shortly")
NOT_COMPLETED = (409, "job not completed")
NO_DOCUMENT = (404, "job has no edit document")
NO_REVISION = (404, "revision not found")
NO_MANIFEST = (502, "manifest could not be read")
TOO_LARGE = (413, "body must not exceed 1 MB")
TOO_SLOW = (408, "body took too long to arrive")
NO_KEY = (401, "api key required")
NO_OPERATOR = (401, "operator key required")
TWO_LENGTHS = (400, "content-length and transfer-encoding must not be combined")
FOREIGN = (403, "origin not allowed")
NO_SESSION = (403, "session is not valid")


class Callback(BaseModel):
    """A worker's progress report. Unknown fields and values of the wrong type are ignored."""

    job_id: JobId = Field(examples=[EXAMPLE_ID])
    status: JobState
    stage: str | None = Field(default=None, description="The current stage; unknown stages are ignored.")
    progress: float | None = Field(default=None, description="Percent of the whole job, clamped to 0..100.")
    message: str | None = Field(default=None, description="What the worker is doing, in a few words.")
    r2_prefix: str | None = Field(default=None, description="jobs/JOB_ID with this job's id; anything else is refused.")
    error: str | None = Field(default=None, description="Why the job failed.")
    attempt: int | None = Field(default=None, description="The attempt that is reporting; by default, the current one.")


class Created(BaseModel):
    job_id: str = Field(examples=[EXAMPLE_ID])
    status: JobState = JobState.QUEUED
    warnings: list[str] | None = Field(
        default=None, description="A sentence per ignored field; absent if none were ignored."
    )


class Ok(BaseModel):
    ok: bool = True


class Started(BaseModel):
    ok: bool
    start_error: str | None = Field(default=None, description="Why the run could not be started; absent on success.")


class RequestView(BaseModel):
    """The accepted request."""

    video_url: str | None = None
    source_name: str | None = Field(default=None, description="Name of the uploaded file, if there is no video_url.")
    clip_duration_seconds: float | None = None
    clip_count: int | None = None
    language: str | None = None
    start_seconds: float | None = None
    end_seconds: float | None = None
    ratio: str | None = None
    caption_preset: str | None = None
    framing: str | None = None
    tighten: bool | None = None
    topic: str | None = None


class RecutView(BaseModel):
    """A change of the clips of a job that has succeeded."""

    revision: int = Field(description="The revision that it makes.")
    state: JobState
    progress: float = Field(ge=0, le=100, description="Percent.")
    error: str | None = Field(description="Why it failed, and what to do next.")


class JobView(BaseModel):
    """A job's current state. Unknown values are null. Times are seconds since the epoch."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    status: JobState
    stage: Stage
    progress: float = Field(ge=0, le=100, description="Percent; never decreases within an attempt.")
    start_error: str | None = Field(description="Why the run could not be started.")
    nosana_run_id: str | None = Field(description="The Nosana deployment or flow run that runs the job.")
    error: str | None = Field(description="Why the job failed, and what to do next.")
    message: str = Field(description="What the job is doing in this stage.")
    attempt: int
    attempts: list[Attempt] = Field(description="All attempts so far, with the reason why each failed.")
    created_at: float
    updated_at: float
    stages: dict[Stage, StageTimes] = Field(description="Start and end of each stage of this attempt.")
    request: RequestView
    error_code: str | None = Field(description="Code of the error that failed the job.")
    next_step: str | None = Field(description="What to do about the error.")
    cancelled: bool = Field(description="Whether the job was cancelled; its status is then FAILED.")
    webhook: WebhookState | None = Field(description="How far the newest end has been sent to webhook_url.")
    revision: int | None = Field(description="The published revision of the clips; null if they cannot be changed.")
    recut: RecutView | None = Field(description="The newest change of the clips, or null if they were never changed.")


class JobLine(BaseModel):
    """A job in a list."""

    job_id: str
    status: JobState
    stage: Stage
    progress: float
    attempt: int
    error: str | None
    nosana_run_id: str | None
    created_at: float
    updated_at: float
    request: RequestView
    cancelled: bool
    owner: str | None = Field(description="Name of the API key that created the job.")

    @classmethod
    def of(cls, job: Job) -> "JobLine":
        return cls.model_validate(job.model_dump() | {"cancelled": job.is_cancelled, "owner": job.owner or None})


class JobList(BaseModel):
    """Jobs, newest first."""

    jobs: list[JobLine]


class ClipView(BaseModel):
    """A finished clip. Times are seconds from the start of the source; values not in the manifest are null."""

    file: str = Field(examples=["clip_01.mp4"])
    title: str | None
    duration: float | None
    download_url: str = Field(description="Presigned URL of the file, valid for six hours.")
    stream_url: str = Field(description="Path that streams the file from this server.")
    subtitles: dict[SubtitleFormat, str] = Field(
        description="Paths of the subtitle files on this server, by format.",
        examples=[{"srt": "/api/jobs/kk_…/clips/clip_01.srt", "vtt": "/api/jobs/kk_…/clips/clip_01.vtt"}],
    )
    poster: str | None = Field(
        description="Path of a still picture of the clip on this server; null for clips of earlier versions.",
        examples=["/api/jobs/kk_…/clips/clip_01.jpg"],
    )
    hook: str | None
    start: float | None
    end: float | None
    description: str | None
    hashtags: list[str] | None
    text: str | None = Field(description="The spoken words.")
    why: str | None = Field(description="Why the clip was chosen, in one sentence.")
    score: float | None = Field(description="Sum of the scores.")
    scores: dict[str, float] | None = Field(description="The signals behind the choice, standardised over the video.")
    counted: dict[str, float] | None = Field(description="What each signal added to the score of the clip.")


class Results(BaseModel):
    clips: list[ClipView]


class Fault(BaseModel):
    """One thing that is wrong with an edit document."""

    path: str = Field(examples=["clips[1].segments[0].end"])
    reason: str = Field(examples=["812.4 lies after the source's end, 600.1"])


class Faults(BaseModel):
    """Everything that is wrong with an edit document; nothing if it can be drawn."""

    errors: list[Fault]

    @classmethod
    def of(cls, faults: list[str]) -> "Faults":
        """From the sentences of `tasks.core.edit.faults`."""
        parts = [fault.partition(": ") for fault in faults]
        return cls(errors=[Fault(path=path, reason=reason) for path, _, reason in parts])


class WrongDocument(Faults):
    """Why a document was refused."""

    detail: str = Field(examples=["the document has 2 faults"])


class NewerRevisionFound(BaseModel):
    """The clips have been changed meanwhile."""

    detail: str
    revision: int = Field(description="The published revision.")


class RecutBegun(BaseModel):
    """A new revision is being made."""

    job_id: str = Field(examples=[EXAMPLE_ID])
    revision: int = Field(description="The new revision, once it is published.")
    state: JobState = JobState.QUEUED


class WordView(BaseModel):
    """A spoken word. Times are seconds from the start of the source."""

    start: float
    end: float
    text: str
    speaker: int | None = Field(
        default=None,
        exclude_if=lambda speaker: speaker is None,
        description="Who says it, from 1: the one who speaks longest. Missing if there is only one, or not known.",
    )


class Words(BaseModel):
    """Consecutive words of the source."""

    first: int = Field(description="The place of the first of them among all words, counted from 0.")
    language: str = Field(description="Whisper's code of the source's language.", examples=["en"])
    duration: float = Field(description="Length of the source in seconds.")
    words: list[WordView] = Field(max_length=20_000)


class ClipCamera(BaseModel):
    """What the camera showed in one clip, where it followed faces."""

    id: str = Field(description="The clip's id in the edit document.")
    views: list[CameraView]


class Camera(BaseModel):
    """What the camera showed in the published clips."""

    revision: int
    clips: list[ClipCamera]


class Readiness(BaseModel):
    """State of each dependency: ok, or what is wrong."""

    redis: str = Field(examples=["ok"])
    bucket: str = Field(examples=["ok"])
    prefect: str = Field(examples=["ok"])
