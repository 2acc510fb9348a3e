"""Derive from a document what is drawn, and `edl.json`."""

from collections.abc import Iterable, Sequence
from typing import Any

from pydantic import BaseModel, Field

from tasks.core.appearance import Ratio
from tasks.core.captions.presets import PRESETS, Look
from tasks.core.edit.cuts import SourceWords, played
from tasks.core.edit.document import EditCaptions, EditClip, EditDocument, EditWords, first_revision
from tasks.core.edl import EdlClip, Span
from tasks.core.picture.framing_choice import AUTOMATIC, Framing
from tasks.core.picture.said import Said, Turn, turns
from tasks.core.request import ClipRequest
from tasks.core.speech.sentences import join, ordered_words, sentence_starts
from tasks.core.transcript import Segment, Speech, Word


class DrawnWord(Word):
    """A word that is heard in a clip. `hidden` keeps it out of the captions."""

    hidden: bool = False


class Drawing(BaseModel):
    """Everything that decides how a clip looks and sounds, except the source and the settings.

    `words` are on the clip's clock, in playing order; `language` (Whisper's code) is theirs. `framing` has one item
    for each of the clip's segments. `card` is shown over the first seconds.
    """

    clip: EdlClip
    words: list[DrawnWord] = Field(default_factory=list[DrawnWord])
    language: str = ""
    framing: list[Framing] = Field(default_factory=list[Framing])
    ratio: Ratio | None = None
    captions: EditCaptions = EditCaptions()
    card: str = Field(default="", exclude_if=lambda text: not text)

    @property
    def content(self) -> dict[str, Any]:
        """What decides how the clip looks and sounds, as JSON types. Its number, title and score do not."""
        drawn = self.model_dump(mode="json", exclude={"clip"})
        return drawn | {"segments": [(span.start, span.end) for span in self.clip.segments]}

    @property
    def look(self) -> Look:
        return Look(PRESETS[self.captions.preset], self.captions.position)

    @property
    def said(self) -> list[Said]:
        """What is said in each of the clip's segments, in seconds of the source."""
        starts, begin = sentence_starts(self.words), 0.0
        found: list[Said] = []
        for span in self.clip.segments:
            end, shift = begin + span.duration, span.start - begin
            heard = [word for word in self.words if begin <= word.middle < end]
            shifted = [Turn(turn.speaker, turn.start + shift, turn.end + shift) for turn in turns(heard)]
            found.append(Said([t + shift for t in starts if begin <= t < end], shifted))
            begin = end
        return found

    @property
    def captioned(self) -> list[DrawnWord]:
        """The words that captions show."""
        return [word for word in self.words if not word.hidden] if self.captions.shown else []


def plain_drawing(clip: EdlClip, speech: Speech) -> Drawing:
    """A clip that nobody has edited."""
    source = SourceWords.of(speech)
    return Drawing(
        clip=clip,
        words=_heard(clip, source, EditWords()),
        language=_language(clip, speech),
        framing=[AUTOMATIC] * len(clip.segments),
    )


def asked_drawing(clip: EdlClip, speech: Speech, request: ClipRequest) -> Drawing:
    """A clip that nobody has edited, with the looks that the request asks for."""
    # Only its clip counts: the digests of a document are for those who edit it.
    document = first_revision([clip], "0" * 64, [], request)
    (derived,) = derived_edl(document, [clip], speech)
    (drawing,) = drawings(document, [derived.model_copy(update={"index": clip.index})], speech)
    return drawing


def drawings(document: EditDocument, edl: Sequence[EdlClip], speech: Speech) -> list[Drawing]:
    """The document's clips as they are drawn. `edl` is derived from the same document."""
    source = SourceWords.of(speech)
    return [
        Drawing(
            clip=clip,
            words=_heard(clip, source, edit.words),
            language=_language(clip, speech),
            framing=[
                part.framing for part in played(edit.segments, set(edit.words.removed), source, tight=edit.tighten)
            ],
            ratio=edit.ratio,
            captions=edit.captions,
            card=edit.hook if edit.hook_overlay else "",
        )
        for edit, clip in zip(document.clips, edl, strict=True)
    ]


def derived_edl(document: EditDocument, chosen: Sequence[EdlClip], speech: Speech) -> list[EdlClip]:
    """The document's clips as `edl.json` has them.

    `chosen` are the clips from which the document was written; score, signals and reason are theirs.
    """
    source = SourceWords.of(speech)
    return [
        _edl_clip(index, edit, clip, source, speech)
        for index, (edit, clip) in enumerate(zip(document.clips, chosen, strict=True), start=1)
    ]


def _edl_clip(index: int, edit: EditClip, chosen: EdlClip, source: SourceWords, speech: Speech) -> EdlClip:
    corrections = edit.words.corrections()
    spans = [
        (part.start, part.end) for part in played(edit.segments, set(edit.words.removed), source, tight=edit.tighten)
    ]
    known = {} if corrections else {(span.start, span.end): span.text for span in chosen.segments}
    if not known.keys() >= set(spans):
        known |= _texts(spans, _corrected(speech.segments, corrections))
    return chosen.model_copy(
        update={
            "index": index,
            "title": edit.title,
            "hook": edit.hook,
            "description": edit.description,
            "hashtags": edit.hashtags,
            "segments": [Span(start=start, end=end, text=known[start, end]) for start, end in spans],
        }
    )


def _texts(spans: Iterable[tuple[float, float]], segments: list[Segment]) -> dict[tuple[float, float], str]:
    """What is said in each span."""
    words = ordered_words(segments)
    return {(a, b): join(word.word for word in words if a <= word.middle < b) for a, b in spans}


def _corrected(segments: Sequence[Segment], corrections: dict[int, str]) -> list[Segment]:
    """The transcript with some words replaced, by their index among all words."""
    first, result = 0, list[Segment]()
    for segment in segments:
        words = [
            word.model_copy(update={"word": corrections.get(first + i, word.word)})
            for i, word in enumerate(segment.words)
        ]
        result.append(segment.model_copy(update={"words": words}))
        first += len(words)
    return result


def _language(clip: EdlClip, speech: Speech) -> str:
    return speech.language_of((span.start, span.end) for span in clip.segments)


def _heard(clip: EdlClip, source: SourceWords, changes: EditWords) -> list[DrawnWord]:
    """The words in the clip's segments, in playing order, in seconds on the clip's clock."""
    corrections, hidden = changes.corrections(), set(changes.hidden)
    heard: list[DrawnWord] = []
    elapsed = 0.0
    for span in clip.segments:
        for index in source.inside(span.start, span.end):
            word = source.words[index]
            start = max(word.start, span.start) - span.start + elapsed
            end = min(word.end, span.end) - span.start + elapsed
            text = corrections.get(index, word.word)
            heard.append(
                DrawnWord(word=text, start=start, end=max(end, start), speaker=word.speaker, hidden=index in hidden)
            )
        elapsed += span.duration
    return heard
