"""The fields of Nosana's API responses that we use. Other fields are ignored; a missing one is an error."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AliasPath, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError


class DeploymentState(StrEnum):
    DRAFT = "DRAFT"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    ERROR = "ERROR"
    ARCHIVED = "ARCHIVED"


class JobPhase(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    STOPPED = "STOPPED"


def _phase(value: object) -> object:
    """A job's phase is a name in lists but a number in the job's own record."""
    return list(JobPhase)[value] if type(value) is int and 0 <= value < len(JobPhase) else value


def _none_as_empty(value: object) -> object:
    return [] if value is None else value


def _object_or_empty(result: Any) -> Any:
    """A host's result; anything but an object counts as an empty one."""
    return result if result is None or isinstance(result, dict) else {}  # pyright: ignore[reportUnknownVariableType]


class ApiModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Deployment(ApiModel):
    id: str
    name: str
    market: str
    status: DeploymentState
    active_jobs: int = 0
    created_at: datetime


class NosanaJob(ApiModel):
    """An entry in a deployment's list of jobs. `started_at` is in seconds since the epoch, or 0 before it runs."""

    id: str = Field(alias="job")
    phase: Annotated[JobPhase, BeforeValidator(_phase)] = Field(alias="state")
    started_at: float = Field(default=0, alias="time_start")
    created_at: datetime


class LogLine(ApiModel):
    type: str
    log: str = ""


class OperationResult(ApiModel):
    """How one operation of a job ended. Nosana's `status` is ignored: it says success for failed containers too."""

    exit_code: int | None = Field(default=None, alias="exitCode")
    logs: Annotated[list[LogLine], BeforeValidator(_none_as_empty)] = Field(default_factory=list[LogLine])
    error_event: str | None = Field(default=None, validation_alias=AliasPath("error", "event"))
    error_message: str | None = Field(default=None, validation_alias=AliasPath("error", "message"))
    host_shut_down: bool = Field(default=False, validation_alias=AliasPath("diagnostics", "reason", "hostShutDown"))
    stopped: bool = Field(default=False, validation_alias=AliasPath("diagnostics", "reason", "jobStopped"))
    expired: bool = Field(default=False, validation_alias=AliasPath("diagnostics", "reason", "jobExpired"))
    out_of_memory: bool = Field(default=False, validation_alias=AliasPath("diagnostics", "state", "OOMKilled"))


_OPERATIONS = TypeAdapter(list[OperationResult])


class JobDetail(ApiModel):
    """A job's own record. `result` is None until the host delivers it; times are in seconds since the epoch."""

    phase: Annotated[JobPhase, BeforeValidator(_phase)] = Field(alias="state")
    result: Annotated[dict[str, Any] | None, BeforeValidator(_object_or_empty)] = Field(default=None, alias="jobResult")
    started_at: float = Field(default=0, alias="timeStart")
    ended_at: float = Field(default=0, alias="timeEnd")

    @property
    def operations(self) -> list[OperationResult]:
        """The operations, or none if the result was lost or is malformed: an untrusted host writes it."""
        try:
            return _OPERATIONS.validate_python((self.result or {}).get("opStates") or [])
        except ValidationError:
            return []


class Event(ApiModel):
    type: str
    message: str
    created_at: datetime


class Market(ApiModel):
    address: str
    slug: str
    name: str = ""
    gpu_types: list[str] = Field(default_factory=list[str])
    usd_per_hour: float = Field(alias="usd_reward_per_hour")


class Credits(ApiModel):
    """The account's credits, in dollars."""

    assigned: float = Field(alias="assignedCredits")
    reserved: float = Field(alias="reservedCredits")
    settled: float = Field(alias="settledCredits")

    @property
    def available(self) -> float:
        return self.assigned - self.reserved - self.settled
