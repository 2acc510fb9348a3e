"""`edit.json`: what a job's clips show and say, as a document that people and programs may change.

SELECT writes revision 1, and RENDER draws what the document says. Each field is honoured; there is none that
has no effect.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from infra.untrusted_text import JOINERS, WORD_BREAK, harmless
from tasks.core.appearance import FramingName, Position, PresetName, Ratio
from tasks.core.edl import EdlClip
from tasks.core.object_keys import digest
from tasks.core.picture.framing_choice import AUTOMATIC, Crop, Fit, Framing, People, Screen
from tasks.core.request import ClipRequest
from tasks.core.transcript import Segment, Word

VERSION = 1
"""Version of the format. A field that is added raises it only if a reader of the old format would draw wrongly."""
MAX_CLIPS, MAX_SEGMENTS, MAX_WORDS = 10, 30, 5000
"""Most clips in a document, segments in a clip, and words in one of a clip's lists."""
EDIT_BYTES = 1024 * 1024
"""Largest document."""
_FRAMINGS: dict[FramingName, Framing] = {
    "auto": AUTOMATIC,
    "fit": Fit(kind="fit"),
    "centre": Crop(kind="crop", at=0.5),
    "split": People(kind="people"),
    "screen": Screen(kind="screen"),
}


def _is_null(value: object) -> bool:
    """Whether a field may be left out, so that documents from before it was added stay the same."""
    return value is None


def _is_off(value: bool) -> bool:
    """The same, for a switch."""
    return not value


def _text(text: str) -> str:
    """The text, composed (NFC).

    Raises:
        PydanticCustomError: it has a character that is not drawn, such as a control character or a direction mark.
    """
    composed = unicodedata.normalize("NFC", text)
    for character in composed:
        if harmless(character, JOINERS + WORD_BREAK) != character:
            raise PydanticCustomError("text", "must not contain U+{code}", {"code": f"{ord(character):04X}"})
    return composed


def _spoken(text: str) -> str:
    """The text of a word; see `_text`. Captions draw it, so it must be visible and cannot hold their commands."""
    word = " ".join(_text(text).split())
    if not word.strip(JOINERS + WORD_BREAK + " "):
        raise PydanticCustomError("text", "must not be empty; to leave a word out, name it in hidden or removed")
    if found := next((c for c in word if c in "{}\\"), None):
        raise PydanticCustomError("text", "must not contain {character}", {"character": found})
    return word


