"""Diagnoses how a run ended from what Nosana shows of its deployment, and says what to do next. Pure.

Nosana's quirks: a RUNNING deployment may have no job; a finished job is called a success even if its container failed
or timed out; a result without operations means that the result was lost.
"""

from collections.abc import Sequence
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from infra.jobs.record import START_AGAIN
from infra.nosana.models import Deployment, DeploymentState, Event, JobDetail, JobPhase, NosanaJob, OperationResult
from infra.untrusted_text import one_line

LISTING_FAILURES = 3
"""After this many failures to list the job, the run ends. Nosana itself would keep trying for hours."""
RESULT_SECONDS = 60.0
"""How long to wait for a job's result after its end."""
TIMED_OUT = 124
"""Exit status of a run that timed out, as from `timeout`."""

KILLED = 137
"""Exit status of a container ended by SIGKILL."""
UNREACHABLE = 75
"""Exit status of our container when our API did not answer it: EX_TEMPFAIL of sysexits.h."""

_OVER = {JobPhase.COMPLETED, JobPhase.STOPPED}
_STOPPED = {DeploymentState.STOPPED, DeploymentState.ARCHIVED}
_NO_CREDITS = "Top up the credits of the Nosana account, then start the job again."
_IMAGE_ERROR = "image-pull-error"
_HOST_ERRORS = {
    "resource-error": "The host could not provide what the job needs.",
    "container-runtime-error": "The host could not run the container.",
}


class Blame(StrEnum):
    """What ended a run: the machine or Nosana; its container by itself; or the user, by a setting or a request."""

    MACHINE = "machine"
    CONTAINER = "container"
    USER = "user"


class Snapshot(BaseModel):
    """A deployment at one moment, with its newest job and that job's own record, each None if absent."""

    model_config = ConfigDict(frozen=True)

    deployment: Deployment
    job: NosanaJob | None = None
    detail: JobDetail | None = None
    events: Sequence[Event] = ()

    @property
    def has_job_ended(self) -> bool:
        return self.job is not None and self.job.phase in _OVER


class Diagnosis(BaseModel):
    """How a run ended.

    `status_code` is the container's exit status, or one that stands for what stopped it; None if unknown.
    `retryable`: another host may succeed, if the flow has not begun. `logs` are the last lines of the container's log.
    """

    model_config = ConfigDict(frozen=True)

    status_code: int | None
    summary: str
    resolution: str = ""
    detail: str = ""
    blame: Blame = Blame.USER
    retryable: bool = False
    logs: tuple[str, ...] = Field(default=(), repr=False)

    @property
    def is_loss(self) -> bool:
        """Whether the machine was lost, or may have been: the job is retried automatically."""
        return self.blame is Blame.MACHINE

    @property
    def message(self) -> str:
        """One line for the user: what happened, and what to do."""
        return " ".join(part for part in (self.summary, self.detail, self.resolution) if part)


DELETED = Diagnosis(status_code=1, summary="Someone deleted the deployment.", resolution=START_AGAIN)


def diagnose(snapshot: Snapshot, waited: float, queue_limit: float) -> Diagnosis | None:
    """How the run ended, or None while it continues.

    Args:
        snapshot: the deployment's current state.
        waited: seconds since its job ended or, if it has not, since the deployment was created.
        queue_limit: how many seconds a job may wait for a host.
    """
    if snapshot.has_job_ended:
        return _diagnose_ended_job(snapshot.detail, waited)
    if failure := _listing_failure(snapshot):
        return failure
    if snapshot.job is not None and snapshot.job.phase is JobPhase.RUNNING:
        return None
    if snapshot.deployment.status in _STOPPED:
        return Diagnosis(
            status_code=1,
            summary="The deployment was stopped before a host took the job.",
            resolution="Start the job again, unless it was stopped on purpose.",
        )
    if waited > queue_limit:
        return Diagnosis(
            status_code=1,
            summary=f"No host took the job in {queue_limit / 60:g} min.",
            resolution="Start it again later, or choose a market with more hosts in NOSANA_MARKET.",
        )
    return None


def diagnose_unfinished_run(found: Diagnosis, *, has_begun: bool) -> Diagnosis:
    """The diagnosis of a run that has not ended, although its deployment has.

    A flow that fails ends its run itself. If it has begun and left its run open, it was killed, whatever the status.
    """
    if found.blame is not Blame.CONTAINER:
        return found
    if has_begun:
        changes = {"blame": Blame.MACHINE, "resolution": ""}
        if found.status_code == 0:
            changes |= {"status_code": 1, "summary": "The container exited before its flow ended."}
        return found.model_copy(update=changes)
    if found.status_code != 0:
        return found
    changes = {
        "status_code": 1,
        "summary": "The container exited without running the flow.",
        "resolution": "Check that NOSANA_WORKER_IMAGE is the image of this version.",
    }
    return found.model_copy(update=changes)


