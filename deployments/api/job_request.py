"""The body of POST /api/jobs: its fields, their bounds, and the contract's error text for each."""

import difflib
import re
from http import HTTPStatus
from typing import Annotated, Any, get_args

from fastapi import HTTPException
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_serializer,
    field_validator,
)

from infra.untrusted_text import one_line
from tasks.core.appearance import FramingName, PresetName, Ratio
from tasks.core.errors import ClipError
from tasks.core.languages import LANGUAGES
from tasks.core.object_keys import digest
from tasks.core.request import (
    DOCUMENTED_CLIPS,
    SHORTEST_SHARE,
    ClipCount,
    ClipSeconds,
    EndSeconds,
    FramingChoice,
    Language,
    PresetChoice,
    RatioChoice,
    StartSeconds,
    TightenChoice,
    TopicChoice,
    VideoUrl,
    web_address,
)
from tasks.core.source.addresses import check_url

MIN_SECONDS, MAX_SECONDS = 30, 60
"""The API's bounds on a clip, in seconds. The flow and the command line allow a wider range."""
MAX_WARNINGS = 10
_INVALID = {
    "video_url": "must be a valid URL",
    "clip_duration_seconds": f"must be between {MIN_SECONDS} and {MAX_SECONDS}",
    "clip_count": f"must be between 1 and {DOCUMENTED_CLIPS}",
    "language": "must be en, id, or auto",
    "start_seconds": "must be a number of seconds from 0",
    "end_seconds": "must be a number of seconds, at least a clip's length after start_seconds",
    "ratio": f"must be {' or '.join(get_args(Ratio))}",
    "caption_preset": f"must be {' or '.join(get_args(PresetName))}",
    "framing": f"must be {' or '.join(get_args(FramingName))}",
    "tighten": "must be true or false",
    "topic": "must be text of at most 200 characters",
    "webhook_url": "must be a valid URL",
    "upload": "must be the id or the address of an upload",
}
TWO_SOURCES = (400, "give video_url or upload, not both")
_UPLOAD = re.compile(r"(?:\S*/api/uploads/)?([0-9a-f]{32})/?")
_MISSING = frozenset({"missing", "string_type", "float_type", "int_type"})
"""Pydantic's error types for a value that is missing or of the wrong type."""
_NULLABLE = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_EXAMPLE_URL = r"^https?://[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?(\.[a-z]{2,20}){1,3}(/[A-Za-z0-9._~-]{0,50}){0,5}$"


def _clean_url(value: Any) -> Any:
    """The address without surrounding white space, or None (missing) if it is empty.

    Spaces and control characters inside it are refused: some parsers drop them and so read a different address.
    """
    if not isinstance(value, str):
        return value
    url = value.strip()
    if not url.isprintable() or " " in url:
        raise ValueError("must be printable")
    return url if value else None


def _webhook_address(url: str | None) -> str | None:
    """The address, if a message could be sent to it: without credentials, at a web port."""
    if web_address(url) is not None:
        try:
            check_url(str(url))
        except ClipError as error:
            raise ValueError(str(error)) from None
    return url


def _upload_id(value: Any) -> str:
    found = _UPLOAD.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("must be an upload")
    return found[1]


