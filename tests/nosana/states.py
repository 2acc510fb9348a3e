"""Nosana's records: deployments, their jobs and the hosts' results, and the form in which its API shows them."""

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

PHASES = ("QUEUED", "RUNNING", "COMPLETED", "STOPPED")
IDLE_STATES = ("DRAFT", "STOPPED", "ARCHIVED", "DELETED")
"""States of a deployment that costs nothing. DELETED exists only in the double."""
STEP = 0.05
"""Seconds that each step of Nosana takes."""


def address() -> str:
    """A random id like Solana's: 44 characters of base 58."""
    letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
    return "".join(secrets.choice(letters) for _ in range(44))


NODE, VAULT, OWNER = address(), address(), address()


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass
class Job:
    """A job; times are in epoch seconds, or 0 if not reached."""

    deployment: "Deployment"
    id: str = field(default_factory=address)
    state: str = "QUEUED"
    result: dict[str, Any] | None = None
    listed: float = field(default_factory=time.time)
    started: float = 0
    ended: float = 0
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)

    @property
    def is_over(self) -> bool:
        return self.state in ("COMPLETED", "STOPPED")

    def run(self) -> None:
        self.state, self.started, self.updated_at = "RUNNING", time.time(), now()

    def end(self, state: str = "COMPLETED", *, result: dict[str, Any] | None) -> None:
        self.state, self.ended, self.result, self.updated_at = state, time.time(), result, now()

    def line(self) -> dict[str, Any]:
        """The job's entry in the list, where its state is a word."""
        return {
            "tx": "tx",
            "deployment": self.deployment.id,
            "job": self.id,
            "market": self.deployment.body["market"],
            "node": NODE if self.started else None,
            "revision": 1,
            "state": self.state,
            "time_start": self.started,
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }

    def page(self) -> dict[str, Any]:
        """The job's own page, where its state is a number and the definition is shown in clear."""
        return {
            "confidential": self.deployment.body["confidential"],
            "revision": 1,
            "market": self.deployment.body["market"],
            "node": NODE,
            "state": PHASES.index(self.state),
            "jobStatus": self.result and self.result["status"],
            "jobDefinition": self.deployment.body["job_definition"],
            "jobResult": self.result,
            "timeStart": self.started,
            "timeEnd": self.ended,
            "listedAt": self.listed,
        }


@dataclass
class Deployment:
    """A deployment. `history` holds all its states; `minute` is the length of a minute in seconds."""

    key: str
    body: dict[str, Any]
    minute: float
    id: str = field(default_factory=address)
    history: list[str] = field(default_factory=lambda: ["DRAFT"])
    jobs: list[Job] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    created_at: str = field(default_factory=now)
    updated_at: str = field(default_factory=now)
    life: asyncio.Task[None] | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    funded: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def status(self) -> str:
        return self.history[-1]

    @property
    def name(self) -> str:
        return self.body["name"]

    @property
    def is_live(self) -> bool:
        return self.status not in IDLE_STATES

    @property
    def timeout(self) -> float:
        """Seconds after which the job expires."""
        return self.body["timeout"] * self.minute

    def move(self, status: str) -> None:
        self.history.append(status)
        self.updated_at = now()

    def view(self) -> dict[str, Any]:
        names = ("name", "market", "replicas", "timeout", "strategy", "confidential")
        return {name: self.body[name] for name in names} | {
            "id": self.id,
            "vault": VAULT,
            "owner": OWNER,
            "status": self.status,
            "endpoints": [],
            "active_revision": 1,
            "active_jobs": sum(not job.is_over for job in self.jobs),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }

    def add_event(self, kind: str, message: str) -> None:
        event = {"category": "Event", "deploymentId": self.id, "type": kind, "message": message, "created_at": now()}
        self.events.insert(0, event)

    def list_job(self) -> Job:
        self.jobs.insert(0, Job(self))
        return self.jobs[0]

    async def wait(self, seconds: float = STEP) -> bool:
        """Wait up to `seconds`; returns whether the deployment was stopped."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()

    async def wait_for_funds(self) -> bool:
        """Wait for a top-up or a stop; returns whether it was a top-up."""
        self.funded.clear()
        self.move("INSUFFICIENT_FUNDS")
        self.add_event("JOB_LIST_ERROR", "Insufficient credits to list the job.")
        waits = [asyncio.create_task(event.wait()) for event in (self.stopping, self.funded)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()
        if self.stopping.is_set():
            return False
        self.move("RUNNING")
        return True


def result_of(operations: list[dict[str, Any]]) -> dict[str, Any]:
    """A job's result, which says success whatever happened."""
    at = int(time.time() * 1000)
    return {"status": "success", "startTime": at, "endTime": at, "opStates": operations}


def ended(code: int | None, *logs: str | dict[str, str], **more: Any) -> dict[str, Any]:
    """The result of a single operation; `reason` and `state` go into its diagnostics, the rest next to them.

    As on Nosana, an operation that was stopped or expired is labelled a success.
    """
    reason = {"hostShutDown": False, "jobStopped": False, "jobExpired": False} | more.pop("reason", {})
    at = int(time.time() * 1000)
    operation = {
        "providerId": "container",
        "operationId": "kangklip",
        "group": None,
        "status": "failed" if code and not any(reason.values()) else "success",
        "startTime": at,
        "endTime": at,
        "exitCode": code,
        "logs": [line if isinstance(line, dict) else log("stdout", line) for line in logs],
        "diagnostics": {"reason": reason, "state": container_state(code) | more.pop("state", {})},
    }
    return result_of([operation | more])


def failed_host(event: str) -> dict[str, Any]:
    """The result of a host that could not run the container; there is no container state."""
    message = f"{event} of this host"
    shown = ended(2, log("nodeerr", message), error={"event": event, "message": message})
    del shown["opStates"][0]["diagnostics"]["state"]
    return shown


def log(kind: str, line: str) -> dict[str, str]:
    return {"type": kind, "log": line, "timestamp": now()}


def container_state(code: int | None) -> dict[str, Any]:
    flags = dict.fromkeys(("Running", "Paused", "Restarting", "OOMKilled", "Dead"), False)
    times = {"StartedAt": now(), "FinishedAt": now()}
    return {"Status": "exited", "Pid": 0, "ExitCode": code or 0, "Error": "", "RestartCount": 0} | flags | times
