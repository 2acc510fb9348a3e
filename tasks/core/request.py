"""The fields of a request, each defined once, and the request model that the flow takes.

The HTTP API, the container's environment and batches share these field types and narrow them where they allow less.
"""

import math
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema

from infra.untrusted_text import one_line
from tasks.core.appearance import FramingName, PresetName, Ratio
from tasks.core.languages import LANGUAGES, suggestions

T = TypeVar("T")
_HTTP_URL = TypeAdapter(Annotated[HttpUrl, Field(max_length=4096)])
SHORTEST_SHARE = 0.8
"""Shortest clip length as a share of the requested length."""
MIN_SECONDS, MAX_SECONDS, DEFAULT_SECONDS = 5, 180, 45
"""Bounds and default of the requested clip length, in seconds."""
MAX_SOURCE_SECONDS = 24 * 3600
"""Latest position in a source that a request may name."""
MAX_CLIPS, DEFAULT_CLIPS = 10, 3
DOCUMENTED_CLIPS = 5
"""Most clips that the HTTP API and the container take: existing clients rely on the refusal of more."""


def _validated_language(language: str) -> str:
    if language == "auto" or language in LANGUAGES:
        return language
    meant = " or ".join(suggestions(language))
    raise ValueError("must be auto or a Whisper code such as en" + (f"; did you mean {meant}?" if meant else ""))


Language = Annotated[
    str,
    AfterValidator(_validated_language),
    Field(
        title="Language spoken",
        description="auto, or a Whisper code such as en or id.",
        examples=["auto"],
        json_schema_extra={"enum": ["auto", *sorted(LANGUAGES)]},
    ),
]
"""A Whisper language code, or `auto`."""


def web_address(text: str | None) -> str | None:
    """The text, if it is None or an http or https address.

    Raises:
        ValueError: it is anything else.
    """
    try:
        if text is not None:
            _HTTP_URL.validate_python(text)
    except ValidationError:
        raise ValueError("must be an http or https address such as https://example.org/talk.mp4") from None
    return text


VideoUrl = Annotated[
    T,
    AfterValidator(web_address),
    Field(
        title="Video URL",
        description="Address of the video: any page that yt-dlp supports, or a media file (http or https).",
        examples=["https://example.org/talk.mp4"],
    ),
]
ClipSeconds = Annotated[
    float,
    Field(
        ge=MIN_SECONDS,
        le=MAX_SECONDS,
        title="Seconds per clip",
        description="Longest clip in seconds, 5 to 180; clips last 0.8 to 1.0 of it.",
        examples=[30],
    ),
]
ClipCount = Annotated[
    int, Field(ge=1, le=MAX_CLIPS, title="Number of clips", description="How many clips, 1 to 10.", examples=[3])
]
ShortestSeconds = Annotated[
    float,
    Field(
        ge=3,
        le=MAX_SECONDS,
        title="Shortest clip",
        description="Shortest clip in seconds, 3 to 180; if empty, 0.8 of the seconds per clip.",
        examples=[20],
    ),
]


def _form_schema(schema: dict[str, Any]) -> None:
    """Make `video_url` required in forms; only the command line can upload files."""
    schema.update(required=["video_url"], description="A video, and the number and length of clips to cut from it.")


def _address_schema(schema: dict[str, Any]) -> None:
    """Let a form validate the address."""
    optional_field(schema)
    schema.update(pattern="^https?://", maxLength=4096)


def optional_field(schema: dict[str, Any]) -> None:
    """Let a form omit an empty field instead of sending null."""
    schema.pop("default", None)


def _is_unset(value: object) -> bool:
    """Whether a field asks for nothing, so that a request without it keeps the cache keys from before it was added."""
    return not value


SourceSeconds = Annotated[float, Field(ge=0, le=MAX_SOURCE_SECONDS, allow_inf_nan=False)]
"""A position in the source, in seconds from its start."""
StartSeconds = Annotated[
    SourceSeconds | SkipJsonSchema[None],
    Field(
        title="From",
        description="Cut clips from what is said after this second of the video; if empty, from its start.",
        examples=[600],
        json_schema_extra=optional_field,
    ),
]
EndSeconds = Annotated[
    SourceSeconds | SkipJsonSchema[None],
    Field(
        title="To",
        description="Cut clips from what is said before this second of the video; if empty, up to its end.",
        examples=[1500],
        json_schema_extra=optional_field,
    ),
]


