"""CHUNK: the transcript as windows of about five minutes that end at a sentence or a pause."""

from prefect import task

from infra.jobs.store import JobRef
from infra.states import Stage
from tasks.core.transcript import TRANSCRIPT_JSON
from tasks.policy import stage_options
from tasks.records import ChunksRecord, TranscriptRecord
from tasks.stages.chunk import make_chunks
from tasks.workspace import at_work


@task(**stage_options(Stage.CHUNK, version=3))
def chunk(job: JobRef, transcript: TranscriptRecord) -> ChunksRecord:
    """Cut the transcript into chunks."""
    with at_work(job, Stage.CHUNK) as work:
        segments = TRANSCRIPT_JSON.validate_json(work.fetch(transcript.artifacts["transcript"]).read_bytes())
        chunks = work.keep_json("chunks.json", [item.model_dump(mode="json") for item in make_chunks(segments)])
        return ChunksRecord(artifacts={"chunks": chunks}, seconds=work.seconds)