def _listing_failure(snapshot: Snapshot) -> Diagnosis | None:
    """Why Nosana will not list a job, or None. Events count only while there is no job: old ones stay in the list."""
    if snapshot.deployment.status is DeploymentState.INSUFFICIENT_FUNDS:
        return Diagnosis(status_code=1, summary="The Nosana account has too few credits.", resolution=_NO_CREDITS)
    if snapshot.job is not None:
        return None
    if any("insufficient credits" in event.message.lower() for event in snapshot.events):
        return Diagnosis(status_code=1, summary="The Nosana account has too few credits.", resolution=_NO_CREDITS)
    failures = [event for event in snapshot.events if event.type == "JOB_LIST_ERROR"]
    if snapshot.deployment.status is DeploymentState.ERROR or len(failures) >= LISTING_FAILURES:
        text = failures[0].message if failures else ""
        return Diagnosis(
            status_code=1,
            summary="Nosana could not offer the job to its hosts.",
            detail=_quote(text),
            resolution="If that goes on, ask Nosana.",
            blame=Blame.MACHINE,
        )
    return None


def _diagnose_ended_job(detail: JobDetail | None, waited: float) -> Diagnosis | None:
    if detail is None or detail.result is None:
        if waited <= RESULT_SECONDS:
            return None
        return _unknown("The host never delivered the job's result.")
    operations = detail.operations
    return _diagnose_operation(operations[-1]) if operations else _unknown("The job's result was lost.")


def _unknown(summary: str) -> Diagnosis:
    return Diagnosis(status_code=None, summary=summary, blame=Blame.MACHINE)


def _diagnose_operation(operation: OperationResult) -> Diagnosis:
    found = _outside_cause(operation) or _exit(operation.exit_code)
    return found.model_copy(update={"logs": tuple(line.log for line in operation.logs)})


def _exit(code: int | None) -> Diagnosis:
    """How a container ended that nothing stopped from outside, as far as the host says."""
    if code is None:
        return _unknown("The host did not report how the container ended.")
    if code == 0:
        return Diagnosis(status_code=0, summary="The container succeeded.", blame=Blame.CONTAINER)
    if code == KILLED:
        return Diagnosis(status_code=code, summary="The container was killed.", blame=Blame.MACHINE)
    if code == UNREACHABLE:
        unreached = "The container did not reach the API."
        check = "Check that CALLBACK_BASE_URL is reached from outside."
        return Diagnosis(status_code=code, summary=unreached, resolution=check, blame=Blame.MACHINE)
    return Diagnosis(
        status_code=code,
        summary=f"The container exited with status {code}.",
        resolution="Read the end of its log.",
        blame=Blame.CONTAINER,
    )


def _outside_cause(operation: OperationResult) -> Diagnosis | None:
    """What stopped the container from outside, or None. If something did, its exit status means nothing."""
    if operation.expired:
        return Diagnosis(
            status_code=TIMED_OUT,
            summary="The job timed out.",
            resolution="Raise timeout_minutes in the work pool, or use a shorter video.",
        )
    if operation.error_event is not None:
        return _host_error(operation.error_event, _quote(operation.error_message or ""))
    if operation.host_shut_down:
        return Diagnosis(status_code=1, summary="The host was shut down.", blame=Blame.MACHINE, retryable=True)
    if operation.out_of_memory:
        return Diagnosis(
            status_code=KILLED,
            summary="The container ran out of memory.",
            resolution="If that goes on, set NOSANA_MARKET to a market with larger machines.",
            blame=Blame.MACHINE,
            retryable=True,
        )
    if operation.stopped:
        return Diagnosis(status_code=143, summary="The job was stopped from outside.", resolution=START_AGAIN)
    return None


def _host_error(event: str, detail: str) -> Diagnosis:
    """A failure of the host before its container ran. If a second host cannot pull the image, the setting is wrong."""
    if event == _IMAGE_ERROR:
        return Diagnosis(
            status_code=2,
            summary="The image could not be pulled.",
            detail=detail,
            resolution="Check NOSANA_WORKER_IMAGE, and that the host may pull it.",
            retryable=True,
        )
    summary = _HOST_ERRORS.get(event, "The host could not run the job.")
    return Diagnosis(status_code=2, summary=summary, detail=detail, blame=Blame.MACHINE, retryable=True)


def _quote(text: str) -> str:
    """Nosana's own message in a sentence: one printable line of at most 200 characters."""
    line = one_line(text, 200).rstrip(".")
    return f"Nosana says: {line}." if line else ""
