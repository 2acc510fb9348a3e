"""What Nosana accepts: the body of a create and the job definition in it, as strictly as its own validator."""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LEFT_OUT: Any = None
"""Default of what need not be said; said as null it is refused, for a default is not checked."""

Number = Annotated[float, Field(strict=True)]
Scalar = str | Number
Words = str | list[str]
Placeholder = Annotated[str, Field(pattern=r"^%%(ops|global)[^%]{2,}%%$")]
"""What an earlier operation or the globals will fill in."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Endpoint(Strict):
    endpoint: str = LEFT_OUT


class Way(Strict):
    type: Literal["api", "api-listen"]
    args: Endpoint


class Logistics(Strict):
    send: Way
    receive: Way


class Global(Strict):
    image: str = LEFT_OUT
    gpu: bool = LEFT_OUT
    entrypoint: Words = LEFT_OUT
    env: dict[str, str] = LEFT_OUT
    work_dir: str = LEFT_OUT
    variables: dict[str, str] = LEFT_OUT


class Volume(Strict):
    name: str
    dest: str


class Docker(Strict):
    username: str = LEFT_OUT
    password: str = LEFT_OUT
    email: str = LEFT_OUT
    server: str = LEFT_OUT


class Authentication(Strict):
    docker: Docker = LEFT_OUT


class Retry(Strict):
    policy: Literal["on-failure"]
    restart_tries: Number = LEFT_OUT


class HttpCheck(Strict):
    type: Literal["http"]
    path: str
    method: Literal["GET", "POST", "PUT", "DELETE"]
    expected_status: Number
    headers: dict[str, str] = LEFT_OUT
    body: Any = LEFT_OUT
    continuous: bool


class SocketCheck(Strict):
    type: Literal["websocket"]
    expected_response: str
    continuous: bool


class Port(Strict):
    port: Number
    type: Literal["api", "web", "websocket", "webapi", "none"] = LEFT_OUT
    health_checks: list[HttpCheck | SocketCheck] = LEFT_OUT


class Spread(Strict):
    spread: Placeholder = Field(alias="__spread__")
    chunked: bool = LEFT_OUT


class S3Keys(Strict):
    REGION: str
    ACCESS_KEY_ID: str
    SECRET_ACCESS_KEY: str


class S3Files(Strict):
    type: Literal["S3"]
    target: str
    url: str = LEFT_OUT
    allowWrite: bool = LEFT_OUT  # noqa: N815 its spelling
    files: list[str] = LEFT_OUT
    IAM: S3Keys = LEFT_OUT


class S3Bucket(Strict):
    type: Literal["S3"]
    target: str
    bucket: str
    url: str = LEFT_OUT
    allowWrite: bool = LEFT_OUT  # noqa: N815
    IAM: S3Keys = LEFT_OUT


class S3Part(Strict):
    url: str
    files: list[str] = LEFT_OUT


class S3Buckets(Strict):
    type: Literal["S3"]
    target: str
    buckets: list[S3Part]
    url: str = LEFT_OUT
    allowWrite: bool = LEFT_OUT  # noqa: N815
    IAM: S3Keys = LEFT_OUT


class Hub(Strict):
    type: Literal["HF"]
    target: str
    repo: str
    revision: str = LEFT_OUT
    files: list[str] = LEFT_OUT
    accessToken: str = LEFT_OUT  # noqa: N815


class Ollama(Strict):
    type: Literal["Ollama"]
    model: str
    target: str = LEFT_OUT


def _each_once(listed: list[Any]) -> list[Any]:
    """No log and no port twice; a port may stand in an object."""
    plain = [one.port if isinstance(one, Port) else one for one in listed if not isinstance(one, Spread)]
    if len(set(plain)) != len(plain):
        raise ValueError("one of them is there twice")
    return listed


Exposed = Number | Placeholder | Spread | Port
Resource = Spread | S3Files | S3Bucket | S3Buckets | Hub | Ollama | Literal["__remove-if-empty__"]


class ContainerRun(Strict):
    image: str
    aliases: Words = LEFT_OUT
    cmd: Words = LEFT_OUT
    volumes: list[Volume] = LEFT_OUT
    expose: Exposed | Annotated[list[Exposed], AfterValidator(_each_once)] = LEFT_OUT
    gpu: bool = LEFT_OUT
    work_dir: str = LEFT_OUT
    entrypoint: Words = LEFT_OUT
    env: dict[str, str] = LEFT_OUT
    restart_policy: Retry | Literal["on-failure", "no", "always", "unless-stopped"] = LEFT_OUT
    private: bool = LEFT_OUT
    resources: list[Resource] = LEFT_OUT
    authentication: Authentication = LEFT_OUT


class CreateVolume(Strict):
    name: str


class Grouped(Strict):
    group: str = LEFT_OUT


class Dependent(Strict):
    group: str = LEFT_OUT
    depends_on: list[str]
    stop_if_dependent_stops: bool = LEFT_OUT


class Result(Strict):
    regex: str
    logType: Annotated[list[Literal["stdin", "stdout", "stderr", "nodeerr"]], AfterValidator(_each_once)]  # noqa: N815


class Operation(Strict):
    type: Literal["container/run", "container/create-volume"]
    id: str = Field(pattern=r"^[^ ]*$")
    args: ContainerRun | CreateVolume
    results: dict[str, str | Result] = LEFT_OUT
    execution: Grouped | Dependent = LEFT_OUT


class Meta(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    __pydantic_extra__: dict[str, Scalar | list[Scalar] | dict[str, Scalar | list[Scalar]]]
    trigger: str = LEFT_OUT
    system_resources: dict[str, Scalar] = LEFT_OUT


class JobDefinition(Strict):
    version: Literal["0.1"]
    type: Literal["container"]
    ops: list[Operation]
    logistics: Logistics = LEFT_OUT
    deployment_id: str = LEFT_OUT
    meta: Meta = LEFT_OUT
    globals: Global = Field(default=LEFT_OUT, alias="global")

    @model_validator(mode="after")
    def _ids_differ(self) -> Self:
        ids = [operation.id for operation in self.ops]
        if len(set(ids)) != len(ids):
            raise ValueError("two operations have one id")
        return self


class CreateBody(BaseModel):
    """A SIMPLE deployment, the only kind that the double makes. Keys that it does not know are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: str
    market: str
    replicas: Number = Field(ge=1)
    timeout: Number = Field(ge=1, description="Minutes.")
    strategy: Literal["SIMPLE"]
    confidential: bool = False
    autostart: bool = False
    vault: Annotated[str, Field(min_length=43, max_length=44)] = LEFT_OUT
    new_vault: bool = LEFT_OUT
    job_definition: JobDefinition

    @model_validator(mode="after")
    def _one_vault(self) -> Self:
        if {"vault", "new_vault"} <= self.model_fields_set:
            raise ValueError("a vault is named or made, not both")
        return self
