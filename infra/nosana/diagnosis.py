"""What Nosana shows of a deployment -> what became of the run, in words that say what to do. Pure.

Rules learnt from the service: a deployment that RUNS need not have a job; the label of a finished job says
success of containers that failed and of jobs that ran out of time; no operations at all is a lost result.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field

from infra.nosana.models import Deployment, DeploymentState, Event, Job, JobDetail, JobPhase, Operation
from infra.untrusted_text import one_line

LISTING_FAILURES = 3
"""Failures to list the job after which another is not waited for; Nosana itself goes on for hours."""
RESULT_SECONDS = 60.0
"""How long the result of a job that has ended may be on its way."""
TIMED_OUT = 124
"""Exit status of a run that was out of time, as `timeout` has it."""

KILLED = 137
"""Exit status of a container that was ended by SIGKILL."""

_OVER = {JobPhase.COMPLETED, JobPhase.STOPPED}
_SET_ASIDE = {DeploymentState.STOPPED, DeploymentState.ARCHIVED}
_AGAIN = "Start the job again."
_NO_CREDITS = "Top up the credits of the Nosana account, then start the job again."
_FAULTS = {
    "image-pull-error": ("The image could not be pulled.", "Check NOSANA_WORKER_IMAGE, and that the host may pull it."),
    "resource-error": ("The host could not provide what the job needs.", "Start the job again, on another host."),
    "container-runtime-error": ("The host could not run the container.", "Start the job again, on another host."),
}


class Seen(BaseModel):
    """One look at a deployment: its newest job and that job's page, where there are any."""

    model_config = ConfigDict(frozen=True)

    deployment: Deployment
    job: Job | None = None
    detail: JobDetail | None = None
    events: Sequence[Event] = ()


class Diagnosis(BaseModel):
    """What became of a run.

    `status_code` is that of the container, or one that stands for what stopped it; None where it is not known
    and Prefect's own state of the run is to be believed. `retryable`: another host may do better, if the flow
    has not begun. `logs` are the container's last lines.
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
        """Whether the machine was lost, or what became of it is not known: the same run may end well on another."""
        return self.retryable or self.status_code in (None, KILLED)

    @property
    def cause(self) -> str:
        """What happened and what was said of it, on one line."""
        return " ".join(part for part in (self.summary, self.detail) if part)

    @property
    def message(self) -> str:
        """One line for people: what happened, what was said of it, what to do."""
        return " ".join(part for part in (self.summary, self.detail, self.resolution) if part)


def diagnose(seen: Seen, waited: float, queue_limit: float) -> Diagnosis | None:
    """None while the run goes on.

    Args:
        seen: the deployment as it is now.
        waited: seconds since it last had something to wait for: since it was started while no host has the
            job, since its job ended where the result is missing.
        queue_limit: seconds that a job may wait for a host.
    """
    if seen.job is not None and seen.job.phase in _OVER:
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


def of_deleted() -> Diagnosis:
    return Diagnosis(status_code=1, summary="The deployment is gone: somebody has deleted it.", resolution=_AGAIN)


def of_open_run(found: Diagnosis, *, has_begun: bool) -> Diagnosis:
    """What is said of a run that has not ended although its deployment has, however well that may have gone."""
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


def _not_listed(seen: Seen) -> Diagnosis | None:
    """Why there will be no job; only while there is none, for events of the past stay in the list."""
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
    """What befell the container from outside; the exit status then tells nothing."""
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
    """Words of the other side: one line, printable, not long."""
    line = one_line(said, 200).rstrip(".")
    return f"Nosana says: {line}." if line else ""
