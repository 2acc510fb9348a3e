"""What Nosana accepts: the body of a create and the job definition in it, as strictly as its own validator."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Number = Annotated[float, Field(strict=True)]
Scalar = Annotated[str, Field(strict=True)] | Number
Words = str | list[str]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Endpoint(Strict):
    endpoint: str | None = None


class Way(Strict):
    type: Literal["api", "api-listen"]
    args: Endpoint


class Logistics(Strict):
    send: Way
    receive: Way


class Global(Strict):
    image: str | None = None
    gpu: bool | None = None
    entrypoint: Words | None = None
    env: dict[str, str] | None = None
    work_dir: str | None = None
    variables: dict[str, str] | None = None


class Volume(Strict):
    name: str
    dest: str


class Docker(Strict):
    username: str | None = None
    password: str | None = None
    email: str | None = None
    server: str | None = None


class Authentication(Strict):
    docker: Docker | None = None


class Retry(Strict):
    policy: Literal["on-failure"]
    restart_tries: Number | None = None


class Port(Strict):
    port: Number
    type: Literal["api", "web", "websocket", "webapi", "none"] | None = None
    health_checks: list[dict[str, Any]] | None = None


class ContainerRun(Strict):
    image: str
    aliases: Words | None = None
    cmd: Words | None = None
    volumes: list[Volume] | None = None
    expose: Number | str | Port | list[Number | str | Port] | None = None
    gpu: bool | None = None
    work_dir: str | None = None
    entrypoint: Words | None = None
    env: dict[str, str] | None = None
    restart_policy: Retry | Literal["on-failure", "no", "always", "unless-stopped"] | None = None
    private: bool | None = None
    resources: list[dict[str, Any]] | None = None
    authentication: Authentication | None = None


class CreateVolume(Strict):
    name: str


class Execution(Strict):
    group: str | None = None
    depends_on: list[str] | None = None
    stop_if_dependent_stops: bool | None = None


class Operation(Strict):
    type: Literal["container/run", "container/create-volume"]
    id: str = Field(pattern=r"^[^ ]*$")
    args: ContainerRun | CreateVolume
    results: dict[str, Any] | None = None
    execution: Execution | None = None


class Meta(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)

    __pydantic_extra__: dict[str, Scalar | list[Scalar] | dict[str, Scalar | list[Scalar]]]
    trigger: str | None = None
    system_resources: dict[str, Scalar] | None = None


class JobDefinition(Strict):
    version: Literal["0.1"]
    type: Literal["container"]
    ops: list[Operation]
    logistics: Logistics | None = None
    deployment_id: str | None = None
    meta: Meta | None = None
    global_: Global | None = Field(default=None, alias="global")

    @model_validator(mode="after")
    def _ids_differ(self) -> "JobDefinition":
        ids = [operation.id for operation in self.ops]
        if len(set(ids)) != len(ids):
            raise ValueError("two operations have one id")
        return self

    @model_validator(mode="before")
    @classmethod
    def _absent_or_said(cls, value: Any) -> Any:
        """What may be left out may not be null."""
        _refuse_null(value)
        return value


class CreateBody(BaseModel):
    """A SIMPLE deployment; what else the service knows is ignored by it as it is here."""

    model_config = ConfigDict(extra="ignore", strict=True)

    name: str
    market: str
    replicas: Number = Field(ge=1)
    timeout: Number = Field(ge=1)
    strategy: Literal["SIMPLE", "SIMPLE-EXTEND"]
    confidential: bool = False
    autostart: bool = False
    job_definition: JobDefinition


def _refuse_null(value: Any) -> None:
    if value is None:
        raise ValueError("null")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _refuse_null(inner)
