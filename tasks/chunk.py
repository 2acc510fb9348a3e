"""CHUNK: the transcript in parts of about five minutes that end with a sentence, at a pause if possible."""

from prefect import task

from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.core.transcript import TRANSCRIPT_JSON
from tasks.policy import task_arguments
from tasks.records import ChunksRecord, TranscriptRecord
from tasks.stages.chunk import make_chunks
from tasks.workspace import stage_workspace


@task(**task_arguments(Stage.CHUNK, version=3))
def chunk(job: JobRef, transcript: TranscriptRecord) -> ChunksRecord:
    """Divide the transcript into chunks."""
    with stage_workspace(job, Stage.CHUNK) as work:
        segments = TRANSCRIPT_JSON.validate_json(work.fetch(transcript.artifacts["transcript"]).read_bytes())
        chunks = work.put_json("chunks.json", [item.model_dump(mode="json") for item in make_chunks(segments)])
        return ChunksRecord(artifacts={"chunks": chunks}, seconds=work.seconds)
