"""Draws one clip of RENDER. It is a task of its own, so a clip is seen, retried and kept by itself."""

from collections.abc import Callable

from prefect import task

from infra import settings
from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import task_arguments
from tasks.core.edit.drawing import Drawing
from tasks.core.object_keys import digest, job_key
from tasks.core.output.render_plan import RenderOptions
from tasks.records import ClipRecord, SourceRecord
from tasks.stages.render import render_clip
from tasks.workspace import Workspace, machine_failures

VERSION = 13
"""Version of RENDER and of its clips."""


@task(**task_arguments(Stage.RENDER, VERSION, part="clip {drawing.clip.index}"))
def draw(
    job: JobRef, drawing: Drawing, options: RenderOptions, source: SourceRecord, progress: Callable[[float], None]
) -> ClipRecord:
    """Draw a clip into `rendered/`, under a name made from what it shows and says.

    Args:
        source: of its artifacts, only video and audio; a clip is drawn again if one of those it has here changes.
        progress: called with the share (0 to 1) that is done.
    """
    configured = settings.load()
    with machine_failures(configured):
        work = Workspace(job, configured, lambda *_: None)
        made = render_clip(drawing, work.footage(source), options, work.folder / "renders", progress)
        name = f"rendered/{digest(drawing.content)[:32]}"
        described = made.model_copy(update={"path": made.path.relative_to(made.path.parent)}).model_dump(mode="json")
        stored = work.put_file(job_key(job.job_id, f"{name}.mp4"), made.path)
        return ClipRecord(artifacts={"clip": stored, "description": work.put_json(f"{name}.json", described)})
