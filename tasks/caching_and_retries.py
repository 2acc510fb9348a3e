"""What all stages have in common: cache keys, retries, and how a stage is called."""

from dataclasses import dataclass
from threading import Event
from typing import Any, ParamSpec, TypeVar

from prefect import Task
from prefect.cache_policies import CachePolicy
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.tasks import exponential_backoff
from pydantic import BaseModel

from infra import settings
from infra.bucket.store import ArtifactStore
from infra.errors import ConfigError, InfraError, JobConflict, ObjectMissing
from infra.prefect import stop_signals
from infra.prefect.results import saved_block
from infra.states import Stage
from tasks.core.edit.drawing import Drawing
from tasks.core.object_keys import digest, job_key
from tasks.records import StageRecord, StageRecords

P = ParamSpec("P")
R = TypeVar("R", bound=StageRecord)
_STAGE_NOTE = "stage: "
_PART_NOTE = "retried by itself, as a part of its stage"
_UNCOUNTED = {"job", "progress"}
"""Parameters that change no result."""


@dataclass
class StageCachePolicy(CachePolicy):
    """Caches a stage's result by job, options and content of its inputs, whichever machine runs it.

    Raise `version` when a code change changes the stage's result. `part` names a part of the stage.
    """

    stage: Stage = Stage.DOWNLOAD
    version: int = 1
    part: str = ""

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002 Prefect's signature
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> str | None:
        fingerprints = {name: _fingerprint(value) for name, value in inputs.items() if name not in _UNCOUNTED}
        name = f"{self.part or self.stage.lower()}-{digest(self.stage, self.version, fingerprints)[:32]}"
        return job_key(inputs["job"].job_id, f"records/{name}.json")


def task_arguments(stage: Stage, version: int, part: str = "") -> dict[str, Any]:
    """The arguments of `@task` for a stage: its name, its cache in the bucket, and its retries.

    `part` makes them those of a part of the stage; it is the name of its run, with parameters in braces.
    """
    name = part.partition(" ")[0]
    return {
        "name": name or stage.lower(),
        "task_run_name": part or stage.lower(),
        "cache_policy": StageCachePolicy(stage=stage, version=version, part=name),
        "persist_result": True,
        "result_serializer": "json",
        "retries": 2,
        "retry_delay_seconds": exponential_backoff(backoff_factor=3),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": is_worth_retrying,
    }


def is_worth_retrying(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Whether to retry: infrastructure may recover, but a ClipError is for the user to fix, and the rest are bugs.

    A missing object does not come back by itself: the flow runs the stage that makes it. What a part of the stage has
    retried in vain, the stage does not retry.
    """
    error = state.result(raise_on_failure=False)
    if _PART_NOTE in getattr(error, "__notes__", []):
        return False
    return isinstance(error, InfraError) and not isinstance(error, ConfigError | JobConflict | ObjectMissing)


def run_stage(stage: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a stage, or return its cached record if all artifacts in it still exist."""
    stop_signals.raise_pending()
    try:
        return _trusted_record(stage.with_options(result_storage=saved_block()), *args, **kwargs)
    except Exception as error:
        error.add_note(_STAGE_NOTE + stage.name.upper())
        raise


def part_of_stage(part: Task[P, R], stopping: Event) -> Task[P, R]:
    """A part of a stage, ready for `run_part` in any thread. Once `stopping` is set, it is not retried any more."""

    def is_still_worth_retrying(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:
        return not stopping.is_set() and is_worth_retrying(task, task_run, state)

    return part.with_options(result_storage=saved_block(), retry_condition_fn=is_still_worth_retrying)


def run_part(part: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a part of a stage, or return its cached record, like `run_stage`."""
    try:
        return _trusted_record(part, *args, **kwargs)
    except Exception as error:
        error.add_note(_PART_NOTE)
        raise


def _trusted_record(task: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """The task's record, from the cache only if all artifacts in it still exist."""
    state: State[R] = task(*args, **kwargs, return_state=True)  # pyright: ignore[reportCallIssue]
    record = state.result()
    store = ArtifactStore.from_settings(settings.load())
    if state.name == "Cached" and not store.has_all(record.artifacts.values()):
        return task.with_options(refresh_cache=True)(*args, **kwargs)
    return record


def failed_stage(error: BaseException) -> str | None:
    """The name of the stage that raised the error, or None. `run_stage` adds it to the error as a note."""
    notes = [note for note in getattr(error, "__notes__", []) if note.startswith(_STAGE_NOTE)]
    return notes[0].removeprefix(_STAGE_NOTE) if notes else None


def _fingerprint(value: Any) -> Any:
    if isinstance(value, StageRecord):
        return {name: ref.sha256 for name, ref in value.artifacts.items()}
    if isinstance(value, StageRecords):
        return {name: _fingerprint(record) for name, record in value}
    if isinstance(value, Drawing):
        return value.content
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value
