"""Draws the clips of RENDER and of a recut. Each is a task of its own, so it is seen, retried and kept by itself."""

from collections.abc import Callable
from pathlib import Path
from threading import Event

from prefect import task

from infra import settings
from infra.bucket.store import ArtifactRef
from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import part_of_stage, run_part, task_arguments
from tasks.core.edit.drawing import Drawing
from tasks.core.object_keys import clip_name, digest, job_key
from tasks.core.output.render_plan import RenderOptions
from tasks.records import ClipRecord, SourceRecord
from tasks.stages.render import RenderedClip, RenderResult, encoder_threads, parallel_clips, render_clip, render_clips
from tasks.workspace import Workspace, machine_failures

VERSION = 23
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


def draw_all(
    job: JobRef,
    wanted: list[Drawing],
    options: RenderOptions,
    source: SourceRecord,
    work: Workspace,
    progress: Callable[[float], None],
) -> tuple[RenderResult, dict[str, ArtifactRef]]:
    """Draw the clips that are not kept, several at once; also return the stored clips by file name.

    Args:
        progress: called with the share (0 to 1) of all clips that is done, which never falls.
    """
    footage = source.model_copy(update={"artifacts": {name: source.artifacts[name] for name in ("video", "audio")}})
    if wanted:
        work.footage(footage)  # once, before several clips ask for it
    stopping = Event()
    one, stored = part_of_stage(draw, stopping), dict[str, ArtifactRef]()

    parallel = parallel_clips(options, len(wanted))

    def draw_one(drawing: Drawing, tell: Callable[[float], None]) -> RenderedClip:
        threads = encoder_threads(wanted.index(drawing), len(wanted), parallel)
        record = run_part(one, job, drawing, options.model_copy(update={"threads": threads}), footage, tell)
        stored[clip_name(drawing.clip.index)] = record.artifacts["clip"]
        return _described(record, drawing, work)

    return render_clips(wanted, draw_one, parallel, progress, stopping), stored


def _described(record: ClipRecord, drawing: Drawing, work: Workspace) -> RenderedClip:
    """The clip under the number and title that it has now; it may have been drawn under others."""
    made = RenderedClip.model_validate_json(work.fetch(record.artifacts["description"]).read_bytes())
    index = drawing.clip.index
    log = made.face_log | {"index": index}
    return made.model_copy(update={"drawing": drawing, "path": Path(clip_name(index)), "face_log": log})
