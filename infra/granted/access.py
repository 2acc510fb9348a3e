"""The access that a container on an untrusted host gets in exchange for its grant, instead of our secrets.

It covers the bucket, the callback and the LLM. The process that redeems the grant passes it to the flow in one
variable, `KANGKLIP_ACCESS`.
"""

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from infra.errors import ConfigError
from infra.settings import Settings

VARIABLE = "KANGKLIP_ACCESS"


class BucketKeys(BaseModel):
    """Temporary keys for the bucket, limited to the job's root."""

    model_config = ConfigDict(frozen=True)

    endpoint: str
    key_id: str
    secret: str
    session_token: str


class Access(BaseModel):
    """How a granted run reaches our servers.

    `url` is the address of our API. The run writes below the prefix `root` of `bucket`; `root` ends with a slash.
    Without `keys`, our API signs each request to the bucket.
    """

    model_config = ConfigDict(frozen=True)

    url: str = Field(pattern=r"^https?://")
    token: str
    job_id: str
    attempt: int
    revision: int | None = None
    bucket: str
    root: str
    llm_model: str | None = None
    keys: BucketKeys | None = None


def access_of(settings: Settings) -> Access | None:
    """This process's access, or None if it uses its own credentials.

    Raises:
        ConfigError: the variable is malformed.
    """
    access: SecretStr | None = settings.access
    if access is None:
        return None
    try:
        return Access.model_validate_json(access.get_secret_value())
    except ValidationError:
        raise ConfigError(f"{VARIABLE} is malformed; remove it, because only the container sets it.") from None


def granted_root(job_id: str) -> str:
    """The prefix in the bucket where the job's runs on untrusted hosts write. Only our own checks read it."""
    return f"granted/{job_id}/"
