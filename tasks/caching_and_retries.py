"""What all stages have in common: cache keys, retries, and how a stage is called."""

from dataclasses import dataclass
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
from tasks.core.object_keys import digest, job_key
from tasks.records import StageRecord, StageRecords

P = ParamSpec("P")
R = TypeVar("R", bound=StageRecord)
_STAGE_NOTE = "stage: "


@dataclass
class StageCachePolicy(CachePolicy):
    """Caches a stage's result by job, options and content of its inputs, whichever machine runs it.

    Raise `version` when a code change changes the stage's result.
    """

    stage: Stage = Stage.DOWNLOAD
    version: int = 1

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002 Prefect's signature
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **kwargs: Any,  # noqa: ARG002
    ) -> str | None:
        fingerprints = {name: _fingerprint(value) for name, value in inputs.items() if name != "job"}
        name = f"{self.stage.lower()}-{digest(self.stage, self.version, fingerprints)[:32]}"
        return job_key(inputs["job"].job_id, f"records/{name}.json")


def task_arguments(stage: Stage, version: int) -> dict[str, Any]:
    """The arguments of `@task` for a stage: its name, its cache in the bucket, and its retries."""
    return {
        "name": stage.lower(),
        "task_run_name": stage.lower(),
        "cache_policy": StageCachePolicy(stage=stage, version=version),
        "persist_result": True,
        "result_serializer": "json",
        "retries": 2,
        "retry_delay_seconds": exponential_backoff(backoff_factor=3),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": is_worth_retrying,
    }


def is_worth_retrying(task: Task[..., Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """Whether to retry: infrastructure may recover, but a ClipError is for the user to fix, and the rest are bugs.

    A missing object does not come back by itself: the flow runs the stage that makes it.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, InfraError) and not isinstance(error, ConfigError | JobConflict | ObjectMissing)


def run_stage(stage: Task[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a stage, or return its cached record if all artifacts in it still exist."""
    stop_signals.raise_pending()
    bound = stage.with_options(result_storage=saved_block())
    try:
        state: State[R] = bound(*args, **kwargs, return_state=True)  # pyright: ignore[reportCallIssue]
        record = state.result()
        store = ArtifactStore.from_settings(settings.load())
        if state.name == "Cached" and not store.has_all(record.artifacts.values()):
            return bound.with_options(refresh_cache=True)(*args, **kwargs)
    except Exception as error:
        error.add_note(_STAGE_NOTE + stage.name.upper())
        raise
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
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value
