"""RENDER: renders the clips of the edit document as vertical video files."""

from pathlib import Path

from prefect import task

from infra.bucket.store import ArtifactRef
from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import task_arguments
from tasks.core.edit.document import EditDocument
from tasks.core.edit.drawing import Drawing, drawings
from tasks.core.edl import Edl
from tasks.core.object_keys import job_key
from tasks.core.output.render_plan import RenderOptions
from tasks.core.plurals import pluralize
from tasks.records import EdlRecord, RenderRecord, SourceRecord, TranscriptRecord
from tasks.stages.render import RenderedClip, RenderResult, render_clips
from tasks.workspace import Workspace, stage_workspace


@task(**task_arguments(Stage.RENDER, version=11))
def render(
    job: JobRef, options: RenderOptions, source: SourceRecord, transcript: TranscriptRecord, edl: EdlRecord
) -> RenderRecord:
    """Render every clip of the edit document into `rendered/`; UPLOAD checks and publishes them.

    The artifact `renders` describes each clip.
    """
    with stage_workspace(job, Stage.RENDER) as work:
        stored: dict[str, ArtifactRef] = {}

        def keep(clip: RenderedClip) -> None:
            key = job_key(work.job.job_id, f"rendered/{clip.path.name}")
            stored[clip.path.name] = work.put_file(key, clip.path)

        drawn = _drawings(edl, transcript, work)
        rendered = render_clips(
            drawn,
            work.footage(source),
            options,
            work.folder / "renders",
            lambda share: work.report_progress(share, pluralize(len(drawn), "clip")),
            keep,
        )
        return RenderRecord(
            artifacts=stored | {"renders": _put_renders(rendered, work)},
            seconds=work.seconds,
            warnings=[f"clip {lost.clip.index} could not be rendered: {lost.reason}" for lost in rendered.failed],
        )


def _drawings(edl: EdlRecord, transcript: TranscriptRecord, work: Workspace) -> list[Drawing]:
    document = EditDocument.model_validate_json(work.fetch(edl.artifacts["edit"]).read_bytes())
    derived = Edl.model_validate_json(work.fetch(edl.artifacts["edl"]).read_bytes())
    return drawings(document, derived.clips, work.speech(transcript))


def _put_renders(rendered: RenderResult, work: Workspace) -> ArtifactRef:
    """Store the descriptions of all clips, with file names instead of local paths."""
    portable = rendered.model_copy(
        update={"clips": [clip.model_copy(update={"path": Path(clip.path.name)}) for clip in rendered.clips]}
    )
    return work.put_json("rendered/renders.json", portable.model_dump(mode="json"))
