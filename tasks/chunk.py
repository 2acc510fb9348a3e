"""CHUNK: divides the transcript into parts of about five minutes. Each ends with a sentence, if possible at a pause."""

from prefect import task

from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import task_arguments
from tasks.core.transcript import TRANSCRIPT_JSON
from tasks.records import ChunksRecord, TranscriptRecord
from tasks.stages.chunk import make_chunks
from tasks.workspace import stage_workspace


@task(**task_arguments(Stage.CHUNK, version=4))
def chunk(job: JobRef, transcript: TranscriptRecord) -> ChunksRecord:
    """Divide the transcript into chunks."""
    with stage_workspace(job, Stage.CHUNK) as work:
        segments = TRANSCRIPT_JSON.validate_json(work.fetch(transcript.artifacts["transcript"]).read_bytes())
        chunks = work.put_json("chunks.json", [item.model_dump(mode="json") for item in make_chunks(segments)])
        return ChunksRecord(artifacts={"chunks": chunks}, seconds=work.seconds)