Text = Annotated[str, AfterValidator(_text)]
Spoken = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_spoken)]
Hashtag = Annotated[str, Field(max_length=100), AfterValidator(_text)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Index = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class EditSource(_Part):
    """What the document was written for. It fits no other source, because words are named by index."""

    video: Sha256 = Field(description="SHA-256 of the source's video.")
    words: Sha256 = Field(description="SHA-256 of the transcript's words and their times.")


class EditSegment(_Part):
    """A part of the source, in seconds from its start."""

    start: Seconds = Field(description="Where it begins, in seconds from the start of the source.")
    end: Seconds = Field(description="Where it ends.")
    framing: Framing = Field(default=AUTOMATIC, description="What of the source's picture is shown.")


class CorrectedWord(_Part):
    """A word that captions and subtitles write differently than the transcript."""

    index: Index = Field(description="The word: its place among all words of `transcript.json`, counted from 0.")
    text: Spoken = Field(description="What is written instead.")


class EditWords(_Part):
    """Changes of the words said in a clip. Words outside its segments may be named, and then have no effect."""

    corrected: list[CorrectedWord] = Field(
        default_factory=list[CorrectedWord],
        max_length=MAX_WORDS,
        description="Words written differently, in captions and subtitles.",
    )
    hidden: list[Index] = Field(
        default_factory=list[Index],
        max_length=MAX_WORDS,
        description="Words that are heard and in the subtitles, but not in the captions.",
    )
    removed: list[Index] = Field(
        default_factory=list[Index],
        max_length=MAX_WORDS,
        description="Words that are cut out, with their sound and picture.",
    )

    def corrections(self) -> dict[int, str]:
        """The new text by the word's index."""
        return {word.index: word.text for word in self.corrected}


class EditCaptions(_Part):
    """The captions in the picture."""

    shown: bool = Field(default=True, description="Whether there are any. Subtitle files are written in any case.")
    preset: PresetName = Field(
        default="classic", exclude_if=lambda name: name == "classic", description="How they look."
    )
    position: Position | None = Field(
        default=None, exclude_if=_is_null, description="Where they are; null is the preset's own position."
    )


class EditClip(_Part):
    """A clip. Its place in the list gives its file its number: the first is `clip_01.mp4`."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", description="Names the clip in every revision.")
    title: Text = Field(default="", max_length=200, description="Shown on the page; names a downloaded file.")
    hook: Text = Field(default="", max_length=300, description="One line that makes people stay; for the post.")
    description: Text = Field(default="", max_length=2000, description="For the post.")
    hashtags: list[Hashtag] = Field(
        default_factory=list[Hashtag], max_length=30, description="For the post, without #."
    )
    segments: list[EditSegment] = Field(
        min_length=1, max_length=MAX_SEGMENTS, description="Parts of the source, in playing order."
    )
    words: EditWords = Field(default=EditWords(), description="Changes of the words said.")
    ratio: Ratio | None = Field(
        default=None, description="Width to height of the picture; null is that of RENDER_RESOLUTION."
    )
    captions: EditCaptions = Field(default=EditCaptions(), description="The captions in the picture.")
    hook_overlay: bool = Field(
        default=False, exclude_if=_is_off, description="Whether the hook is shown as a card over the first seconds."
    )
    tighten: bool = Field(
        default=False,
        exclude_if=_is_off,
        description="Whether pauses over 0.6 s, filler words, and words said twice by mistake are cut out, with their "
        "sound and picture.",
    )


class EditDocument(_Part):
    """What a job's clips show and say. RENDER draws it; `edl.json` is derived from it."""

    version: int = Field(ge=VERSION, le=VERSION, description="Version of this format.")
    revision: int = Field(ge=1, le=1_000_000, description="1 is SELECT's; every change counts one more.")
    source: EditSource = Field(description="What the document was written for.")
    clips: list[EditClip] = Field(min_length=1, max_length=MAX_CLIPS, description="The clips, in order.")


def edit_schema() -> dict[str, Any]:
    """The JSON Schema of a document. What it cannot say, `tasks.core.edit.faults` checks."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **EditDocument.model_json_schema()}


def transcript_words(segments: Sequence[Segment]) -> list[Word]:
    """The words that a document names by index, as `transcript.json` has them."""
    return [word for segment in segments for word in segment.words]


def words_digest(words: Sequence[Word]) -> str:
    """SHA-256 of the words and their times, 64 hex digits."""
    return digest("words", [(word.word, word.start, word.end) for word in words])


def writable(texts: Mapping[int, str]) -> dict[int, str]:
    """The texts that a document can have for words, by their place among all words."""
    found: dict[int, str] = {}
    for index, text in texts.items():
        with suppress(ValidationError):
            found[index] = CorrectedWord(index=index, text=text).text
    return found


def _corrected_words(texts: Mapping[int, str]) -> EditWords:
    return EditWords(corrected=[CorrectedWord(index=index, text=text) for index, text in sorted(texts.items())])


def first_revision(
    clips: Sequence[EdlClip],
    video: str,
    words: Sequence[Word],
    request: ClipRequest | None = None,
    corrected: Sequence[Mapping[int, str]] = (),
) -> EditDocument:
    """Revision 1: SELECT's clips, with the looks that the request asks for.

    Args:
        video: SHA-256 of the source's video.
        corrected: for each clip, the new text of words by their place; may be empty if there is none.
    """
    framing = _FRAMINGS[(request and request.framing) or "auto"]
    return EditDocument(
        version=VERSION,
        revision=1,
        source=EditSource(video=video, words=words_digest(words)),
        clips=[
            EditClip(
                id=f"clip-{clip.index}",
                title=clip.title,
                hook=clip.hook,
                description=clip.description,
                hashtags=clip.hashtags,
                segments=[EditSegment(start=span.start, end=span.end, framing=framing) for span in clip.segments],
                words=_corrected_words(corrected[i] if corrected else {}),
                ratio=request.ratio if request else None,
                captions=EditCaptions(preset=(request and request.caption_preset) or "classic"),
                tighten=bool(request and request.tighten),
            )
            for i, clip in enumerate(clips)
        ],
    )
