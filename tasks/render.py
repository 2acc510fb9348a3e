"""RENDER: the chosen seconds as vertical video files."""

from pathlib import Path

from prefect import task

from infra.bucket.store import ArtifactRef
from infra.jobs.store import JobRef
from infra.states import Stage
from tasks.core.counting import counted
from tasks.core.edl import Edl
from tasks.core.keys import job_key
from tasks.core.out.render_plan import RenderOptions
from tasks.policy import stage_options
from tasks.records import EdlRecord, RenderRecord, SourceRecord, TranscriptRecord
from tasks.stages.render import RenderedClip, RenderResult, render_clips
from tasks.workspace import Workspace, at_work


@task(**stage_options(Stage.RENDER, version=7))
def render(
    job: JobRef, options: RenderOptions, source: SourceRecord, transcript: TranscriptRecord, edl: EdlRecord
) -> RenderRecord:
    """Render every clip of the EDL; they are published only after UPLOAD has checked them.

    Its files are under `rendered/`, by name, and what is known of each as `renders`.
    """
    with at_work(job, Stage.RENDER) as work:
        kept: dict[str, ArtifactRef] = {}

        def keep(clip: RenderedClip) -> None:
            key = job_key(work.job.job_id, f"rendered/{clip.path.name}")
            kept[clip.path.name] = work.keep_file(key, clip.path)

        chosen = Edl.model_validate_json(work.fetch(edl.artifacts["edl"]).read_bytes())
        rendered = render_clips(
            chosen.clips,
            work.footage(source, transcript),
            options,
            work.folder / "renders",
            lambda share: work.say(share, counted(len(chosen.clips), "clip")),
            keep,
        )
        return RenderRecord(
            artifacts=kept | {"renders": _kept_list(rendered, work)},
            seconds=work.seconds,
            warnings=[f"clip {lost.clip.index} could not be rendered: {lost.reason}" for lost in rendered.failed],
        )


def _kept_list(rendered: RenderResult, work: Workspace) -> ArtifactRef:
    """What is known of each clip, which is under `rendered/` by its name."""
    known = rendered.model_copy(
        update={"clips": [clip.model_copy(update={"path": Path(clip.path.name)}) for clip in rendered.clips]}
    )
    return work.keep_json("rendered/renders.json", known.model_dump(mode="json"))
