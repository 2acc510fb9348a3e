"""All settings, with types, bounds and descriptions.

They come from the environment only. `load()` reads it on each call; nothing is read at import.
"""

import base64
import hashlib
import os
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, cast

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from infra.errors import ConfigError
from infra.validation import describe_errors


def _default_data_dir() -> Path:
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "kangklip"


SMALLEST_SIDE = 180
"""Pixels. Captions of every preset pass the checks of a clip from this size on."""


class Settings(BaseSettings):
    model_config = SettingsConfigDict(case_sensitive=False, extra="ignore", env_ignore_empty=True, frozen=True)

    # Storage and servers.
    data_dir: Path = Field(
        default_factory=_default_data_dir,
        validation_alias="KANGKLIP_DATA_DIR",
        description="Folder for the embedded servers' data, model weights and working files.",
    )
    redis_url: SecretStr | None = Field(default=None, description="Redis server for the jobs; embedded when empty.")
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
        default=30 * 86400, ge=3600, le=366 * 86400, description="How long Redis keeps a job's record, in seconds."
    )

    retention_days: int = Field(
        default=0,
        ge=0,
        le=3650,
        description="Days after which jobs, and sources and transcripts that no job has used since, are deleted; "
        "0 keeps everything. Run `kangklip deploy` after changing it.",
    )
    max_attempts: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="How many times a job is retried automatically after its run is lost.",
    )

    # The API.
    host: str = Field(default="127.0.0.1", min_length=1, description="Address on which the API listens.")
    port: int = Field(default=8000, ge=1, le=65535, description="Port of the API.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("http://localhost:3000", "http://127.0.0.1:3000"),
        description="Origins of other pages that may use the API, separated by commas.",
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(),
        description="Addresses or networks of the proxies whose X-Forwarded-For is trusted; none when empty.",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="API keys for creating jobs, separated by commas, each KEY or NAME:KEY; none needed when empty.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        validation_alias="KANGKLIP_API_KEY",
        description="API key that the command line sends to the API of another machine; none when empty.",
    )
    operator_key: SecretStr | None = Field(
        default=None, description="API key that may read and change all jobs; no such key when empty."
    )
    create_rate_per_minute: int = Field(
        default=30, ge=0, le=100_000, description="Jobs that one client may create per minute; 0 means no limit."
    )
    max_queued: int = Field(
        default=1000, ge=0, le=1_000_000, description="Most waiting jobs of all clients together; 0 means no limit."
    )
    max_queued_per_key: int = Field(
        default=100, ge=0, le=1_000_000, description="Most waiting jobs of one client; 0 means no limit."
    )
    upload_ttl_seconds: int = Field(
        default=86400,
        ge=60,
        le=7 * 86400,
        description="How long after its beginning an upload is removed, finished or not, unless a job uses its file.",
    )
    max_event_streams: int = Field(
        default=32, ge=1, le=1000, description="Event streams that one client may have open at once."
    )
    deployment: str = Field(
        examples=["clip/local"],
        default="clip/local",
        pattern=r"^[^/]+/[^/]+$",
        description="Prefect deployment that runs the API's jobs.",
    )
    recut_deployment: str | None = Field(
        examples=["recut/local"],
        default=None,
        pattern=r"^[^/]+/[^/]+$",
        description="Prefect deployment that draws changed clips; by default `recut/gpu` if a rented machine has made "
        "the job's clips, else `recut/local`.",
    )

    # Callbacks and notifications.
    callback_url: str | None = Field(
        examples=["https://example.org/callback"],
        default=None,
        pattern=r"^https?://",
        description="URL to which progress is POSTed; none when empty.",
    )
    callback_token: SecretStr | None = Field(
        default=None,
        description="Token for x-callback-token; the API accepts two, separated by a comma, and the first is sent.",
    )
    notify_url: SecretStr | None = Field(
        default=None,
        description="Webhook for failed runs, a secret; run `kangklip deploy` after changing it.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Secret that signs the webhooks of jobs: whsec_ and the base64 of 24 to 64 bytes; two, separated "
        "by a comma, during rotation; without one, webhook_url is refused.",
    )

    # Nosana, and the access that its containers get instead of secrets.
    nosana_api_base: str = Field(
        examples=["https://dashboard.k8s.prd.nos.ci/api"],
        default="https://dashboard.k8s.prd.nos.ci/api",
        pattern=r"^https?://",
        description="Nosana's deployments API.",
    )
    nosana_api_key: SecretStr | None = Field(
        default=None, description="Nosana API key; only the Nosana worker needs it."
    )
    nosana_worker_image: str | None = Field(
        default=None, description="Container image for Nosana hosts, built from infra/docker/worker.Dockerfile."
    )
    nosana_market: str | None = Field(default=None, description="Slug or address of the market to rent GPUs on.")
    callback_base_url: str | None = Field(
        examples=["https://clips.example.org"],
        default=None,
        pattern=r"^https?://",
        description="URL at which containers on other hosts reach this API.",
    )
    grant_secret: SecretStr | None = Field(
        default=None,
        min_length=32,
        description="Secret that signs grants: at least 32 characters, the same for the API and the Nosana worker.",
    )
    grant_llm_calls: int = Field(
        default=20, ge=0, le=1000, description="LLM calls that a rented machine may make for its run."
    )
    access: SecretStr | None = Field(
        default=None,
        validation_alias="KANGKLIP_ACCESS",
        description="Access that a container on a rented machine got for its grant; the container sets it itself.",
    )
    r2_account_id: str | None = Field(
        examples=["0123456789abcdef0123456789abcdef"],
        default=None,
        pattern=r"^[0-9a-f]{32}$",
        description="Cloudflare account id; with R2_API_TOKEN, rented machines get temporary keys, not signed URLs.",
    )
    r2_api_token: SecretStr | None = Field(
        default=None, description="Cloudflare API token that may create temporary keys for the bucket."
    )

    # Limits on sources.
    max_source_seconds: int = Field(default=4 * 3600, ge=10, le=24 * 3600, description="Longest source in seconds.")
    max_source_bytes: int = Field(
        default=8 * 1024**3, ge=1024**2, le=64 * 1024**3, description="Largest source in bytes."
    )
    allow_private_addresses: bool = Field(
        default=False,
        description="Development only: allow loopback and private addresses in video_url.",
    )
    ytdlp_cookies_file: Path | None = Field(
        default=None, description="Cookie file in Netscape format, for sites that require a sign-in."
    )
    download_timeout_seconds: int = Field(default=1800, ge=10, le=24 * 3600, description="Longest download in seconds.")

    # Speech.
    asr_model: str | None = Field(
        examples=["small"],
        default=None,
        pattern=r"^[A-Za-z0-9._/-]+$",
        description="Whisper model, by name or folder; when empty, small on a GPU and base on a CPU.",
    )
    asr_model_final: str | None = Field(
        examples=["medium"],
        default=None,
        pattern=r"^[A-Za-z0-9._/-]+$",
        description="Better Whisper model that hears the chosen seconds again, for captions and titles; "
        "none when empty.",
    )
    asr_device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Device for speech recognition: auto, cpu or cuda."
    )
    asr_beam_size: int = Field(default=1, ge=1, le=10, description="Beam width of speech recognition; 1 is greedy.")
    asr_batch_size: int | None = Field(
        default=None, ge=1, le=64, description="Windows decoded at once; depends on free memory when empty."
    )

    # The LLM that reranks clips and writes titles.
    llm_model_name: str | None = Field(default=None, description="LLM for selection; none is used when empty.")
    llm_api_base: str | None = Field(
        examples=["https://api.openai.com/v1"],
        default=None,
        pattern=r"^https?://",
        description="Base URL of the LLM's API.",
    )
    llm_api_key: SecretStr | None = Field(default=None, description="API key for the LLM.")
    llm_timeout_seconds: float = Field(
        default=20, ge=1, le=600, description="Longest wait for an LLM response, in seconds."
    )

    # The picture.
    render_resolution: str = Field(
        examples=["1080x1920"],
        default="1080x1920",
        pattern=r"^[1-9]\d{1,2}[02468]x[1-9]\d{1,2}[02468]$",
        description="Size of the clips in pixels, width x height, both even and at least 180.",
    )
    render_max_fps: float = Field(default=30, ge=1, le=120, description="Highest frame rate of the clips.")
    render_crf: int = Field(default=20, ge=0, le=51, description="x264 quality; lower is better, with larger files.")
    render_preset: Literal[
        "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
    ] = Field(default="veryfast", description="x264 preset.")
    render_encoder: Literal["auto", "x264", "nvenc"] = Field(
        default="auto", description="Video encoder: auto, x264 or nvenc; auto uses NVENC if it can encode a test frame."
    )
    render_parallel: int | None = Field(
        default=None, ge=1, le=16, description="Clips rendered at once; depends on the CPU cores when empty."
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        return _split_list(value) if isinstance(value, str) else value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _check_networks(cls, value: str | tuple[str, ...]) -> tuple[str, ...]:
        networks = _split_list(value) if isinstance(value, str) else value
        for text in networks:
            try:
                ip_network(text)
            except ValueError:
                raise ValueError("must list addresses or networks such as 10.0.0.5 or 172.16.0.0/12") from None
        return networks

    @field_validator("render_resolution")
    @classmethod
    def _legible(cls, size: str) -> str:
        if min(map(int, size.split("x"))) < SMALLEST_SIDE:
            raise ValueError(f"must have sides of at least {SMALLEST_SIDE} pixels: captions are illegible in less")
        return size

    @field_validator("notify_url")
    @classmethod
    def _check_notify_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value

    @field_validator("webhook_secret")
    @classmethod
    def _check_webhook_secret(cls, value: SecretStr | None) -> SecretStr | None:
        for secret in _split_list(value.get_secret_value()) if value else ():
            if not 24 <= _decoded_bytes(secret.removeprefix("whsec_")) <= 64:
                raise ValueError("must be whsec_ and the output of: openssl rand -base64 32")
        return value

    @property
    def webhook_secrets(self) -> tuple[str, ...]:
        """The secrets that sign webhooks; a message has one signature per secret."""
        return _split_list(self.webhook_secret.get_secret_value()) if self.webhook_secret else ()

    @property
    def callback_tokens(self) -> tuple[str, ...]:
        """Accepted callback tokens. The first one is sent; the second stays valid during rotation."""
        return _split_list(self.callback_token.get_secret_value()) if self.callback_token else ()

    @property
    def named_api_keys(self) -> dict[str, str]:
        """Maps each API key to its name; empty if no key is required.

        An unnamed key is named after its digest, so its name does not change when other keys are added or removed.
        """
        entries = _split_list(self.api_keys.get_secret_value()) if self.api_keys else ()
        return dict(_key_and_name(entry) for entry in entries)

    @property
    def render_size(self) -> tuple[int, int]:
        """Width and height of the clips in pixels."""
        width, height = self.render_resolution.split("x")
        return int(width), int(height)


def _key_and_name(entry: str) -> tuple[str, str]:
    """The key and its name in an entry of `API_KEYS`."""
    if found := re.fullmatch(r"([A-Za-z0-9_-]{1,32}):(.+)", entry):
        return found[2], found[1]
    return entry, f"key-{hashlib.sha256(entry.encode()).hexdigest()[:8]}"


def _decoded_bytes(text: str) -> int:
    """The number of bytes that the base64 text encodes, or 0 if it is not base64."""
    try:
        return len(base64.b64decode(text, validate=True))
    except ValueError:
        return 0


def _split_list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def load() -> Settings:
    """Read the settings from the environment.

    Raises:
        ConfigError: names every malformed variable, but no values, which may be secrets.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError(f"Correct the environment: {describe_errors(error, Settings, str.upper)}.") from None


def as_markdown() -> str:
    """The settings as a Markdown table for the documentation."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        variable = str(field.validation_alias or name.upper())
        plain = ",".join(cast("tuple[str, ...]", field.default)) if isinstance(field.default, tuple) else field.default
        default = "" if plain in (None, "") or field.default_factory else f"`{plain}`"
        rows.append(f"| `{variable}` | {default} | {field.description} |")
    return "\n".join(rows)
