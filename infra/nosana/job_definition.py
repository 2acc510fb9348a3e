"""Builds and checks job definitions for Nosana hosts. Pure.

Nosana gives no reason when it refuses a malformed definition, so the models are strict. An untrusted host can read the
whole definition, so nothing that looks like a secret may be in it.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from infra.errors import ConfigError
from infra.jobs.ids import JOB_ID

GRANT_VARIABLE = "KANGKLIP_GRANT"
"""The one variable that may hold a secret: a thief would have to redeem the grant before the container does."""
COMMAND = ["python", "-m", "deployments.image.container"]

_SECRET_NAME = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|(API|ACCESS|PRIVATE)_?KEY|AUTH|COOKIE", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"://[^/\s:@]*:[^/\s@]+@"  # a password in an address
    r"|X-Amz-Signature="
    r"|-----BEGIN"
    r"|\b(sk|nos|ghp|gho|glpat|xox[abpr]|pnu|pnb)[-_][A-Za-z0-9_-]{8,}"
    r"|\bAKIA[0-9A-Z]{12,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\."  # a signed token
    r"|\bBearer\s",
)
_RUN = re.compile(r"[A-Za-z0-9+/=_-]{24,}")
_RUN_ID = re.compile(rf"[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}|{JOB_ID.pattern}")
_RANDOM_CHANGES = 0.25
"""A long run of characters counts as random above this share of neighbours of different kinds.

The kinds are lower case, upper case and digit. The share is 0.47 in random hex digits, 0.6 in random letters and
digits, and below 0.2 in paths and model names.
"""


class SecretInDefinition(ConfigError):
    """The definition contains something that looks like a secret."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ContainerRun(_Strict):
    image: str = Field(min_length=1, max_length=512, pattern=r"^[^\s]+$")
    cmd: list[str] = Field(min_length=1)
    env: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str]
    gpu: Literal[True] = True


class Operation(_Strict):
    type: Literal["container/run"] = "container/run"
    id: str = Field(pattern=r"^[^ ]+$")
    args: ContainerRun


class Requirements(_Strict):
    """`required_vram` is in gigabytes. The host must have one of the CUDA versions, or any if the list is empty."""

    required_vram: int = Field(ge=1, le=192)
    required_cuda: list[str] = Field(default_factory=list[str])


class Meta(_Strict):
    trigger: Literal["api"] = "api"
    system_requirements: Requirements


class JobDefinition(_Strict):
    version: Literal["0.1"] = "0.1"
    type: Literal["container"] = "container"
    meta: Meta
    ops: list[Operation] = Field(min_length=1, max_length=1)


class DeploymentBody(_Strict):
    """One confidential job, run once. `confidential` is always sent, because Nosana may change its default."""

    name: str = Field(min_length=1, max_length=200)
    market: str = Field(min_length=43, max_length=44, pattern=r"^[1-9A-HJ-NP-Za-km-z]+$")
    replicas: Literal[1] = 1
    timeout: int = Field(ge=1, description="Minutes.")
    strategy: Literal["SIMPLE"] = "SIMPLE"
    confidential: Literal[True] = True
    autostart: Literal[True] = True
    job_definition: JobDefinition


def build(
    image: str, env: Mapping[str, str], vram: int, cuda: Iterable[str] = (), secrets: Iterable[SecretStr] = ()
) -> JobDefinition:
    """Build the definition of a run.

    Args:
        vram: GPU memory in gigabytes.
        cuda: acceptable CUDA versions; any if empty.
        secrets: values that no variable may contain.

    Raises:
        SecretInDefinition: names the variable, never its value.
        ConfigError: the definition is malformed.
    """
    check_environment(env, [secret.get_secret_value() for secret in secrets])
    requirements = {"required_vram": vram, "required_cuda": list(cuda)}
    try:
        return JobDefinition.model_validate(
            {
                "meta": {"system_requirements": requirements},
                "ops": [{"id": "kangklip", "args": {"image": image, "cmd": COMMAND, "env": dict(env)}}],
            }
        )
    except ValidationError as error:
        raise ConfigError(f"The job definition is malformed: {_faults(error)}") from None


def deployment_body(name: str, market: str, minutes: int, definition: JobDefinition) -> dict[str, Any]:
    """The body of the request that creates the deployment.

    The deployment starts by itself, because a forgotten draft can be neither stopped nor archived.

    Raises:
        ConfigError: the name or the market's address is malformed, or `minutes` is below 1.
    """
    try:
        body = DeploymentBody(name=name, market=market, timeout=minutes, job_definition=definition)
    except ValidationError as error:
        raise ConfigError(f"The deployment is malformed: {_faults(error)}") from None
    return body.model_dump(mode="json")


def check_environment(env: Mapping[str, str], known_secrets: Iterable[str] = ()) -> None:
    """Raise `SecretInDefinition` if a name or value looks like a secret; the grant's variable is exempt."""
    known = [secret for secret in known_secrets if secret]
    for name, value in env.items():
        if any(secret in value for secret in known):
            raise SecretInDefinition(f"{name} contains a secret of this service; remove it from the environment.")
        if name == GRANT_VARIABLE:
            continue
        if _SECRET_NAME.search(name):
            raise SecretInDefinition(f"{name} is named like a secret; remove it from the environment.")
        if _looks_secret(value):
            raise SecretInDefinition(f"The value of {name} looks like a secret; remove it from the environment.")


def without_secrets(line: str, known_secrets: Iterable[str] = ()) -> str:
    """Replace words that contain or look like a secret by `[hidden]`, in a line from an untrusted host."""
    known = [secret for secret in known_secrets if secret]
    return re.sub(r"\S+", lambda word: "[hidden]" if _is_secret(word[0], known) else word[0], line)


def _is_secret(text: str, known: Iterable[str]) -> bool:
    return any(secret in text for secret in known) or _looks_secret(text)


def _looks_secret(text: str) -> bool:
    return bool(_SECRET_VALUE.search(text)) or any(_is_random(run) for run in _RUN.findall(_RUN_ID.sub("", text)))


def _is_random(run: str) -> bool:
    """Whether lower case, upper case and digits alternate too often for a word or a path."""
    kinds = ["digit" if c.isdigit() else "upper" if c.isupper() else "lower" for c in run if c.isalnum()]
    changes = sum(one != other for one, other in pairwise(kinds))
    return "digit" in kinds and len(set(kinds)) > 1 and changes / len(kinds) > _RANDOM_CHANGES


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)
    )
