"""Job definitions for Nosana hosts. Pure.

Nosana refuses a malformed definition without a reason, and shows all of it to an untrusted host. So the models are
strict, and nothing that looks like a secret gets into one.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from infra.errors import ConfigError
from infra.jobs.ids import JOB_ID

GRANT_VARIABLE = "KANGKLIP_GRANT"
"""The one variable whose value may look like a secret: a thief would have to redeem it before the container does."""
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
"""Share of neighbours of different kinds (lower, upper, digit) from which a long run counts as random.

Random hex digits have 0.47, random letters and digits 0.6; paths and names of models less than 0.2.
"""


class SecretInDefinition(ConfigError):
    """Something that looks like a secret would have been sent to an untrusted host."""


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
    """`required_vram` in gigabytes; the host has one of the versions in `required_cuda`."""

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
    """One confidential job, run once. `confidential` is always sent, because its default is Nosana's choice."""

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
    """The definition of a run.

    Args:
        vram: gigabytes.
        cuda: versions of which the host has one; any if empty.
        secrets: values that must not be in it, whatever the variable is named.

    Raises:
        SecretInDefinition: with the variable's name, never its value.
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
    """The request that creates the deployment. It starts by itself: a forgotten draft can be neither stopped nor
    archived.

    Raises:
        ConfigError: the name, the market's address or the minutes are malformed.
    """
    try:
        body = DeploymentBody(name=name, market=market, timeout=minutes, job_definition=definition)
    except ValidationError as error:
        raise ConfigError(f"The deployment is malformed: {_faults(error)}") from None
    return body.model_dump(mode="json")


def check_environment(env: Mapping[str, str], known_secrets: Iterable[str] = ()) -> None:
    """Raise `SecretInDefinition` for names and values that look like secrets; the grant's variable is exempt."""
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
    """A line from an untrusted host, with `[hidden]` for words that contain or look like a secret, such as a grant."""
    known = [secret for secret in known_secrets if secret]
    return re.sub(r"\S+", lambda word: "[hidden]" if _is_secret(word[0], known) else word[0], line)


def _is_secret(text: str, known: Iterable[str]) -> bool:
    return any(secret in text for secret in known) or _looks_secret(text)


def _looks_secret(text: str) -> bool:
    return bool(_SECRET_VALUE.search(text)) or any(_is_random(run) for run in _RUN.findall(_RUN_ID.sub("", text)))


def _is_random(run: str) -> bool:
    """Whether letters and digits alternate too often for a word or a path."""
    kinds = ["digit" if c.isdigit() else "upper" if c.isupper() else "lower" for c in run if c.isalnum()]
    changes = sum(one != other for one, other in pairwise(kinds))
    return "digit" in kinds and len(set(kinds)) > 1 and changes / len(kinds) > _RANDOM_CHANGES


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_input=False)
    )