def _number(value: Any) -> int | float | None:
    """The value if it is a JSON number, otherwise None; "30" and true are not numbers."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _number_or_null(value: Any) -> Any:
    """The value, unless it is a string or a boolean that pydantic would read as a number."""
    if value is not None and _number(value) is None:
        raise ValueError("must be a number")
    return value


def _switch_or_null(value: Any) -> Any:
    """The value, unless it is a string or a number that pydantic would read as a switch."""
    if not (value is None or isinstance(value, bool)):
        raise ValueError("must be true or false")
    return value


class JobRequest(BaseModel):
    """A video and the clips to cut from it. Unknown fields are ignored and listed in the response."""

    model_config = ConfigDict(frozen=True)

    video_url: Annotated[VideoUrl[str], BeforeValidator(_clean_url)] = Field(
        description="Address of the video (http or https).",
        examples=["https://www.youtube.com/watch?v=dQw4w9WgXcQ"],
        json_schema_extra={"pattern": _EXAMPLE_URL},
    )
    clip_duration_seconds: Annotated[
        ClipSeconds,
        Field(ge=MIN_SECONDS, le=MAX_SECONDS, description="Longest clip, in seconds.", examples=[45]),
        BeforeValidator(_number),
    ]
    clip_count: Annotated[
        ClipCount, Field(le=DOCUMENTED_CLIPS, description="Number of clips."), BeforeValidator(_number)
    ]
    language: Annotated[
        Language,
        BeforeValidator(lambda value: "auto" if value is None else value),
        WithJsonSchema(_NULLABLE),
        Field(
            description="Spoken language: auto, or a Whisper code such as en.",
            json_schema_extra={"enum": ["auto", *sorted(LANGUAGES), None]},
        ),
    ] = "auto"
    start_seconds: Annotated[StartSeconds, BeforeValidator(_number_or_null)] = None
    end_seconds: Annotated[EndSeconds, BeforeValidator(_number_or_null)] = None
    ratio: RatioChoice = None
    caption_preset: PresetChoice = None
    framing: FramingChoice = None
    tighten: Annotated[TightenChoice, BeforeValidator(_switch_or_null)] = None
    topic: TopicChoice = None
    webhook_url: Annotated[
        str | None,
        AfterValidator(_webhook_address),
        BeforeValidator(_clean_url),
        Field(
            # Not part of the request that runs get: it may hold a secret, and no run needs it.
            exclude=True,
            description="Address to which the job's end is POSTed, signed after the Standard Webhooks specification.",
            examples=["https://example.org/kangklip"],
            json_schema_extra={"pattern": _EXAMPLE_URL},
        ),
    ] = None

    @field_validator("end_seconds")
    @classmethod
    def _leaves_room_for_a_clip(cls, end: float | None, known: ValidationInfo) -> float | None:
        shortest = SHORTEST_SHARE * known.data.get("clip_duration_seconds", MIN_SECONDS)
        if end is not None and end < (known.data.get("start_seconds") or 0.0) + shortest:
            raise ValueError("must be later")
        return end

    def for_run(self) -> dict[str, Any]:
        """The request as runs get it, without optional fields that were not sent."""
        return self.model_dump(exclude_none=True)

    @property
    def fingerprint(self) -> str:
        """Tells requests apart that share an idempotency key."""
        return digest(self.for_run(), self.webhook_url) if self.webhook_url else digest(self.for_run())

    @field_serializer("clip_duration_seconds")
    def _as_sent(self, seconds: float) -> int | float:
        """Serialize 45 and 45.0 alike, so that they are the same request for an idempotency key."""
        return int(seconds) if seconds.is_integer() else seconds


class UploadJobRequest(JobRequest):
    """The same, with an uploaded file in place of the address."""

    video_url: None = Field(  # pyright: ignore[reportIncompatibleVariableOverride] nothing can set it
        default=None, exclude=True, description="Must be absent."
    )
    upload: Annotated[str, BeforeValidator(_upload_id)] = Field(
        exclude=True,
        description="A finished upload: its id, or its address as in Location.",
        examples=["5f" * 16],
        json_schema_extra={"pattern": r"^[0-9a-f]{32}$"},
    )

    @property
    def fingerprint(self) -> str:
        return digest(super().fingerprint, self.upload)


def read_request(body: dict[str, Any]) -> JobRequest:
    """The request in a body.

    Raises:
        HTTPException: 400 for the first invalid field, in the order above.
    """
    model = JobRequest if body.get("upload") is None else UploadJobRequest
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
    name = str(first["loc"][0])
    if model is UploadJobRequest and name == "video_url":
        raise HTTPException(*TWO_SOURCES)
    is_missing = first["type"] in _MISSING and model.model_fields[name].is_required()
    raise HTTPException(HTTPStatus.BAD_REQUEST, f"{name} {'is required' if is_missing else _INVALID[name]}")


def unknown_fields(body: dict[str, Any]) -> list[str]:
    """A warning for each unknown field, with the known field it resembles, if any."""
    names = [name for name in body if name not in UploadJobRequest.model_fields]
    warnings = [_unknown(name) for name in names[:MAX_WARNINGS]]
    more = len(names) - len(warnings)
    return [*warnings, f"{more} more unknown fields were ignored."] if more else warnings


def _unknown(name: str) -> str:
    shown = one_line(name, 60)
    close = difflib.get_close_matches(shown.lower(), sorted(UploadJobRequest.model_fields), n=1)
    return f'Unknown field "{shown}" was ignored' + (f"; did you mean {close[0]}?" if close else ".")
