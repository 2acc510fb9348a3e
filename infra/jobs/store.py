"""The record of a job in Redis, and the one class that reads and writes it.

Keys: `kangklip:job:{id}` (hash: one JSON document and the numbers the scripts compare),
`kangklip:job:{id}:events` (stream) and `kangklip:job:{id}:lease` (who runs it now); over all of
them `kangklip:jobs` (by creation), `kangklip:active` and `kangklip:totals`.

A run is (job, attempt): every write names the attempt that it is about, and is one Lua script that
refuses any but the current one. What was refused is logged.
"""

import contextlib
import hashlib
import json
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import redis
import redis.asyncio
from pydantic import BaseModel, ConfigDict, Field

from infra.errors import JobConflict, StateError, StateFull, TooManyQueued
from infra.jobs import scripts
from infra.jobs.connection import shared_client
from infra.jobs.scripts import Refusal
from infra.settings import Settings
from infra.states import JobState, Stage

logger = logging.getLogger(__name__)
CANCELLED = "Cancelled."
"""The error of a job that a person has cancelled."""
LEASE_SECONDS = 30
"""A run that has not renewed its lease for this long is dead."""
FIRST_PAUSE_SECONDS, PAUSE_FACTOR, LONGEST_PAUSE_SECONDS = 5, 4, 300
"""Before an attempt that follows by itself is submitted: 5, 20, 80 s."""
_BY_HAND = "Start the job again."
_CLAIM_SECONDS = 86400
_EVENT_WAIT_MS = 5000
_ALL, _ACTIVE, _TOTALS = "kangklip:jobs", "kangklip:active", "kangklip:totals"


