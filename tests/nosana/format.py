"""What Nosana accepts: the body of a create and its job definition, as strict as Nosana's own validator."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

OMITTED: Any = None
"""Default of optional fields. An explicit null is refused, because defaults are not validated."""

Number = Annotated[float, Field(strict=True)]
Scalar = str | Number
Words = str | list[str]
Placeholder = Annotated[str, Field(pattern=r"^%%(ops|global)[^%]{2,}%%$")]
"""Filled in from an earlier operation or the globals."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Endpoint(Strict):
    endpoint: str = OMITTED


class Transport(Strict):
    type: Literal["api", "api-listen"]
    args: Endpoint


class Logistics(Strict):
    send: Transport
    receive: Transport


class Global(Strict):
    image: str = OMITTED
    gpu: bool = OMITTED
    entrypoint: Words = OMITTED
    env: dict[str, str] = OMITTED
    work_dir: str = OMITTED
    variables: dict[str, str] = OMITTED


class Volume(Strict):
    name: str
    dest: str


class Docker(Strict):
    username: str = OMITTED
    password: str = OMITTED
    email: str = OMITTED
    server: str = OMITTED


class Authentication(Strict):
    docker: Docker = OMITTED


class Retry(Strict):
    policy: Literal["on-failure"]
    restart_tries: Number = OMITTED


class HttpCheck(Strict):
    type: Literal["http"]
    path: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    expected_status: Number
    headers: dict[str, str] = OMITTED
    body: Any = OMITTED
    continuous: bool


class SocketCheck(Strict):
    type: Literal["websocket"]
    expected_response: str
    continuous: bool


class Port(Strict):
    port: Number
    type: Literal["api", "web", "websocket", "webapi", "none"] = OMITTED
    health_checks: list[HttpCheck | SocketCheck] = OMITTED


class SpreadPorts(Strict):
    spread: Placeholder = Field(alias="__spread__")
    chunked: bool = OMITTED


class S3Keys(Strict):
    REGION: str
    ACCESS_KEY_ID: str
    SECRET_ACCESS_KEY: str


class S3Files(Strict):
    type: Literal["S3"]
    target: str
    url: str = OMITTED
    allowWrite: bool = OMITTED  # noqa: N815 as Nosana spells it
    files: list[str] = OMITTED
    IAM: S3Keys = OMITTED


class S3Bucket(Strict):
    type: Literal["S3"]
    target: str
    bucket: str
    url: str = OMITTED
    allowWrite: bool = OMITTED  # noqa: N815
    IAM: S3Keys = OMITTED


class S3Part(Strict):
    url: str
    files: list[str] = OMITTED


class S3Buckets(Strict):
    type: Literal["S3"]
    target: str
    buckets: list[S3Part]
    url: str = OMITTED
    allowWrite: bool = OMITTED  # noqa: N815
    IAM: S3Keys = OMITTED


class Hub(Strict):
    type: Literal["HF"]
    target: str
    repo: str
    revision: str = OMITTED
    files: list[str] = OMITTED
    accessToken: str = OMITTED  # noqa: N815


class Ollama(Strict):
    type: Literal["Ollama"]
    model: str
    target: str = OMITTED


def _without_duplicates(listed: list[Any]) -> list[Any]:
    """Refuse duplicate logs and ports; a port may be inside an object."""
    plain = [one.port if isinstance(one, Port) else one for one in listed if not isinstance(one, SpreadPorts)]
    if len(set(plain)) != len(plain):
        raise ValueError("one of them is there twice")
    return listed


ExposedPort = Number | Placeholder | SpreadPorts | Port
Resource = SpreadPorts | S3Files | S3Bucket | S3Buckets | Hub | Ollama | Literal["__remove-if-empty__"]


class ContainerRun(Strict):
    image: str
    aliases: Words = OMITTED
    cmd: Words = OMITTED
    volumes: list[Volume] = OMITTED
    expose: ExposedPort | Annotated[list[ExposedPort], AfterValidator(_without_duplicates)] = OMITTED
    gpu: bool = OMITTED
    work_dir: str = OMITTED
    entrypoint: Words = OMITTED
    env: dict[str, str] = OMITTED
    restart_policy: Retry | Literal["on-failure", "no", "always", "unless-stopped"] = OMITTED
    private: bool = OMITTED
    resources: list[Resource] = OMITTED
    authentication: Authentication = OMITTED


class CreateVolume(Strict):
    name: str


class Grouped(Strict):
    group: str = OMITTED


class Dependent(Strict):
    group: str = OMITTED
    depends_on: list[str]
    stop_if_dependent_stops: bool = OMITTED


class Result(Strict):
    regex: str
    logType: Annotated[list[Literal["stdin", "stdout", "stderr", "nodeerr"]], AfterValidator(_without_duplicates)]  # noqa: N815


class Operation(Strict):
    type: Literal["container/run", "container/create-volume"]
    id: str = Field(pattern=r"^[^ ]*$")
    args: ContainerRun | CreateVolume
    results: dict[str, str | Result] = OMITTED
    execution: Grouped | Dependent = OMITTED


class Meta(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    __pydantic_extra__: dict[str, Scalar | list[Scalar] | dict[str, Scalar | list[Scalar]]]
    trigger: str = OMITTED
    system_resources: dict[str, Scalar] = OMITTED


class JobDefinition(Strict):
    version: Literal["0.1"]
    type: Literal["container"]
    ops: list[Operation]
    logistics: Logistics = OMITTED
    deployment_id: str = OMITTED
    meta: Meta = OMITTED
    globals: Global = Field(default=OMITTED, alias="global")

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        ids = [operation.id for operation in self.ops]
        if len(set(ids)) != len(ids):
            raise ValueError("two operations have one id")
        return self


class CreateBody(BaseModel):
    """A SIMPLE deployment, the only kind that the double supports. Unknown keys are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: str
    market: str
    replicas: Number = Field(ge=1)
    timeout: Number = Field(ge=1, description="Minutes.")
    strategy: Literal["SIMPLE"]
    confidential: bool = False
    autostart: bool = False
    vault: Annotated[str, Field(min_length=43, max_length=44)] = OMITTED
    new_vault: bool = OMITTED
    job_definition: JobDefinition

    @model_validator(mode="after")
    def _one_vault(self) -> Self:
        if {"vault", "new_vault"} <= self.model_fields_set:
            raise ValueError("a vault is named or made, not both")
        return self
