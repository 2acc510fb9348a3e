"""What a user asks for."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter, field_validator, model_validator

from tasks.core.keys import JOB_ID
from tasks.core.languages import LANGUAGES

_HTTP_URL = TypeAdapter(Annotated[HttpUrl, Field(max_length=4096)])
JobId = Annotated[str, Field(pattern=JOB_ID.pattern)]
SHORTEST_SHARE = 0.8
"""A clip is at least this share of the asked seconds, and at most all of them."""


class ClipRequest(BaseModel):
    """One video, and how many clips of which length to cut from it.

    Exactly one of `video_url` and `source_key` names the video. The HTTP API narrows
    the length to 30 to 60 seconds; the command line and the flow allow 5 to 180.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    video_url: str | None = Field(
        default=None, description="Address of the video: any page that yt-dlp reads, or a media file (http or https)."
    )
    source_key: str | None = Field(
        default=None,
        pattern=r"^cache/uploads/[0-9a-f]{64}$",
        description="Bucket key of a file that was registered by the command line, instead of video_url.",
    )
    source_name: str = Field(default="", max_length=255, description="What the owner calls a registered file.")
    clip_duration_seconds: float = Field(
        default=45, ge=5, le=180, description="Asked length of each clip in seconds; clips are 0.8 to 1.0 of it."
    )
    clip_count: int = Field(default=3, ge=1, le=5, description="How many clips.")
    language: str = Field(
        default="auto",
        pattern=r"^(auto|[a-z]{2,3})$",
        description="Language spoken: auto, or a Whisper code such as en or id.",
    )
    min_clip_seconds: float | None = Field(
        default=None, ge=3, le=180, description="Shortest clip in seconds; default 0.8 of the asked length."
    )

    @field_validator("language")
    @classmethod
    def _known(cls, language: str) -> str:
        if language != "auto" and language not in LANGUAGES:
            raise ValueError(f"Whisper does not know the language {language}")
        return language

    @model_validator(mode="after")
    def _one_source(self) -> "ClipRequest":
        if (self.video_url is None) == (self.source_key is None):
            raise ValueError("give either video_url or source_key")
        if self.video_url is not None:
            _HTTP_URL.validate_python(self.video_url)
        if self.min_clip_seconds is not None and self.min_clip_seconds > self.clip_duration_seconds:
            raise ValueError("min_clip_seconds must not exceed clip_duration_seconds")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Shortest and longest clip in seconds."""
        longest = self.clip_duration_seconds
        return (self.min_clip_seconds or SHORTEST_SHARE * longest, longest)
