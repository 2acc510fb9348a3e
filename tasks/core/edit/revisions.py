"""Revisions of a job's document: what the first one published, and what a later one changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from tasks.core.edit.document import EditClip, EditDocument, EditSegment
from tasks.core.edit.drawing import Drawing, derived_edl, drawings
from tasks.core.edl import EdlClip
from tasks.core.object_keys import digest
from tasks.core.transcript import Speech


def published(document: EditDocument, derived: Sequence[EdlClip], shown: Sequence[EdlClip]) -> EditDocument:
    """The document of the clips that a job has published, in their order.

    UPLOAD drops clips of SELECT's document that fail a check, and puts spare ones in their place.

    Args:
        document: SELECT's document.
        derived: the document's clips, as `edl.json` has them.
        shown: the published clips, as the manifest has them; an index says which of the document's it is or replaces.
    """
    written = {clip.index: (edit, clip) for edit, clip in zip(document.clips, derived, strict=True)}
    return document.model_copy(update={"clips": [_published_clip(*written[clip.index], clip) for clip in shown]})


_SAID = {"id", "title", "hook", "description", "hashtags", "segments", "words"}
_LOOKS = sorted(EditClip.model_fields.keys() - _SAID)
"""Fields that do not depend on what is said."""


def _published_clip(edit: EditClip, derived: EdlClip, shown: EdlClip) -> EditClip:
    """The clip as it was written, or the spare one in its place, which looks alike."""
    if shown.segments == derived.segments:
        return edit
    framing = edit.segments[0].framing
    return EditClip(
        id=edit.id,
        title=shown.title,
        hook=shown.hook,
        description=shown.description,
        hashtags=shown.hashtags,
        segments=[EditSegment(start=span.start, end=span.end, framing=framing) for span in shown.segments],
        **{name: getattr(edit, name) for name in _LOOKS},
    )


@dataclass(frozen=True)
class RevisedClip:
    """A clip of a new revision. `kept` is the place of a clip of the revision before that looks and sounds the same.

    If there is none, it must be drawn.
    """

    drawing: Drawing
    kept: int | None

    @property
    def clip(self) -> EdlClip:
        return self.drawing.clip


def revised_clips(
    document: EditDocument, before: EditDocument, shown: Sequence[EdlClip], speech: Speech
) -> list[RevisedClip]:
    """The clips of a new revision.

    Args:
        before: the document of the published revision.
        shown: its clips, as the manifest has them.
    """
    known = {edit.id: clip for edit, clip in zip(before.clips, shown, strict=True)}
    chosen = [known.get(edit.id) or EdlClip(index=1, title="", hook="", segments=[]) for edit in document.clips]
    drawn = drawings(document, derived_edl(document, chosen, speech), speech)
    places = {digest(drawing.content): place for place, drawing in enumerate(drawings(before, shown, speech))}
    return [RevisedClip(drawing, places.get(digest(drawing.content))) for drawing in drawn]


def merged(target: object, patch: object) -> object:
    """The target, changed by a JSON merge patch (RFC 7396): null removes a field, and lists are replaced."""
    if not isinstance(patch, dict):
        return patch
    result = dict(cast("dict[str, object]", target)) if isinstance(target, dict) else {}
    for name, value in cast("dict[str, object]", patch).items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
