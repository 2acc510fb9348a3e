"""Every setting: typed, described and bounded; read on request, never at import.

The environment is the only source. `load()` turns the validation errors of `Settings()` into one
`ConfigError`, one line that names each malformed variable.
"""

import hashlib
import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.errors import ConfigError
from infra.validation import faults


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "kangklip"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(case_sensitive=False, extra="ignore", env_ignore_empty=True, frozen=True)

    # Where things are kept.
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        validation_alias="KANGKLIP_DATA_DIR",
        description="Folder for the embedded servers' data, weights and working files.",
    )
    redis_url: SecretStr | None = Field(default=None, description="Redis that holds the jobs; embedded when empty.")
    r2_endpoint: str | None = Field(
        examples=["https://ACCOUNT.r2.cloudflarestorage.com"],
        default=None,
        pattern=r"^https?://",
        description="S3 endpoint of the bucket; embedded when empty.",
    )
    r2_bucket: str = Field(examples=["clips"], default="clips", min_length=3, max_length=63, description="Bucket name.")
    r2_access_key_id: SecretStr | None = Field(default=None, description="Key id for the bucket.")
    r2_secret_access_key: SecretStr | None = Field(default=None, description="Secret for the bucket.")
    prefect_api_url: str | None = Field(
        examples=["http://127.0.0.1:4200/api"],
        default=None,
        pattern=r"^https?://",
        description="Prefect server; embedded when empty.",
    )
    job_ttl_seconds: int = Field(
        default=30 * 86400, ge=3600, le=366 * 86400, description="How long Redis remembers a job, in seconds."
    )

    max_attempts: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="How many times a job is retried automatically after its run was lost.",
    )

    # The API.
    host: str = Field(default="127.0.0.1", min_length=1, description="Address on which the API listens.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port of the API.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("http://localhost:3000", "http://127.0.0.1:3000"),
        description="Pages on other hosts that may use the API, separated by commas.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of proxies whose X-Forwarded-For is believed; none when empty.",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="Keys separated by commas, each KEY or NAME:KEY; creating a job needs one. Open when empty.",
    )
    operator_key: SecretStr | None = Field(
        default=None, description="Key that sees and changes all jobs; there is none when empty."
    )
    create_rate_per_minute: int = Field(
        default=30, ge=0, le=100_000, description="Jobs that one client may create in a minute; 0 is no limit."
    )
    max_queued: int = Field(
        default=1000, ge=0, le=1_000_000, description="Jobs of all clients that may wait at once; 0 is no limit."
    )
    max_queued_per_key: int = Field(
        default=100, ge=0, le=1_000_000, description="Jobs of one client that may wait at once; 0 is no limit."
    )
    max_event_streams: int = Field(
        default=32, ge=1, le=1000, description="Event streams that one client may have open at once."
    )
    deployment: str = Field(
        examples=["clip/local"],
        default="clip/local",
        pattern=r"^[^/]+/[^/]+$",
        description="Prefect deployment that runs jobs of the API.",
    )

    # Reports by HTTP.
    callback_url: str | None = Field(
        examples=["https://example.org/callback"],
        default=None,
        pattern=r"^https?://",
        description="Address that progress is POSTed to; none when empty.",
    )
    callback_token: SecretStr | None = Field(
        default=None,
        description="Sent as x-callback-token with each report; the API takes two, separated by a comma.",
    )
    notify_url: SecretStr | None = Field(
        default=None,
        description="Webhook that is told of failed runs once `kangklip deploy` has registered it; a secret.",
    )

    # Nosana, and what a container there is given in place of secrets.
    nosana_api_base: str = Field(
        examples=["https://dashboard.k8s.prd.nos.ci/api"],
        default="https://dashboard.k8s.prd.nos.ci/api",
        pattern=r"^https?://",
        description="Nosana's deployments API.",
    )
    nosana_api_key: SecretStr | None = Field(
        default=None, description="Key for Nosana; only the Nosana worker needs it."
    )
    nosana_worker_image: str | None = Field(
        default=None, description="Image that a Nosana host runs, as built from infra/docker/worker.Dockerfile."
    )
    nosana_market: str | None = Field(default=None, description="Address or slug of the market to rent GPUs on.")
    callback_base_url: str | None = Field(
        examples=["https://clips.example.org"],
        default=None,
        pattern=r"^https?://",
        description="Address of this API as a container elsewhere reaches it.",
    )
    grant_secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="Signs grants; 32 characters or more, the same for the API and the Nosana worker.",
    )
    grant_llm_calls: int = Field(default=20, ge=0, le=1000, description="LLM calls that one granted run may make.")
    access: SecretStr | None = Field(
        default=None,
        validation_alias="KANGKLIP_ACCESS",
        description="What a rented container received for its grant; the container sets this itself.",
    )
    r2_account_id: str | None = Field(
        examples=["0123456789abcdef0123456789abcdef"],
        default=None,
        pattern=r"^[0-9a-f]{32}$",
        description="Cloudflare account; with R2_API_TOKEN, granted runs get temporary keys, not signed addresses.",
    )
    r2_api_token: SecretStr | None = Field(
        default=None, description="Cloudflare token that may make temporary keys for the bucket."
    )

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
    download_timeout_seconds: int = Field(default=1800, ge=10, le=24 * 3600, description="Longest download in seconds.")

    # Speech.
    asr_model: str | None = Field(
        examples=["small"],
        default=None,
        pattern=r"^[A-Za-z0-9._/-]+$",
        description="Whisper model or a folder that holds one; small on a GPU, base on a CPU when empty.",
    )
    asr_device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto, cpu or cuda.")
    asr_beam_size: int = Field(default=1, ge=1, le=10, description="Beam width of the recogniser; 1 is greedy.")
    asr_batch_size: int | None = Field(
        default=None, ge=1, le=64, description="Windows decoded at once; chosen by free memory when empty."
    )

    # The LLM that may rerank and write titles.
    llm_model_name: str | None = Field(default=None, description="Model; selection runs without an LLM when empty.")
    llm_api_base: str | None = Field(
        examples=["https://api.openai.com/v1"],
        default=None,
        pattern=r"^https?://",
        description="Base address of the LLM.",
    )
    llm_api_key: SecretStr | None = Field(default=None, description="Key for the LLM.")
    llm_timeout_seconds: float = Field(
        default=20, ge=1, le=600, description="Longest wait for one LLM answer, in seconds."
    )

    # The picture.
    render_resolution: str = Field(
        examples=["1080x1920"],
        default="1080x1920",
        pattern=r"^[1-9]\d{1,2}[02468]x[1-9]\d{1,2}[02468]$",
        description="Size of the clips, width x height, even.",
    )
    render_max_fps: float = Field(default=30, ge=1, le=120, description="Highest frame rate of the clips.")
    render_crf: int = Field(default=20, ge=0, le=51, description="x264 quality; lower is better and larger.")
    render_preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
    ] = Field(default="veryfast", description="x264 preset.")
    render_encoder: Literal["auto", "x264", "nvenc"] = Field(
        default="auto", description="auto, x264 or nvenc; auto takes NVENC if one real frame encodes there."
    )
    render_parallel: int | None = Field(
        default=None, ge=1, le=16, description="Clips rendered at once; chosen by cores when empty."
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _origins(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        return _listed(value) if isinstance(value, str) else value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        listed = _listed(value) if isinstance(value, str) else value
        for text in listed:
            try:
                ip_network(text)
            except ValueError:
                raise ValueError("takes addresses and networks such as 10.0.0.5 or 172.16.0.0/12") from None
        return listed

    @field_validator("notify_url")
    @classmethod
    def _addressed(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @property
    def callback_tokens(self) -> tuple[str, ...]:
        """Accepted callback tokens: the first is sent; another stays valid during rotation."""
        return _listed(self.callback_token.get_secret_value()) if self.callback_token else ()

    @property
    def named_api_keys(self) -> dict[str, str]:
        """Maps each API key to its name; empty if no key is required.

        An unnamed key is named after its digest, so the name stays the same when other keys are added or removed.
        """
        listed = _listed(self.api_keys.get_secret_value()) if self.api_keys else ()
        return dict(_named(entry) for entry in listed)

    @property
    def render_size(self) -> tuple[int, int]:
        """Width and height of the clips in pixels."""
        width, height = self.render_resolution.split("x")
        return int(width), int(height)


def _named(entry: str) -> tuple[str, str]:
    """Key and name from an entry of `API_KEYS`."""
    if found := re.fullmatch(r"([A-Za-z0-9_-]{1,32}):(.+)", entry):
        return found[2], found[1]
    return entry, f"key-{hashlib.sha256(entry.encode()).hexdigest()[:8]}"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def load() -> Settings:
    """Read the environment now.

    Raises:
        ConfigError: names every malformed variable, without values, which may be secrets.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError(f"Correct the environment: {faults(error, Settings, str.upper)}.") from None


def as_markdown() -> str:
    """The settings as a table for the documentation: variable, default, meaning."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or name.upper())
        plain = ",".join(cast("tuple[str, ...]", field.default)) if isinstance(field.default, tuple) else field.default
        default = "" if plain in (None, "") or field.default_factory else f"`{plain}`"
        rows.append(f"| `{variable}` | {default} | {field.description} |")
    return "\n".join(rows)