class Report(BaseModel):
    """One word of progress: percent of the whole job, 0 to 100. Without an attempt, of the one that runs.

    `from_outside` is why the attempt has died, where that is not its own doing: another one follows by itself.
    `by_person`: somebody has cancelled it, so none does.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int | None = 1
    status: JobState = JobState.RUNNING
    stage: Stage | None = None
    progress: float | None = None
    message: str = ""
    error: str | None = None
    from_outside: str | None = None
    by_person: bool = False


class JobRef(BaseModel):
    """What a stage needs to know of its job. Only `job_id` decides what is cached.

    `is_numbered` is False for a run that has no record and was not told which attempt it is: 1 is a guess then.
    """

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int = 1
    is_numbered: bool = True
    progress_artifact: str | None = None

    def report(self, **said: Any) -> Report:
        """A report of this attempt; of the one that runs where the number is a guess."""
        return Report(job_id=self.job_id, attempt=self.attempt if self.is_numbered else None, **said)


class Attempt(BaseModel):
    """One attempt of a job, from when it was asked for to its end, in seconds since the epoch.

    `reason` is why it did not end well; None while it goes on and after a success.
    """

    number: int
    began_at: float | None = None
    ended_at: float | None = None
    reason: str | None = None


class StageTimes(BaseModel):
    """When a stage of the current attempt began and ended, in seconds since the epoch."""

    began: float
    ended: float | None = None


class Job(BaseModel):
    """A job as it stands; all but the request and `cost_usd` is the current attempt's. Times are in seconds since the
    epoch.

    `is_leased` tells that the attempt's process holds a lease: without one it is dead. Runs that report by callback
    alone hold none. `nosana_run_id` is what runs the attempt: the deployment on Nosana there, the flow run elsewhere;
    `flow_run_id` is its flow run either way. `grant_id` is that of the newest grant that a rented machine was given
    for it; no earlier one is good any more. `had_run`: an earlier attempt had a run. `earlier_run_id` is the
    flow run of the last attempt before this one that had one. `again_at` is when an attempt
    that follows by itself is to be submitted. `owner` is the name of the API key that asked for it, empty where none
    was needed.
    """

    job_id: str
    owner: str = ""
    status: JobState = JobState.QUEUED
    stage: Stage = Stage.DOWNLOAD
    progress: float = 0.0
    attempt: int = 1
    message: str = ""
    error: str | None = None
    start_error: str | None = None
    nosana_run_id: str | None = None
    flow_run_id: str | None = None
    cost_usd: float | None = None
    grant_id: str | None = None
    is_leased: bool = False
    cancelled: bool = False
    had_run: bool = False
    earlier_run_id: str | None = None
    again_at: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    request: dict[str, Any] = Field(default_factory=dict[str, Any])
    stages: dict[Stage, StageTimes] = Field(default_factory=dict[Stage, StageTimes])
    attempts: list[Attempt] = Field(default_factory=list[Attempt])

    @property
    def has_ended(self) -> bool:
        return self.status in (JobState.SUCCEEDED, JobState.FAILED)

    @property
    def is_cancelled(self) -> bool:
        """Whether a person ended it; its status is FAILED then, as outsiders know it."""
        return self.status is JobState.FAILED and self.cancelled


class Asker(BaseModel):
    """Who asked for a job by HTTP: the API key that owns it, whose queue it counts towards, its idempotency key.

    How many jobs may wait, of all clients and of this one; 0 is no limit.
    """

    owner: str = ""
    client: str = ""
    claim: str = ""
    most_queued: int = 0
    most_queued_of_client: int = 0


class Claim(BaseModel):
    """Who has an idempotency key: a job, ours or an earlier one, and whether it was asked for the same."""

    job_id: str
    is_new: bool
    is_same: bool


def watch_lease(flow_run_id: str) -> str:
    """Name of the lease of whoever rents a machine for a run and watches it."""
    return f"watch-{flow_run_id}"


class JobStore:
    """Jobs in Redis. Every method raises `StateError` when Redis does not answer."""

    def __init__(self, url: str, ttl_seconds: int, max_attempts: int = 3) -> None:
        self._url = url
        self._max_attempts = max_attempts
        self._redis = shared_client(url)
        self._ttl = ttl_seconds
        self._holder = f"{_neighbourhood()}:{os.getpid()}:{secrets.token_hex(8)}"

    @classmethod
    def from_settings(cls, settings: Settings) -> "JobStore | None":
        """The store that the settings name; None where there is no Redis."""
        if settings.redis_url is None:
            return None
        return cls(settings.redis_url.get_secret_value(), settings.job_ttl_seconds, settings.max_attempts)

    def create(self, job_id: str, request_json: str, asker: Asker | None = None) -> bool:
        """Record a QUEUED job; False when it exists already, and nothing is changed.

        Raises:
            TooManyQueued: as many jobs wait as the asker allows for.
        """
        by = asker or Asker()
        who = [by.owner, _hidden(by.client)[:16] if by.client else "", _claim_key(by.claim) if by.claim else ""]
        given = [job_id, request_json, _now(), self._ttl, *who, by.most_queued, by.most_queued_of_client]
        answer = self._eval(scripts.CREATE, [_key(job_id), _ALL, _ACTIVE], given)
        if answer < 0:
            raise TooManyQueued("Too many jobs are waiting.", own=answer == -2)
        return answer == 1

    def delete(self, job_id: str) -> bool:
        """Forget a job that has ended; False when there is none.

        Raises:
            JobConflict: it has not ended.
        """
        keys = [_key(job_id), _events_key(job_id), _lease_key(job_id), _ALL, _ACTIVE]
        answer = self._eval(scripts.DELETE, keys, [job_id])
        if answer < 0:
            raise JobConflict(f"Job {job_id} has not ended.")
        return answer == 1

    def discard(self, job_id: str) -> bool:
        """Forget a job whose first attempt no run has, with its idempotency key; False when it has one, or has ended.

        A run of that attempt that turns up later finds no record, and makes none.
        """
        keys = [_key(job_id), _events_key(job_id), _ALL, _ACTIVE]
        return self._done("discarding it", job_id, 1, self._eval(scripts.DISCARD, keys, [job_id]))

    def get(self, job_id: str) -> Job | None:
        with answering():
            return _job(cast("dict[str, str]", self._redis.hgetall(_key(job_id))))

    def recent(self, limit: int, owner: str | None = None) -> list[Job]:
        """The newest jobs first, of one owner or of all."""
        found: list[Job] = []
        start = 0
        with answering():
            while len(found) < limit and (ids := self._newest(start, 100)):
                found += [job for job in self._read(ids) if owner is None or job.owner == owner]
                start += len(ids)
        return found[:limit]

    def _newest(self, start: int, count: int) -> list[str]:
        return cast("list[str]", self._redis.zrevrange(_ALL, start, start + count - 1))

    def active(self) -> list[Job]:
        """Jobs that have not ended; what Redis has forgotten is left out for good."""
        with answering():
            ids = sorted(cast("set[str]", self._redis.smembers(_ACTIVE)))
            jobs = self._read(ids)
        for gone in set(ids) - {job.job_id for job in jobs}:
            self._eval(scripts.FORGET, [_ACTIVE, _key(gone)], [gone])
        return jobs

    def totals(self) -> dict[str, float]:
        """Counted since the beginning: `finished:{state}`, `seconds:{stage}` and `count:{stage}`."""
        with answering():
            found = cast("dict[str, str]", self._redis.hgetall(_TOTALS))
        return {name: float(value) for name, value in found.items()}

    def report(self, report: Report) -> bool:
        """Apply a report; False when it came too late, from another attempt, or would go back."""
        if report.from_outside and report.attempt is not None:
            return self.again(report.job_id, report.attempt, report.from_outside)
        if report.by_person and report.attempt is not None:
            return self.cancel(report.job_id, report.attempt, report.error or CANCELLED)
        arguments = [
            "" if report.attempt is None else report.attempt,
            report.status,
            report.stage or "",
            "" if report.progress is None else report.progress,
            report.message,
            report.error or "",
            _now(),
            self._ttl,
        ]
        answer = self._eval(scripts.REPORT, report_keys(report.job_id), arguments)
        return self._done(f"a report of {report.status}", report.job_id, report.attempt, answer)

    def again(self, job_id: str, attempt: int, reason: str) -> bool:
        """End an attempt that has died of something that is not its own doing, and have another one follow by itself.

        After `max_attempts` of them the job is FAILED. False when the attempt has ended already, or was followed.
        """
        failed = f"{reason} {self._gave_up()}"
        pauses = [FIRST_PAUSE_SECONDS, PAUSE_FACTOR, LONGEST_PAUSE_SECONDS]
        arguments = [attempt, reason, failed, _now(), self._ttl, self._max_attempts, *pauses]
        answer = self._eval(scripts.AGAIN, report_keys(job_id), arguments)
        return self._done("another attempt", job_id, attempt, answer)

    def _gave_up(self) -> str:
        times = self._max_attempts
        return (
            f"It was tried again {times} {'time' if times == 1 else 'times'}; start it by hand." if times else _BY_HAND
        )

    def cancel(self, job_id: str, attempt: int, words: str = CANCELLED) -> bool:
        """End the attempt because a person wants it; False when it has succeeded or was followed.

        No run can open it from now on. One that has just failed counts as cancelled, unless a theft ended it.
        """
        answer = self._eval(scripts.CANCEL, report_keys(job_id), [attempt, words, _now(), self._ttl])
        return self._done("a cancel", job_id, attempt, answer)

    def open(
        self,
        job_id: str,
        run_id: str,
        attempt: int | None,
        request_json: str,
        *,
        lease: bool,
        is_retry: bool = False,
    ) -> int:
        """Open the attempt that a flow run is about to run, and give its number. Asked again it is the same.

        A run that carries an attempt opens that one alone. One that carries none opens what waits without a run,
        else the next attempt; only such a run records a job that is not known. A run that Prefect retries opens the
        attempt after its own. With `lease`, this store holds the job from now on.

        Raises:
            JobConflict: the attempt was ended, cancelled or followed, the job is not known, has succeeded, or another
                process runs it.
        """
        self._drop_dead_lease(job_id)
        keys = [_key(job_id), _lease_key(job_id), _ALL, _ACTIVE, _events_key(job_id)]
        carried = "" if attempt is None else attempt
        holding = LEASE_SECONDS if lease else ""
        arguments = [job_id, run_id, carried, int(is_retry), request_json, _now(), self._ttl]
        answer = self._eval(scripts.OPEN, keys, [*arguments, self._holder, holding])
        return self._or_conflict(f"run {run_id}", job_id, attempt, answer)

    def reopen(self, job_id: str, after: int, *, reason: str = "", unless_cancelled: bool = False) -> int:
        """Open the attempt that follows `after`, and give its number: of several who ask, one opens it.

        `reason` is why `after` did not end well, where its record does not say. With `unless_cancelled`, what a
        person has cancelled stays so: for whoever starts jobs without being asked to.

        Raises:
            JobConflict: there is no such job, it has succeeded, another process runs it, another attempt follows, or
                it was cancelled.
        """
        self._drop_dead_lease(job_id)
        keys = [_key(job_id), _lease_key(job_id), _ACTIVE, _events_key(job_id)]
        arguments = [_now(), self._holder, job_id, self._ttl, after, "1" if unless_cancelled else "", reason]
        return self._or_conflict("a start", job_id, after, self._eval(scripts.REOPEN, keys, arguments))

    def set_run(self, job_id: str, attempt: int, run_id: str) -> bool:
        """Record the attempt's flow run, which is also what runs it until a deployment on Nosana does.

        False when the attempt must not run any more, was followed, or has another run: this one is to be stopped.
        """
        return self._done(f"run {run_id}", job_id, attempt, self._eval(scripts.BIND, [_key(job_id)], [attempt, run_id]))

    def attempt_of(self, job_id: str, run_id: str) -> int | None:
        """The attempt that a flow run has had last; None where it has had none of the job."""
        with answering():
            names = [f"run:{run_id}", "flow_run_id", "attempt"]
            opened, current, attempt = cast("list[str | None]", self._redis.hmget(_key(job_id), names))
        found = opened or (
            attempt if current == run_id else None
        )  # the latter of a record from before attempts were kept
        return int(found) if found else None

    def set_deployment(self, job_id: str, attempt: int, deployment_id: str) -> bool:
        """Record the deployment on Nosana that runs the attempt's flow run."""
        return self._note(job_id, attempt, "nosana_run_id", deployment_id)

    def set_grant(self, job_id: str, attempt: int, grant_id: str) -> bool:
        """Make this the attempt's only grant; False when the attempt has ended or was followed."""
        return self._note(job_id, attempt, "grant_id", grant_id)

    def add_cost(self, job_id: str, what: str, usd: float) -> bool:
        """Add what a rented machine has cost, in dollars, to the job's cost: once for each `what`."""
        return self._done(f"the cost of {what}", job_id, None, self._eval(scripts.COST, [_key(job_id)], [what, usd]))

    def start_failed(self, job_id: str, attempt: int, text: str, run_id: str | None = None) -> bool:
        """End the attempt because its run could not be started; False when a run other than `run_id` has it."""
        arguments = [attempt, text, _now(), self._ttl, run_id or ""]
        answer = self._eval(scripts.START_FAILED, report_keys(job_id), arguments)
        return self._done("a failed start", job_id, attempt, answer)

    def claim(self, key: str, asked: str, job_id: str) -> Claim:
        """Give an idempotency key to `job_id` for a day, unless a job has it; `asked` is a digest of the request."""
        name = _claim_key(key)
        with answering():
            is_new = bool(self._redis.set(name, f"{asked} {job_id}", nx=True, ex=_CLAIM_SECONDS))
            held = cast("str | None", self._redis.get(name)) or f"{asked} {job_id}"
        first, _, holder = held.partition(" ")
        return Claim(job_id=holder, is_new=is_new, is_same=first == asked)

    def allow(self, client: str, per_minute: int) -> int:
        """Count a client's wish to create a job: 0 to go ahead, else the seconds to wait."""
        minute, second = divmod(int(time.time()), 60)
        key = f"kangklip:rate:{_hidden(client)}:{minute}"
        return 60 - second if self._eval(scripts.COUNT, [key], [60]) > per_minute else 0

    def events(self, job_id: str, after: str = "0", block_seconds: float = 1.0) -> Iterator[tuple[str, dict[str, str]]]:
        """Events later than `after`, oldest first: (id, fields). Ends when none came for `block_seconds`."""
        while True:
            with answering():
                answer = cast(
                    "list[tuple[str, list[tuple[str, dict[str, str]]]]]",
                    self._redis.xread({_events_key(job_id): after}, count=100, block=int(block_seconds * 1000)),
                )
            if not answer:
                return
            yield from answer[0][1]
            after = answer[0][1][-1][0]

    async def follow(self, job_id: str, after: str = "0") -> AsyncGenerator[tuple[str, dict[str, str]]]:
        """Events later than the id `after` as they come: (id, fields). Ends with the one that ends the job."""
        async with self._asynchronous() as client:
            last = after
            while True:
                for event_id, fields in await self._next_events(client, job_id, last):
                    last = event_id
                    yield event_id, fields
                    if fields["status"] in (JobState.SUCCEEDED, JobState.FAILED):
                        return
                with answering():
                    if await client.exists(_key(job_id)) == 0:
                        return

    async def _next_events(self, client: Any, job_id: str, after: str) -> list[tuple[str, dict[str, str]]]:
        with answering():
            answer = await client.xread({_events_key(job_id): after}, count=100, block=_EVENT_WAIT_MS)
        return answer[0][1] if answer else []

    def last_event(self, job_id: str) -> str:
        """Id of the newest event, "0" where there is none yet."""
        with answering():
            newest = cast("list[tuple[str, Any]]", self._redis.xrevrange(_events_key(job_id), count=1))
        return newest[0][0] if newest else "0"

    def hold(self, name: str) -> bool:
        """Take or renew this store's lease on a job, or on anything else; False when another has it."""
        self._drop_dead_lease(name)
        return self._eval(scripts.HOLD, [_lease_key(name)], [self._holder, LEASE_SECONDS]) == 1

    def is_held(self, job_id: str) -> bool:
        """Whether some process runs the job, or has the lease of that name, and lives."""
        self._drop_dead_lease(job_id)
        with answering():
            return self._redis.exists(_lease_key(job_id)) == 1

    def release(self, job_id: str) -> None:
        self._eval(scripts.RELEASE, [_lease_key(job_id)], [self._holder])

    def run(self, script: str, keys: list[str], arguments: list[Any]) -> int:
        """Run one of the scripts whose last arguments are the time and how long a record is kept."""
        return self._eval(script, keys, [*arguments, _now(), self._ttl])

    def ping(self) -> None:
        with answering():
            self._redis.ping()  # pyright: ignore[reportUnknownMemberType]

    def _read(self, ids: list[str]) -> list[Job]:
        """Jobs of those ids that are known, in their order."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.hgetall(_key(job_id))
            found = cast("list[dict[str, str]]", pipe.execute())
        return [job for fields in found if (job := _job(fields))]

    def _asynchronous(self) -> Any:
        """A client of its own for one who waits: a wait holds its connection."""
        return redis.asyncio.Redis.from_url(  # pyright: ignore[reportUnknownMemberType]
            self._url, decode_responses=True, socket_connect_timeout=3, socket_timeout=_EVENT_WAIT_MS / 1000 + 10
        )

    def _drop_dead_lease(self, job_id: str) -> None:
        """A lease of a process of this machine that no longer lives need not run out."""
        with answering():
            holder = cast("str | None", self._redis.get(_lease_key(job_id)))
        if holder and holder != self._holder and _is_dead_neighbour(holder):
            self._eval(scripts.RELEASE, [_lease_key(job_id)], [holder])

    def _note(self, job_id: str, attempt: int, name: str, value: str) -> bool:
        answer = self._eval(scripts.NOTE, [_key(job_id)], [attempt, "1", name, value])
        return self._done(f"a new {name}", job_id, attempt, answer)

    def _done(self, what: str, job_id: str, attempt: int | None, answer: int) -> bool:
        """Whether a script did it; what was refused is logged, mere progress that came late not so loudly."""
        if answer > 0:
            return True
        level = logging.DEBUG if answer == Refusal.LATE else logging.INFO
        named = f"of attempt {attempt} " if attempt else ""
        logger.log(level, "Job %s: %s %swas refused: it %s", job_id, what, named, Refusal(answer).words)
        return False

    def _or_conflict(self, what: str, job_id: str, attempt: int | None, answer: int) -> int:
        if not self._done(what, job_id, attempt, answer):
            raise JobConflict(f"Job {job_id} {Refusal(answer).words}.")
        return answer

    def _eval(self, script: str, keys: list[str], arguments: list[Any]) -> int:
        with answering():
            return cast("int", self._redis.eval(script, len(keys), *keys, *map(str, arguments)))


def _job(fields: dict[str, str]) -> Job | None:
    """A job from its hash; None where there is none, or no more than a scrap of one."""
    if "job_id" not in fields:
        return None
    known: dict[str, Any] = {name: value for name, value in fields.items() if name in Job.model_fields}
    known["request"] = json.loads(fields.get("request") or "{}")
    attempt = fields.get("attempt", "1")
    known["stages"] = {
        stage: {"began": began, "ended": fields.get(f"ended:{attempt}:{stage}")}
        for stage in Stage
        if (began := fields.get(f"began:{attempt}:{stage}"))
    }
    known["attempts"] = [
        {
            "number": number,
            "began_at": fields.get(f"since:{number}"),
            "ended_at": fields.get(f"until:{number}"),
            "reason": fields.get(f"reason:{number}"),
        }
        for number in range(1, int(attempt) + 1)
    ]
    return Job.model_validate(known)


def _now() -> str:
    return f"{time.time():.3f}"


def _hidden(text: str) -> str:
    """A name for what somebody else has chosen: it may be long, and it may be a secret."""
    return hashlib.sha256(text.encode()).hexdigest()


def report_keys(job_id: str) -> list[str]:
    """Keys of the scripts that may end an attempt."""
    return [_key(job_id), _events_key(job_id), _ACTIVE, _TOTALS]


def _key(job_id: str) -> str:
    return f"kangklip:job:{job_id}"


def _claim_key(key: str) -> str:
    return f"kangklip:idempotency:{_hidden(key)}"


def _events_key(job_id: str) -> str:
    return f"kangklip:job:{job_id}:events"


def _lease_key(job_id: str) -> str:
    return f"kangklip:job:{job_id}:lease"


def _neighbourhood() -> str:
    """Host, boot and namespace of this process: within it, process ids mean the same."""
    marks = [socket.gethostname()]
    with contextlib.suppress(OSError):
        marks += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return "/".join(marks).replace(":", "-")


def _is_dead_neighbour(holder: str) -> bool:
    """Whether the holder is a process of our own neighbourhood that no longer lives."""
    place, _, rest = holder.partition(":")
    pid = rest.partition(":")[0]
    if place != _neighbourhood() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextmanager
def answering() -> Generator[None]:
    """Redis's own errors as `StateError`; the message names no address, it may hold a password."""
    try:
        yield
    except redis.ResponseError as error:
        if "No space left" in str(error):  # MISCONF, for which the client has no class
            raise StateFull("Redis takes no writes: no space is left on its disk; make room there.") from error
        raise StateError(f"Redis refused what was asked ({type(error).__name__}).") from error
    except redis.RedisError as error:
        raise StateError(f"Redis did not answer ({type(error).__name__}); check REDIS_URL and that it runs.") from error
