"""RENDER: renders the clips of the edit document as video files, each as a task of its own."""

from collections.abc import Callable
from pathlib import Path
from threading import Event

from prefect import task

from infra.bucket.store import ArtifactRef
from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import part_of_stage, run_part, task_arguments
from tasks.core.edit.document import EditDocument
from tasks.core.edit.drawing import Drawing, drawings
from tasks.core.edl import Edl
from tasks.core.object_keys import clip_name
from tasks.core.output.render_plan import RenderOptions
from tasks.core.plurals import pluralize
from tasks.draw import VERSION, draw
from tasks.records import ClipRecord, EdlRecord, RenderRecord, SourceRecord, TranscriptRecord
from tasks.stages.render import RenderedClip, parallel_clips, render_clips
from tasks.workspace import Workspace, stage_workspace


@task(**task_arguments(Stage.RENDER, VERSION))
def render(
    job: JobRef, options: RenderOptions, source: SourceRecord, transcript: TranscriptRecord, edl: EdlRecord
) -> RenderRecord:
    """Render every clip of the edit document into `rendered/`; UPLOAD checks and publishes them.

    The artifact `renders` describes each clip.
    """
    with stage_workspace(job, Stage.RENDER) as work:
        wanted, stopping = _drawings(edl, transcript, work), Event()
        footage = source.model_copy(update={"artifacts": {n: source.artifacts[n] for n in ("video", "audio")}})
        work.footage(footage)  # once, before several clips ask for it
        one, stored = part_of_stage(draw, stopping), dict[str, ArtifactRef]()

        def draw_one(drawing: Drawing, progress: Callable[[float], None]) -> RenderedClip:
            record = run_part(one, job, drawing, options, footage, progress)
            stored[clip_name(drawing.clip.index)] = record.artifacts["clip"]
            return _described(record, drawing, work)

        rendered = render_clips(
            wanted,
            draw_one,
            parallel_clips(options, len(wanted)),
            lambda share: work.report_progress(share, pluralize(len(wanted), "clip")),
            stopping,
        )
        return RenderRecord(
            artifacts=stored | {"renders": work.put_json("rendered/renders.json", rendered)},
            seconds=work.seconds,
            warnings=[f"clip {lost.clip.index} could not be rendered: {lost.reason}" for lost in rendered.failed],
        )


def _drawings(edl: EdlRecord, transcript: TranscriptRecord, work: Workspace) -> list[Drawing]:
    document = EditDocument.model_validate_json(work.fetch(edl.artifacts["edit"]).read_bytes())
    derived = Edl.model_validate_json(work.fetch(edl.artifacts["edl"]).read_bytes())
    return drawings(document, derived.clips, work.speech(transcript))


def _described(record: ClipRecord, drawing: Drawing, work: Workspace) -> RenderedClip:
    """The clip under the number and title that it has now; it may have been drawn under others."""
    made = RenderedClip.model_validate_json(work.fetch(record.artifacts["description"]).read_bytes())
    index = drawing.clip.index
    log = made.face_log | {"index": index}
    return made.model_copy(update={"drawing": drawing, "path": Path(clip_name(index)), "face_log": log})
