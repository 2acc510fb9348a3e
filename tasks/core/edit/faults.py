"""Everything that is wrong with a document, by path and reason."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from infra.untrusted_text import one_line
from tasks.core.edit.cuts import MOST_TIGHT_PARTS, SourceWords, played
from tasks.core.edit.document import MAX_CLIPS, EditClip, EditDocument, EditSegment, EditSource, words_digest
from tasks.core.plurals import pluralize
from tasks.core.request import MAX_SECONDS
from tasks.core.transcript import Word

Part = TypeVar("Part", bound=BaseModel)
SHORTEST_SEGMENT, SHORTEST_CLIP = 0.1, 1.0
"""Seconds."""
MAX_PARTS = 30
"""Parts of a clip. Parts that are far apart are decoded at the same time, which takes 60 MB for each at 1080p."""
MOST_FAULTS = 100
"""Faults that are listed; of more, only the number is given."""
_REASONS = {
    "missing": "is required",
    "extra_forbidden": "is not a field of the document",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be empty",
    "too_long": "must have at most {max_length} items",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must have a kind: {expected_tags}",
    "union_tag_not_found": "must have a kind",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}
_KINDS = ("auto", "fit", "crop", "split", "people", "screen")
"""Pydantic adds the kind of framing to a path; the document does not have it there."""


@dataclass(frozen=True)
class SourceFacts:
    """What a document is checked against: the video's SHA-256, its length in seconds, and its transcript's words.

    `fillers` are the indices of words that a tight clip leaves out.
    """

    video: str
    duration: float
    words: list[Word]
    fillers: frozenset[int] = frozenset()

    @property
    def end(self) -> float:
        """The end of the video or, if that is later, of the last word."""
        return max([self.duration, *(word.end for word in self.words)])


def faults(content: object, source: SourceFacts) -> list[str]:
    """All faults of a document as `path: reason`; empty if it can be drawn.

    Args:
        content: the value of a JSON document.
        source: the source of the job that the document belongs to.
    """
    schema_errors, semantic = _schema_errors(content), list(_semantic_faults(content, source))
    more = len(schema_errors) + len(semantic) - MOST_FAULTS
    listed = [_sentence(_path(error["loc"]), _reason(error)) for error in schema_errors[:MOST_FAULTS]] + semantic
    return listed if more <= 0 else [*listed[:MOST_FAULTS], f"document: {pluralize(more, 'more fault')}"]


def _schema_errors(content: object) -> list[ErrorDetails]:
    try:
        EditDocument.model_validate(content)
    except ValidationError as error:
        return error.errors(include_url=False, include_input=False)
    return []


def _path(places: tuple[int | str, ...]) -> str:
    """`clips[1].segments[0].end`."""
    path = ""
    for before, place in pairwise(["", *places]):
        if before == "framing" and place in _KINDS:
            continue
        path += f"[{place}]" if isinstance(place, int) else f".{one_line(place, 100)}"
    return path.removeprefix(".")


def _reason(fault: ErrorDetails) -> str:
    """What is wrong, without the value: it may be as long as the whole document."""
    template = _REASONS.get(fault["type"])
    return template.format(**fault.get("ctx", {})) if template else f"{fault['msg'][0].lower()}{fault['msg'][1:]}"


def _sentence(path: str, reason: str) -> str:
    return f"{path or 'document'}: {reason}"


def _semantic_faults(content: object, source: SourceFacts) -> Iterator[str]:
    """The faults of those parts that have the right form."""
    document = cast("dict[str, Any]", content) if isinstance(content, dict) else {}
    if written_for := _part(EditSource, document.get("source")):
        yield from _faults_of_source(written_for, source)
    raw = document.get("clips")
    items = cast("list[object]", raw)[:MAX_CLIPS] if isinstance(raw, list) else []
    clips = {f"clips[{i}]": clip for i, item in enumerate(items) if (clip := _part(EditClip, item))}
    owner: dict[str, str] = {}
    words = SourceWords(source.words, source.fillers)
    for path, clip in clips.items():
        if (first := owner.setdefault(clip.id, path)) != path:
            yield _sentence(f"{path}.id", f"{clip.id} already names {first}")
        yield from _faults_of_clip(path, clip, source, words)


def _part(model: type[Part], content: object) -> Part | None:
    """The part, or None if its form is wrong, which `_schema_errors` says."""
    try:
        return model.model_validate(content)
    except ValidationError:
        return None


def _faults_of_source(written_for: EditSource, source: SourceFacts) -> Iterator[str]:
    if written_for.video != source.video:
        yield _sentence("source.video", "is not the video of this job")
    if written_for.words != words_digest(source.words):
        yield _sentence("source.words", "is not the digest of this job's words, so their indices may mean others")


def _faults_of_clip(path: str, clip: EditClip, source: SourceFacts, words: SourceWords) -> Iterator[str]:
    segments = {f"{path}.segments[{i}]": segment for i, segment in enumerate(clip.segments)}
    before = list(_faults_of_times(segments, source.end))
    yield from before
    yield from _faults_of_words(f"{path}.words", clip, len(source.words))
    if before:
        return
    parts = played(clip.segments, set(clip.words.removed), words, tight=clip.tighten)
    most = MOST_TIGHT_PARTS if clip.tighten else MAX_PARTS
    left = sum(part.end - part.start for part in parts)
    if len(parts) > most:
        yield _sentence(path, f"falls into {len(parts)} parts without the removed words; at most {most}")
    if left < SHORTEST_CLIP:
        yield _sentence(path, f"plays {left:.2f} s; the shortest clip lasts {SHORTEST_CLIP:g} s")
    if left > MAX_SECONDS:
        yield _sentence(path, f"plays {left:.2f} s; the longest clip lasts {MAX_SECONDS} s")


def _faults_of_times(segments: dict[str, EditSegment], end: float) -> Iterator[str]:
    for path, segment in segments.items():
        if segment.end > end:
            yield _sentence(f"{path}.end", f"{segment.end:g} lies after the source's end, {end:g}")
        if segment.end <= segment.start:
            yield _sentence(f"{path}.end", f"{segment.end:g} must be later than its start, {segment.start:g}")
        elif segment.end - segment.start < SHORTEST_SEGMENT:
            yield _sentence(path, f"lasts less than {SHORTEST_SEGMENT:g} s")
    longest, until = "", 0.0
    for path, segment in sorted(segments.items(), key=lambda item: item[1].start):
        if segment.start < until:
            yield _sentence(path, f"overlaps {longest}; a clip plays each second once")
        if segment.end > until:
            longest, until = path, segment.end


def _faults_of_words(path: str, clip: EditClip, count: int) -> Iterator[str]:
    named = {
        "corrected": [word.index for word in clip.words.corrected],
        "hidden": clip.words.hidden,
        "removed": clip.words.removed,
    }
    for field, indices in named.items():
        at = f"{path}.{field}"
        suffix = ".index" if field == "corrected" else ""
        for place, index in enumerate(indices):
            if index >= count:
                yield _sentence(f"{at}[{place}]{suffix}", f"there is no word {index}; the source has {count}")
        for place in _repeated(indices):
            yield _sentence(f"{at}[{place}]{suffix}", f"word {indices[place]} is named twice")


def _repeated(indices: Iterable[int]) -> Iterator[int]:
    """The places of items that occurred before."""
    seen = set[int]()
    for place, index in enumerate(indices):
        if index in seen:
            yield place
        seen.add(index)
