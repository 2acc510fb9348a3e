"""Diagnose a run from what Nosana shows of its deployment, in words that say what to do. Pure.

Learnt from the service: a RUNNING deployment may have no job; a finished job is labelled as a success even if its
container failed or it ran out of time; a result without operations was lost.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from infra.nosana.models import Deployment, DeploymentState, Event, Job, JobDetail, JobPhase, Operation
from infra.untrusted_text import one_line

LISTING_FAILURES = 3
"""After so many failures to list the job the run ends; Nosana itself tries for hours."""
RESULT_SECONDS = 60.0
"""How long after a job's end its result may arrive."""
TIMED_OUT = 124
"""Exit status of a run that ran out of time, like that of `timeout`."""

KILLED = 137
"""Exit status of a container ended by SIGKILL."""

_OVER = {JobPhase.COMPLETED, JobPhase.STOPPED}
_SET_ASIDE = {DeploymentState.STOPPED, DeploymentState.ARCHIVED}
_AGAIN = "Start the job again."
_NO_CREDITS = "Top up the credits of the Nosana account, then start the job again."
_FAULTS = {
    "image-pull-error": ("The image could not be pulled.", "Check NOSANA_WORKER_IMAGE, and that the host may pull it."),
    "resource-error": ("The host could not provide what the job needs.", "Start the job again, on another host."),
    "container-runtime-error": ("The host could not run the container.", "Start the job again, on another host."),
}


class Snapshot(BaseModel):
    """A deployment at one moment, with its newest job and that job's own record, or None if absent."""

    model_config = ConfigDict(frozen=True)

    deployment: Deployment
    job: Job | None = None
    detail: JobDetail | None = None
    events: Sequence[Event] = ()

    @property
    def has_job_ended(self) -> bool:
        return self.job is not None and self.job.phase in _OVER


class Diagnosis(BaseModel):
    """How a run ended.

    `status_code` is the container's, or one for whatever stopped it; None if unknown, and then Prefect's state of
    the run counts. `retryable`: another host may do better, if the flow has not begun. `logs` are the container's
    last lines.
    """

    model_config = ConfigDict(frozen=True)

    status_code: int | None
    summary: str
    resolution: str = ""
    detail: str = ""
    retryable: bool = False
    logs: tuple[str, ...] = Field(default=(), repr=False)

    @property
    def is_loss(self) -> bool:
        """Whether the machine was lost or its end is unknown: the same run may succeed on another."""
        return self.retryable or self.status_code in (None, KILLED)

    @property
    def cause(self) -> str:
        """What happened, with details, on one line."""
        return " ".join(part for part in (self.summary, self.detail) if part)

    @property
    def message(self) -> str:
        """One line for the user: what happened, details, what to do."""
        return " ".join(part for part in (self.summary, self.detail, self.resolution) if part)


DELETED = Diagnosis(status_code=1, summary="Someone deleted the deployment.", resolution=_AGAIN)


def diagnose(seen: Snapshot, waited: float, queue_limit: float) -> Diagnosis | None:
    """How the run ended, or None while it continues.

    Args:
        seen: the deployment now.
        waited: seconds since its job ended, or, until then, since it was created.
        queue_limit: how many seconds a job may wait for a host.
    """
    if seen.has_job_ended:
        return _of_ended(seen.detail, waited)
    if refusal := _not_listed(seen):
        return refusal
    if seen.job is not None and seen.job.phase is JobPhase.RUNNING:
        return None
    if seen.deployment.status in _SET_ASIDE:
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


def of_unfinished_run(found: Diagnosis, *, has_begun: bool) -> Diagnosis:
    """The diagnosis of a run that did not end, although its deployment did."""
    if found.status_code != 0:
        return found
    if has_begun:
        said = {"summary": "The container ended before its flow did.", "resolution": _AGAIN}
    else:
        said = {
            "summary": "The container ended without running the flow.",
            "resolution": "Check that NOSANA_WORKER_IMAGE is the image of this version.",
        }
    return found.model_copy(update={"status_code": 1, **said})


def _not_listed(seen: Snapshot) -> Diagnosis | None:
    """Why no job will be listed. Read only while there is none: old events stay in the list."""
    if seen.deployment.status is DeploymentState.INSUFFICIENT_FUNDS:
        return Diagnosis(status_code=1, summary="The Nosana account has too few credits.", resolution=_NO_CREDITS)
    if seen.job is not None:
        return None
    if any("insufficient credits" in event.message.lower() for event in seen.events):
        return Diagnosis(status_code=1, summary="The Nosana account has too few credits.", resolution=_NO_CREDITS)
    failures = [event for event in seen.events if event.type == "JOB_LIST_ERROR"]
    if seen.deployment.status is DeploymentState.ERROR or len(failures) >= LISTING_FAILURES:
        said = failures[0].message if failures else ""
        return Diagnosis(
            status_code=1,
            summary="Nosana could not offer the job to its hosts.",
            detail=_quoted(said),
            resolution="Start the job again later; if it lasts, ask Nosana.",
        )
    return None


def _of_ended(detail: JobDetail | None, waited: float) -> Diagnosis | None:
    if detail is None or detail.result is None:
        if waited <= RESULT_SECONDS:
            return None
        return Diagnosis(status_code=None, summary="The host never handed in the job's result.", resolution=_AGAIN)
    operations = detail.operations
    if not operations:
        return Diagnosis(status_code=None, summary="The job's result was lost.", resolution=_AGAIN)
    return _of_operation(operations[-1])


def _of_operation(ended: Operation) -> Diagnosis:
    logs = tuple(line.log for line in ended.logs)
    fault = _fault(ended)
    if fault is not None:
        return fault.model_copy(update={"logs": logs})
    code = ended.exit_code
    if code is None:
        unsaid = "The host did not say how the container ended."
        return Diagnosis(status_code=None, summary=unsaid, resolution=_AGAIN, logs=logs)
    if code == 0:
        return Diagnosis(status_code=0, summary="The container ended well.", logs=logs)
    return Diagnosis(
        status_code=code,
        summary=f"The container ended with status {code}.",
        resolution="Read the end of its log.",
        logs=logs,
    )


def _fault(ended: Operation) -> Diagnosis | None:
    """What stopped the container from outside; its exit status then means nothing."""
    if ended.expired:
        return Diagnosis(
            status_code=TIMED_OUT,
            summary="The job ran out of its time.",
            resolution="Raise the timeout of the work pool, or use a shorter video.",
        )
    if ended.error_event is not None:
        summary, resolution = _FAULTS.get(ended.error_event, ("The host could not run the job.", _AGAIN))
        detail = _quoted(ended.error_message or "")
        return Diagnosis(status_code=2, summary=summary, detail=detail, resolution=resolution, retryable=True)
    if ended.host_shut_down:
        return Diagnosis(status_code=1, summary="The host was shut down.", resolution=_AGAIN, retryable=True)
    if ended.out_of_memory:
        return Diagnosis(
            status_code=137,
            summary="The container ran out of memory.",
            resolution="Choose a market with larger machines in NOSANA_MARKET.",
            retryable=True,
        )
    if ended.stopped:
        return Diagnosis(status_code=143, summary="The job was stopped from outside.", resolution=_AGAIN)
    return None


def _quoted(said: str) -> str:
    """Nosana's own message: one line, printable, short."""
    line = one_line(said, 200).rstrip(".")
    return f"Nosana says: {line}." if line else ""
