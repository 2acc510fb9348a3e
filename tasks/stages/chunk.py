"""CHUNK: split a transcript into parts of about five minutes."""

from tasks.core.speech.chunking import Chunk, chunks
from tasks.core.speech.sentences import sentences
from tasks.core.transcript import Segment


def make_chunks(segments: list[Segment]) -> list[Chunk]:
    """The items of `chunks.json`; empty without speech."""
    return chunks(sentences(segments))
