"""What a container on an untrusted host gets in exchange for its grant, instead of our secrets.

The process that redeemed the grant passes it to the flow in one variable, `KANGKLIP_ACCESS`. It leads to the bucket,
the callback and the LLM.
"""

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from infra.errors import ConfigError
from infra.settings import Settings

VARIABLE = "KANGKLIP_ACCESS"


class BucketKeys(BaseModel):
    """Temporary keys of the bucket, valid only below the job's root."""

    model_config = ConfigDict(frozen=True)

    endpoint: str
    key_id: str
    secret: str
    session_token: str


class Access(BaseModel):
    """How a granted run reaches our servers.

    `url` is the address of our API. `root`, with a slash at its end, is the prefix in `bucket` for everything that the
    run writes. Without `keys`, our API signs each request.
    """

    model_config = ConfigDict(frozen=True)

    url: str = Field(pattern=r"^https?://")
    token: str
    job_id: str
    attempt: int
    bucket: str
    root: str
    llm_model: str | None = None
    keys: BucketKeys | None = None


def access_of(settings: Settings) -> Access | None:
    """This process's access, or None if it has credentials of its own.

    Raises:
        ConfigError: the variable is malformed.
    """
    access: SecretStr | None = settings.access
    if access is None:
        return None
    try:
        return Access.model_validate_json(access.get_secret_value())
    except ValidationError:
        raise ConfigError(f"{VARIABLE} is malformed; it is set by the container, not by hand.") from None


def granted_root(job_id: str) -> str:
    """Prefix in the bucket that the job's runs on untrusted hosts write to; only our checks read it."""
    return f"granted/{job_id}/"
