"""RENDER: renders the clips of the edit document as video files, each as a task of its own."""

from prefect import task

from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import task_arguments
from tasks.core.edit.document import EditDocument
from tasks.core.edit.drawing import Drawing, drawings
from tasks.core.edl import Edl
from tasks.core.output.render_plan import RenderOptions
from tasks.core.plurals import pluralize
from tasks.draw import VERSION, draw_all
from tasks.records import EdlRecord, RenderRecord, SourceRecord, TranscriptRecord
from tasks.workspace import Workspace, stage_workspace


@task(**task_arguments(Stage.RENDER, VERSION))
def render(
    job: JobRef, options: RenderOptions, source: SourceRecord, transcript: TranscriptRecord, edl: EdlRecord
) -> RenderRecord:
    """Render every clip of the edit document into `rendered/`; UPLOAD checks and publishes them.

    The artifact `renders` describes each clip.
    """
    with stage_workspace(job, Stage.RENDER) as work:
        wanted = _drawings(edl, transcript, work)
        rendered, stored = draw_all(
            job,
            wanted,
            options,
            source,
            work,
            lambda share: work.report_progress(share, pluralize(len(wanted), "clip")),
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
