"""Split a talk into chunks of about five minutes that end with a sentence, at a long pause if one is near."""

from pydantic import BaseModel

from tasks.core.speech.sentences import join
from tasks.core.transcript import Sentence

SLACK = 0.2
"""A chunk may deviate from the requested length by this share to end at a longer pause."""


class Chunk(BaseModel):
    """An item of `chunks.json`: the text spoken from `start` to `end` (seconds)."""

    text: str
    start: float
    end: float


def chunks(sentences: list[Sentence], seconds: float = 300.0) -> list[Chunk]:
    """Consecutive chunks that contain every sentence once.

    Each ends at the longest pause within `SLACK` of `seconds`, or with the last sentence that fits.
    """
    made: list[Chunk] = []
    first = 0
    while first < len(sentences):
        last = _last_of(sentences, first, seconds)
        part = sentences[first : last + 1]
        made.append(Chunk(text=join(s.text for s in part), start=part[0].start, end=part[-1].end))
        first = last + 1
    return made


def _last_of(sentences: list[Sentence], first: int, seconds: float) -> int:
    origin = sentences[first].start
    if sentences[-1].end - origin <= seconds * (1 + SLACK):
        return len(sentences) - 1
    best, longest_pause = first, -1.0
    for i in range(first, len(sentences) - 1):
        length = sentences[i].end - origin
        if length > seconds * (1 + SLACK):
            break
        if length < seconds * (1 - SLACK):
            best = i
            continue
        pause = sentences[i + 1].start - sentences[i].end
        if pause > longest_pause:
            best, longest_pause = i, pause
    return best
