"""CHUNK: a transcript as windows of about five minutes."""

from tasks.core.speech.chunking import Chunk, chunks
from tasks.core.speech.sentences import sentences
from tasks.core.transcript import Segment


def make_chunks(segments: list[Segment]) -> list[Chunk]:
    """`chunks.json` of a transcript; none where nobody speaks."""
    return chunks(sentences(segments))
