"""SELECT: which seconds of the talk become which clip."""

from prefect import task

from infra.jobs.store import JobRef
from infra.states import Stage
from tasks.core.media import SourceMeta
from tasks.core.request import ClipRequest
from tasks.core.transcript import TRANSCRIPT_JSON, Speech
from tasks.engines.choice.llm import LlmOptions
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.options import ChoiceOptions
from tasks.policy import stage_options
from tasks.records import ChunksRecord, EdlRecord, SourceRecord, TranscriptRecord
from tasks.stages.ends import settle_ends
from tasks.stages.select import select_clips
from tasks.workspace import Workspace, at_work


@task(**stage_options(Stage.SELECT, version=6))
def select(
    job: JobRef,
    request: ClipRequest,
    options: ChoiceOptions,
    source: SourceRecord,
    transcript: TranscriptRecord,
    chunks: ChunksRecord,  # noqa: ARG001 what it is made of is the transcript's
) -> EdlRecord:
    """Choose the clips, move their ends to where the picture wants them, and write the EDL."""
    with at_work(job, Stage.SELECT) as work:
        segments = TRANSCRIPT_JSON.validate_json(work.fetch(transcript.artifacts["transcript"]).read_bytes())
        edl = select_clips(
            job.job_id,
            request,
            Speech(segments, transcript.language),
            work.fetch(source.artifacts["audio"]),
            SourceMeta.model_validate_json(work.fetch(source.artifacts["meta"]).read_bytes()),
            _llm(options, work),
            ffmpeg_exe(),
        )
        video = work.fetch(source.artifacts["video"])
        clips = settle_ends(edl.clips, segments, video, source.info, request.bounds)
        edl = edl.model_copy(update={"clips": clips})
        kept = work.keep_json("edl.json", edl.model_dump(mode="json"))
        return EdlRecord(artifacts={"edl": kept}, seconds=work.seconds, warnings=edl.notes, selection=edl.selection)


def _llm(options: ChoiceOptions, work: Workspace) -> LlmOptions | None:
    if not options.llm_model:
        return None
    return LlmOptions(
        model=options.llm_model,
        api_base=options.llm_api_base,
        api_key=work.settings.llm_api_key,
        timeout_seconds=work.settings.llm_timeout_seconds,
    )
