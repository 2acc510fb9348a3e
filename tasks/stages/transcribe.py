"""TRANSCRIPT: turn audio into a transcript that says who speaks, or fail if nobody does."""

import logging
from pathlib import Path

from infra.untrusted_text import one_line
from tasks.core.errors import NoSpeech, UnreadableMedia
from tasks.core.speakers.words import with_speakers
from tasks.core.speech.asr import AsrResult
from tasks.engines.hardware import AsrOptions, cpu_cores
from tasks.engines.speech import whisper
from tasks.engines.weights import WeightsMissing, speaker_weights

_log = logging.getLogger(__name__)


def transcribe_source(
    audio: Path, language: str, options: AsrOptions, ffmpeg: str, progress: whisper.Progress
) -> AsrResult:
    """Transcript of the first audio stream; `language` is auto or a Whisper code.

    Raises:
        NoSpeech: there is only silence, music or noise.
        BadRequest: Whisper does not know the language.
        ProgramStopped: the decoder was killed or hung; a retry may succeed.
    """
    result = whisper.transcribe(audio, options, ffmpeg, progress, language)
    if not result.segments:
        for warning in result.warnings:
            _log.warning("Transcript: %s", warning)
        raise NoSpeech("No speech was found in the video.")
    return result


def tell_speakers_apart(result: AsrResult, audio: Path, progress: whisper.Progress) -> AsrResult:
    """The transcript with the speaker of each word, if there are several; with a warning if that cannot be found out.

    Raises:
        ProgramStopped: the decoder was killed or hung; a retry may succeed.
    """
    from tasks.engines.speakers.find import find_speakers  # noqa: PLC0415 - onnx takes a quarter of a second
    from tasks.engines.speakers.graph import NetworkError  # noqa: PLC0415

    try:
        speaking = find_speakers(audio, speaker_weights(), cpu_cores(), progress)
    except (WeightsMissing, UnreadableMedia, NetworkError) as error:
        _log.warning("Speakers are not told apart: %s", error)
        return result.model_copy(update={"warnings": [*result.warnings, f"speakers are not told apart: {_why(error)}"]})
    if speaking is None:
        _log.info("One voice was heard")
        return result.model_copy(update={"told_apart": True})
    _log.info("%d voices were heard", speaking.shape[1])
    return result.model_copy(update={"told_apart": True, "segments": with_speakers(result.segments, speaking)})


def _why(error: Exception) -> str:
    if isinstance(error, WeightsMissing):
        return "the weights for that were not found"
    return error.message if isinstance(error, UnreadableMedia) else one_line(str(error), 300)
