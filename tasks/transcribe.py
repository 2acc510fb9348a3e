"""TRANSCRIPT: transcribes the source's audio into timed words, for all jobs with the same audio and model."""

import os

from prefect import task

from infra.errors import ConfigError
from infra.jobs.record import JobRef
from infra.states import Stage
from tasks.caching_and_retries import task_arguments
from tasks.core.object_keys import digest, transcript_key
from tasks.core.plurals import clock
from tasks.core.speech.asr import AsrResult
from tasks.core.transcript import TRANSCRIPT_JSON
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.hardware import choose
from tasks.engines.weights import WeightsMissing, whisper_model
from tasks.options import SpeechOptions
from tasks.records import SourceRecord, TranscriptRecord
from tasks.stages.transcribe import tell_speakers_apart, transcribe_source
from tasks.workspace import Workspace, stage_workspace

VERSION = 9
_RECOGNISED = 0.9
"""Progress once all words are recognised; the rest is who speaks them."""


@task(**task_arguments(Stage.TRANSCRIPT, VERSION))
def transcribe(job: JobRef, language: str, options: SpeechOptions, source: SourceRecord) -> TranscriptRecord:
    """Transcribe the audio, unless another job has done so."""
    with stage_workspace(job, Stage.TRANSCRIPT) as work:
        result, reused = _transcript(language, options, source, work)
        transcript = work.put_json("transcript.json", TRANSCRIPT_JSON.dump_python(result.segments, mode="json"))
        return TranscriptRecord(
            artifacts={"transcript": transcript},
            seconds=work.seconds,
            reused=reused,
            warnings=result.warnings,
            language=result.language,
            language_probability=result.language_probability,
            model=result.model_dump(include={"model", "device", "compute_type", "batch_size"}),
        )


def _transcript(language: str, options: SpeechOptions, source: SourceRecord, work: Workspace) -> tuple[AsrResult, bool]:
    """The transcript, and whether its words come from the shared cache.

    The words are stored as soon as they are recognised, and once more with their speakers if those can be told apart.
    """
    plan = choose(work.settings.asr_device, options.model, work.settings.asr_batch_size)
    audio = source.artifacts["audio"].sha256
    identity = _model_identity(plan.model, work)
    said = transcript_key(audio, digest(VERSION, audio, identity, plan.compute_type, options.beam_size, language))
    told_apart = transcript_key(audio, digest("speakers", said))
    work.mark_use(said)
    reused = work.store.exists(said)
    if work.store.exists(told_apart):
        return _stored(told_apart, work), reused
    result = _stored(said, work) if reused else _recognise(language, options, source, work)
    is_shared = result.complete and (result.model, result.compute_type) == (plan.model, plan.compute_type)
    if is_shared and not reused:
        work.store.put_json(said, result.model_dump(mode="json"))
    result = _told_apart(result, source, work)
    if is_shared and result.told_apart:
        work.store.put_json(told_apart, result.model_dump(mode="json"))
    return result, reused


def _recognise(language: str, options: SpeechOptions, source: SourceRecord, work: Workspace) -> AsrResult:
    def recognised(done: float, total: float) -> None:
        work.report_progress(_RECOGNISED * done / max(total, 1), f"{clock(done)} of {clock(total)}")

    audio = work.fetch(source.artifacts["audio"])
    try:
        return transcribe_source(audio, language, options.on_this_machine(work.settings), ffmpeg_exe(), recognised)
    except WeightsMissing as error:
        raise ConfigError(str(error)) from error


def _told_apart(result: AsrResult, source: SourceRecord, work: Workspace) -> AsrResult:
    def progress(done: float, total: float) -> None:
        share = min(done / max(total, 1), 1)
        work.report_progress(_RECOGNISED + (1 - _RECOGNISED) * share, "telling speakers apart")

    return tell_speakers_apart(result, work.fetch(source.artifacts["audio"]), progress)


def _stored(key: str, work: Workspace) -> AsrResult:
    return AsrResult.model_validate(work.store.get_json(key))


def _model_identity(model: str, work: Workspace) -> str:
    """The model's identity in cache keys: its name or, for a folder, its digest."""
    if os.sep not in model:
        return model
    try:
        return whisper_model(model, work.settings.data_dir / "weights").sha256
    except WeightsMissing as error:
        raise ConfigError(str(error)) from error
