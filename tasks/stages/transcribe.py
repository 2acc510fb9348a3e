"""TRANSCRIPT: turn audio into a transcript, or fail if nobody speaks."""

import logging
from pathlib import Path

from tasks.core.errors import NoSpeech
from tasks.core.speech.asr import AsrResult
from tasks.engines.hardware import AsrOptions
from tasks.engines.speech import whisper

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
