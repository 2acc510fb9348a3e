"""SELECT: hear the chosen seconds again with a better model, for captions and titles."""

import logging
from collections.abc import Sequence
from pathlib import Path

from infra.untrusted_text import one_line
from tasks.core.edit.document import transcript_words, writable
from tasks.core.edit.words import words_between
from tasks.core.errors import UnreadableMedia
from tasks.core.plurals import clock
from tasks.core.speech.second_hearing import SecondHearing, corrections
from tasks.core.transcript import Speech, Word
from tasks.engines.ffmpeg import ffmpeg_exe
from tasks.engines.hardware import AsrOptions
from tasks.engines.speech import pcm
from tasks.engines.speech.whisper import Recogniser, words_in
from tasks.engines.weights import WeightsMissing

CONTEXT_SECONDS = 2.0
"""Heard before and after each part, but not corrected: where sound begins in the middle of a word, models err."""

_log = logging.getLogger(__name__)


def hear_again(spans: Sequence[tuple[float, float]], speech: Speech, audio: Path, options: AsrOptions) -> SecondHearing:
    """What the model of `options` hears differently between these times. If it cannot, `fault` says why.

    Raises:
        ProgramStopped: the decoder was killed or hung; a retry may succeed.
    """
    try:
        recogniser = Recogniser(options)
        said = transcript_words(speech.segments)
        parts = [_corrected(span, said, recogniser, speech, audio) for span in spans]
    except (UnreadableMedia, RuntimeError) as error:  # WeightsMissing is one; CTranslate2 raises nothing more specific
        _log.warning("The clips are not heard again: %s", error)
        why = "its weights were not found" if isinstance(error, WeightsMissing) else one_line(str(error), 300)
        return SecondHearing(fault=f"the clips were not heard again by {options.model}: {why}")
    return SecondHearing(parts, recogniser.plan.model)


def _corrected(
    span: tuple[float, float], said: Sequence[Word], recogniser: Recogniser, speech: Speech, audio: Path
) -> dict[int, str]:
    begin, end = max(span[0] - CONTEXT_SECONDS, 0.0), span[1] + CONTEXT_SECONDS
    place, first = words_between(said, begin, end)
    block = pcm.excerpt(audio, ffmpeg_exe(), begin, end - begin)
    again = words_in(recogniser, block, speech.language_of([span]))
    texts = {place + i: text for i, text in corrections(first, again).items()}
    found = writable({index: text for index, text in texts.items() if span[0] <= said[index].middle < span[1]})
    for index, text in found.items():
        _log.info("Heard again at %s: %r, not %r", clock(said[index].start), text, said[index].word)
    return found
