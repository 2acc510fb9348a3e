"""Every setting: typed, described, bounded; read when asked, never at import.

The environment is the only source. `Settings()` raises `ConfigError` through `load()`,
one line that names each variable that is malformed.
"""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from infra.errors import ConfigError


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "kangklip"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(case_sensitive=False, extra="ignore", env_ignore_empty=True, frozen=True)

    # Where things are kept.
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        validation_alias="KANGKLIP_DATA_DIR",
        description="Folder of the embedded stack and of files in work.",
    )
    redis_url: SecretStr | None = Field(default=None, description="Redis that holds the jobs; embedded when empty.")
    r2_endpoint: str | None = Field(
        default=None, pattern=r"^https?://", description="S3 endpoint of the bucket; embedded when empty."
    )
    r2_bucket: str = Field(default="clips", min_length=3, max_length=63, description="Bucket name.")
    r2_access_key_id: SecretStr | None = Field(default=None, description="Key id for the bucket.")
    r2_secret_access_key: SecretStr | None = Field(default=None, description="Secret for the bucket.")
    prefect_api_url: str | None = Field(
        default=None, pattern=r"^https?://", description="Prefect server; embedded when empty."
    )
    job_ttl_seconds: int = Field(
        default=30 * 86400, ge=3600, le=366 * 86400, description="How long Redis remembers a job."
    )

    # Reports by HTTP.
    callback_url: str | None = Field(
        default=None, pattern=r"^https?://", description="Address that gets progress by POST; none when empty."
    )
    callback_token: SecretStr | None = Field(default=None, description="Sent as x-callback-token with each report.")

    # What may come in.
    max_source_seconds: int = Field(default=4 * 3600, ge=10, le=24 * 3600, description="Longest source in seconds.")
    max_source_bytes: int = Field(
        default=8 * 1024**3, ge=1024**2, le=64 * 1024**3, description="Largest source in bytes."
    )
    allow_private_addresses: bool = Field(
        default=False,
        description="Development only: let video_url name loopback and private addresses.",
    )
    ytdlp_cookies_file: Path | None = Field(
        default=None, description="Netscape cookie file for sites that ask for a sign-in."
    )
    download_timeout_seconds: int = Field(default=1800, ge=10, le=24 * 3600, description="Longest download.")

    # Speech.
    asr_model: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9._/-]+$",
        description="Whisper model or a folder that holds one; small on a GPU, base on a CPU when empty.",
    )
    asr_device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu or cuda.")
    asr_beam_size: int = Field(default=1, ge=1, le=10, description="Beam width of the recogniser; 1 is greedy.")
    asr_batch_size: int | None = Field(
        default=None, ge=1, le=64, description="Windows decoded at once; by free memory when empty."
    )

    # The LLM that may rerank and write titles.
    llm_model_name: str | None = Field(default=None, description="Model; selection runs without an LLM when empty.")
    llm_api_base: str | None = Field(default=None, pattern=r"^https?://", description="Base address of the LLM.")
    llm_api_key: SecretStr | None = Field(default=None, description="Key for the LLM.")
    llm_timeout_seconds: float = Field(default=20, ge=1, le=600, description="Longest wait for one LLM answer.")

    # The picture.
    render_resolution: str = Field(
        default="1080x1920",
        pattern=r"^[1-9]\d{1,2}[02468]x[1-9]\d{1,2}[02468]$",
        description="Size of the clips, width x height, even.",
    )
    render_max_fps: float = Field(default=30, ge=1, le=120, description="Highest frame rate of the clips.")
    render_crf: int = Field(default=20, ge=0, le=51, description="x264 quality; lower is better and larger.")
    render_preset: str = Field(
        default="veryfast",
        pattern=r"^(ultrafast|superfast|veryfast|faster|fast|medium|slow|slower|veryslow)$",
        description="x264 preset.",
    )
    render_encoder: Literal["auto", "x264", "nvenc"] = Field(
        default="auto", description="auto tries one real frame on NVENC."
    )
    render_parallel: int | None = Field(
        default=None, ge=1, le=16, description="Clips rendered at once; by cores when empty."
    )

    @property
    def render_size(self) -> tuple[int, int]:
        """Width and height of the clips in pixels."""
        width, height = self.render_resolution.split("x")
        return int(width), int(height)


def load() -> Settings:
    """Read the environment now.

    Raises:
        ConfigError: naming every malformed variable; values are not repeated, they may be secrets.
    """
    try:
        return Settings()
    except ValidationError as error:
        faults = "; ".join(f"{str(e['loc'][0]).upper()}: {e['msg']}" for e in error.errors(include_input=False))
        raise ConfigError(f"Malformed setting: {faults}") from None


def as_markdown() -> str:
    """The settings as a table for the README: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or name.upper())
        default = "" if field.default is None or field.default_factory else f"`{field.default}`"
        rows.append(f"| `{variable}` | {default} | {field.description} |")
    return "\n".join(rows)
