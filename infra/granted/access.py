"""What a container on a stranger's machine is given for its grant, in place of every secret of ours.

It travels in one variable, `KANGKLIP_ACCESS`, from the process that redeemed the grant to the one that runs the
flow; the bucket, the reporter and the LLM engine are reached by it where direct credentials would be.
"""

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from infra.errors import ConfigError
from infra.settings import Settings

VARIABLE = "KANGKLIP_ACCESS"


class BucketKeys(BaseModel):
    """Temporary keys of the bucket that reach nothing but what lies under the job's root."""

    model_config = ConfigDict(frozen=True)

    endpoint: str
    key_id: str
    secret: str
    session_token: str


class Access(BaseModel):
    """`url` is our API's and what the session is used at lies under it; `root` is where in `bucket` the run keeps
    everything that it writes, with a slash at its end. Without `keys` each request is signed by our API.
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
    """The access that this process was given; None where it has credentials of its own.

    Raises:
        ConfigError: the variable holds none.
    """
    given: SecretStr | None = settings.access
    if given is None:
        return None
    try:
        return Access.model_validate_json(given.get_secret_value())
    except ValidationError:
        raise ConfigError(f"{VARIABLE} is malformed; it is set by the container, not by hand.") from None


def granted_root(job_id: str) -> str:
    """Where in the bucket the job's runs on strangers' machines write; nothing but our own check reads it else."""
    return f"granted/{job_id}/"
