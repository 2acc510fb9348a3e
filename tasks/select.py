"""SELECT: chooses the parts of the source that become clips."""

from functools import partial

from prefect import task

from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import task_arguments
from tasks.core.edit.cuts import SourceWords, left_out
from tasks.core.edit.document import first_revision, transcript_words
from tasks.core.edit.drawing import derived_edl
from tasks.core.media import SourceMeta
from tasks.core.request import ClipRequest
from tasks.core.transcript import Speech
from tasks.engines.choice.llm import LlmOptions
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.options import ChoiceOptions
from tasks.records import ChunksRecord, EdlRecord, SourceRecord, TranscriptRecord
from tasks.stages.ends import snap_ends
from tasks.stages.hear_again import hear_again
from tasks.stages.select import Hear, select_clips
from tasks.workspace import Workspace, stage_workspace


@task(**task_arguments(Stage.SELECT, version=16))
def select(
    job: JobRef,
    request: ClipRequest,
    options: ChoiceOptions,
    source: SourceRecord,
    transcript: TranscriptRecord,
    chunks: ChunksRecord,  # noqa: ARG001 only orders the tasks; selection reads the transcript
) -> EdlRecord:
    """Choose the clips, snap their ends to cuts in the picture, and write the edit document and the EDL."""
    with stage_workspace(job, Stage.SELECT) as work:
        speech = work.speech(transcript)
        edl = select_clips(
            job.job_id,
            request,
            speech,
            work.fetch(source.artifacts["audio"]),
            SourceMeta.model_validate_json(work.fetch(source.artifacts["meta"]).read_bytes()),
            _llm(options, work),
            ffmpeg_exe(),
            _second_hearing(options, speech, transcript, source, work),
        )
        video = work.fetch(source.artifacts["video"])
        unheard = partial(left_out, source=SourceWords.of(speech)) if request.tighten else None
        clips = snap_ends(edl.clips, speech.segments, video, source.info, request.bounds, left_out=unheard)
        document = first_revision(
            clips, source.artifacts["video"].sha256, transcript_words(speech.segments), request, edl.corrected
        )
        edl = edl.model_copy(update={"clips": derived_edl(document, clips, speech)})
        return EdlRecord(
            artifacts={"edit": work.put_json("edit.json", document), "edl": work.put_json("edl.json", edl)},
            seconds=work.seconds,
            warnings=edl.notes,
            selection=edl.selection,
        )


def _second_hearing(
    options: ChoiceOptions, speech: Speech, transcript: TranscriptRecord, source: SourceRecord, work: Workspace
) -> Hear | None:
    """Hears parts of the source again, or None if no other model than the transcript's is wanted for that."""
    wanted = options.second_hearing
    if wanted is None or wanted.model == transcript.model.get("model"):
        return None
    return partial(
        hear_again,
        speech=speech,
        audio=work.fetch(source.artifacts["audio"]),
        options=wanted.on_this_machine(work.settings),
    )


def _llm(options: ChoiceOptions, work: Workspace) -> LlmOptions | None:
    if not options.llm_model:
        return None
    return LlmOptions(
        model=options.llm_model,
        api_base=options.llm_api_base,
        api_key=work.settings.llm_api_key,
        timeout_seconds=work.settings.llm_timeout_seconds,
    )