RatioChoice = Annotated[
    Ratio | SkipJsonSchema[None],
    Field(
        title="Ratio",
        description="Width to height of the clips; if empty, that of RENDER_RESOLUTION.",
        examples=["9:16"],
        exclude_if=_is_unset,
        json_schema_extra=optional_field,
    ),
]
PresetChoice = Annotated[
    PresetName | SkipJsonSchema[None],
    Field(
        title="Captions",
        description="How the captions look; if empty, classic.",
        examples=["punch"],
        exclude_if=_is_unset,
        json_schema_extra=optional_field,
    ),
]
FramingChoice = Annotated[
    FramingName | SkipJsonSchema[None],
    Field(
        title="Framing",
        description="What of the picture is shown: auto follows faces and speakers, fit shows all of it, centre its "
        "middle, split two people one above the other, screen the whole picture above a large face; if empty, auto.",
        examples=["auto"],
        exclude_if=_is_unset,
        json_schema_extra=optional_field,
    ),
]
TightenChoice = Annotated[
    bool | SkipJsonSchema[None],
    Field(
        title="Tighten",
        description="Cut pauses over 0.6 s, filler words, and words said twice by mistake out of the clips.",
        exclude_if=_is_unset,
        json_schema_extra=optional_field,
    ),
]


def _one_sentence(text: str | None) -> str | None:
    """The text on one line without invisible characters, or None if nothing is left."""
    return (" ".join(one_line(text).split()) or None) if text else None


TopicChoice = Annotated[
    Annotated[str, Field(max_length=200)] | SkipJsonSchema[None],
    Field(
        title="Topic",
        description="What the clips shall be about: some words or a sentence; if empty, anything.",
        examples=["how the piano was found"],
        exclude_if=_is_unset,
        json_schema_extra=optional_field,
    ),
    AfterValidator(_one_sentence),
]


class ClipRequest(BaseModel):
    """A video, and the number and length of clips to cut from it.

    Exactly one of `video_url` and `source_key` names the video. The HTTP API allows only 30 to 60 seconds per
    clip; the command line and the flow allow 5 to 180.

    The JSON schema is for forms: it requires `video_url` and hides the fields that only our own code sets.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_extra=_form_schema)

    video_url: VideoUrl[str | SkipJsonSchema[None]] = Field(default=None, json_schema_extra=_address_schema)
    source_key: SkipJsonSchema[str | None] = Field(
        default=None,
        pattern=r"^cache/uploads/[0-9a-f]{64}$",
        description="Bucket key of a file uploaded by the command line; replaces video_url.",
    )
    source_name: SkipJsonSchema[str] = Field(
        default="", max_length=255, description="Original name of an uploaded file."
    )
    clip_duration_seconds: ClipSeconds = DEFAULT_SECONDS
    clip_count: ClipCount = DEFAULT_CLIPS
    language: Language = "auto"
    min_clip_seconds: ShortestSeconds | SkipJsonSchema[None] = Field(default=None, json_schema_extra=optional_field)

    start_seconds: StartSeconds = None
    end_seconds: EndSeconds = None
    ratio: RatioChoice = None
    caption_preset: PresetChoice = None
    framing: FramingChoice = None
    tighten: TightenChoice = None
    topic: TopicChoice = None

    @model_validator(mode="after")
    def _one_source(self) -> "ClipRequest":
        if self.video_url is None and self.source_key is None:
            raise ValueError("video_url is required")
        if self.video_url is not None and self.source_key is not None:
            raise ValueError("give video_url or source_key, not both")
        if self.min_clip_seconds is not None and self.min_clip_seconds > self.clip_duration_seconds:
            raise ValueError("min_clip_seconds must not exceed clip_duration_seconds")
        if self.end_seconds is not None and self.end_seconds < self.part[0] + self.bounds[0]:
            raise ValueError(f"end_seconds must be at least {self.bounds[0]:g} seconds after start_seconds")
        return self

    @property
    def part(self) -> tuple[float, float]:
        """The part of the source that clips may come from, in seconds; open ends are 0 and infinity."""
        return (self.start_seconds or 0.0, math.inf if self.end_seconds is None else self.end_seconds)

    @property
    def bounds(self) -> tuple[float, float]:
        """Shortest and longest clip in seconds."""
        longest = self.clip_duration_seconds
        return (self.min_clip_seconds or SHORTEST_SHARE * longest, longest)
