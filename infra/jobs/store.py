"""The job store: reads and writes the records of jobs in Redis.

Keys: `kangklip:job:{id}` (hash), `kangklip:jobs` and `kangklip:jobs:{owner}` (jobs by creation time),
`kangklip:active`, `kangklip:waiting` and `kangklip:waiting:clients` (what the limits count), `kangklip:totals` and
`kangklip:deletions` (jobs whose objects are being deleted). A job also has events (`infra/jobs/events.py`) and a lease
(`infra/jobs/leases.py`).

Every write names an attempt, and is one Lua script (`infra/jobs/scripts.py`) that refuses any attempt but the current
one. Refusals are logged.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Self, cast

from infra.errors import JobConflict, RunNotStopped, TooManyQueued
from infra.jobs import scripts
from infra.jobs.connection import Connection, state_errors, timestamp
from infra.jobs.keys import (
    ACTIVE_JOBS,
    ALL_JOBS,
    DELETIONS,
    TOTALS,
    WAITING,
    digest,
    events_key,
    idempotency_key,
    job_key,
    jobs_of,
    lease_key,
    report_keys,
)
from infra.jobs.leases import LEASE_SECONDS, Leases, watch_lease
from infra.jobs.record import CANCELLED, START_AGAIN, ActiveJob, Job, JobRef, Report, Requester, job_from_hash
from infra.jobs.recuts import Recuts
from infra.jobs.script_fragments import Refusal
from infra.settings import Settings
from infra.states import JobState

logger = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS, PAUSE_FACTOR, LONGEST_PAUSE_SECONDS = 5, 4, 300
"""Pauses before automatic retries: 5, 20, 80 s."""
_PAGE = 500
"""Records that are read at once: the answer to more would keep Redis from others for long."""


class JobStore:
    """Jobs in Redis. A run holds its job by a lease from `leases`.

    Every method raises `StateError` if Redis does not answer.
    """

    def __init__(self, connection: Connection, ttl_seconds: int, max_attempts: int = 3) -> None:
        self.connection = connection
        self.leases = Leases(connection)
        self.recuts = Recuts(connection, ttl_seconds, max_attempts)
        self.ttl_seconds = ttl_seconds
        self._max_attempts = max_attempts
        self._redis = connection.client

    @classmethod
    def from_settings(cls, settings: Settings) -> Self | None:
        """The store in the Redis of the settings, or None if they name none."""
        connection = Connection.from_settings(settings)
        return None if connection is None else cls(connection, settings.job_ttl_seconds, settings.max_attempts)

    def create(self, job_id: str, request_json: str, requester: Requester | None = None) -> bool:
        """Create a QUEUED job. Returns False, without a change, if it exists or was deleted.

        Raises:
            TooManyQueued: one of the requester's limits is reached.
        """
        by = requester or Requester()
        names = [
            by.owner,
            digest(by.client)[:16] if by.client else "",
            idempotency_key(by.idempotency_key) if by.idempotency_key else "",
        ]
        record = [job_id, request_json, timestamp(), self.ttl_seconds]
        limits = [by.max_queued, by.max_queued_per_client]
        keys, arguments = [job_key(job_id), ALL_JOBS, ACTIVE_JOBS], [*record, *names, *limits, by.webhook_url]
        answer = self._run(scripts.CREATE, keys, arguments)
        if answer < 0:
            raise TooManyQueued("Too many jobs are waiting.", own=answer == scripts.TOO_MANY_OF_CLIENT)
        return answer == 1

    def begin_deletion(self, job_id: str) -> bool:
        """Delete the record of a job that has ended; `end_deletion` follows once its objects are deleted too.

        From now on, the job does not exist, and no late report, run or restored backup brings it back. True also if an
        earlier deletion has not finished; False if there is no such job.

        Raises:
            JobConflict: the job has not ended.
            RunNotStopped: it has ended, but its process or rented machine has not stopped yet.
        """
        job = self.get(job_id)
        if job and job.recut and not job.recut.has_ended:  # its run notices, and releases the lease
            self.recuts.end(job_id, job.recut.revision, job.recut.attempt, JobState.FAILED, "The job was deleted.")
        self.leases.release_if_dead(job_id)
        runs = {work.flow_run_id for work in (job, job and job.recut) if work and work.flow_run_id}
        if job and job.has_ended and any(self.leases.is_held(watch_lease(run)) for run in runs):
            raise RunNotStopped(f"The run of job {job_id} has not stopped yet; try again in a few seconds.")
        keys = [job_key(job_id), events_key(job_id), lease_key(job_id), ALL_JOBS, ACTIVE_JOBS, DELETIONS]
        answer = self._run(scripts.BEGIN_DELETION, keys, [job_id, *self._now_and_ttl()])
        if answer == Refusal.HELD:
            raise RunNotStopped(f"The run of job {job_id} has not stopped yet; try again in a few seconds.")
        if answer == Refusal.NOT_ENDED:
            raise JobConflict(f"Job {job_id} has not ended; cancel it first.")
        return answer == 1

    def end_deletion(self, job_id: str) -> None:
        """Note that the job's objects are deleted."""
        with state_errors():
            self._redis.hdel(DELETIONS, job_id)

    def unfinished_deletions(self) -> dict[str, str]:
        """The jobs whose deletion has begun but not finished, each with its owner."""
        with state_errors():
            return cast("dict[str, str]", self._redis.hgetall(DELETIONS))

    def was_deleted(self, job_id: str) -> bool:
        """Whether the job was deleted. Known for as long as its record would have been kept."""
        with state_errors():
            return bool(self._redis.hexists(job_key(job_id), "deleted"))

    def discard(self, job_id: str) -> bool:
        """Delete a job whose first attempt has no run, and free its idempotency key.

        False if the attempt has a run or has ended. A run of the attempt that starts later finds no record and ends.
        """
        keys = [job_key(job_id), events_key(job_id), lease_key(job_id), ALL_JOBS, ACTIVE_JOBS]
        return self._is_applied("discarding it", job_id, 1, self._run(scripts.DISCARD, keys, [job_id]))

    def get(self, job_id: str) -> Job | None:
        with state_errors():
            return job_from_hash(cast("dict[str, str]", self._redis.hgetall(job_key(job_id))))

    def recent(self, limit: int, owner: str | None = None) -> list[Job]:
        """The newest jobs first, of one owner or of all."""
        jobs = ALL_JOBS if owner is None else jobs_of(owner)
        found: list[Job] = []
        start = 0
        while len(found) < limit:
            with state_errors():
                ids = cast("list[str]", self._redis.zrevrange(jobs, start, start + min(limit, _PAGE) - 1))
            if not ids:
                break
            found += self.read(ids)
            start += len(ids)
        return found[:limit]

    def active(self) -> list[ActiveJob]:
        """The jobs that have not ended.

        Removes jobs whose record has expired from the sets of active and waiting jobs, and from the latter also jobs
        that no longer wait, as after a report of an earlier release.
        """
        with state_errors():
            counted = cast("list[str]", self._redis.hkeys(WAITING))
            ids = sorted(cast("set[str]", self._redis.smembers(ACTIVE_JOBS)))
            fields = self._pipelined("HMGET", ids, "job_id", "status", "flow_run_id")
        jobs = [ActiveJob(name, JobState(status), run or None) for name, status, run in fields if name and status]
        for gone in set(ids) - {job.job_id for job in jobs}:
            self._run(scripts.FORGET, [job_key(gone), ACTIVE_JOBS], [gone])
        for job_id in set(counted) - {job.job_id for job in jobs if job.status is JobState.QUEUED}:
            self._run(scripts.COUNT, [job_key(job_id)], [job_id])
        return jobs

    def states(self) -> Counter[JobState]:
        """How many jobs are in each state that is not final; of those that wait, no record is read."""
        with state_errors():
            active = cast("set[str]", self._redis.smembers(ACTIVE_JOBS))
            waiting = active.intersection(cast("list[str]", self._redis.hkeys(WAITING)))
            others = [status for (status,) in self._pipelined("HMGET", list(active - waiting), "status") if status]
        return Counter(map(JobState, others)) + Counter({JobState.QUEUED: len(waiting)})

    def read(self, job_ids: Sequence[str]) -> list[Job]:
        """The existing jobs among these, in the same order."""
        with state_errors():
            return [job for fields in self._pipelined("HGETALL", job_ids) if (job := job_from_hash(fields))]

    def totals(self) -> dict[str, float]:
        """Counters over all time: `finished:{state}`, `seconds:{stage}` and `count:{stage}`."""
        with state_errors():
            found = cast("dict[str, str]", self._redis.hgetall(TOTALS))
        return {name: float(value) for name, value in found.items()}

    def report(self, report: Report) -> bool:
        """Apply a report. False if its attempt has ended or is not current, or if progress would go back."""
        if report.revision is not None:
            return self.recuts.report(report)
        if report.retry_reason and report.attempt is not None:
            return self.retry(report.job_id, report.attempt, report.retry_reason)
        if report.is_cancel and report.attempt is not None:
            return self.cancel(report.job_id, report.attempt, report.error or CANCELLED)
        arguments = [
            "" if report.attempt is None else report.attempt,
            report.status,
            report.stage or "",
            "" if report.progress is None else report.progress,
            report.message,
            report.error or "",
            *self._now_and_ttl(),
        ]
        answer = self._run(scripts.REPORT, report_keys(report.job_id), arguments)
        return self._is_applied(f"a report of {report.status}", report.job_id, report.attempt, answer)

    def retry(self, job_id: str, attempt: int, reason: str) -> bool:
        """End an attempt that was lost, and schedule the next one.

        When no retry is left, the job is FAILED. False if the attempt has ended or been superseded.
        """
        failed = f"{reason} {self._retries_exhausted()}"
        pauses = [FIRST_PAUSE_SECONDS, PAUSE_FACTOR, LONGEST_PAUSE_SECONDS]
        arguments = [attempt, reason, failed, *self._now_and_ttl(), self._max_attempts, *pauses]
        return self._is_applied("a retry", job_id, attempt, self._run(scripts.RETRY, report_keys(job_id), arguments))

    def _retries_exhausted(self) -> str:
        times = self._max_attempts
        if not times:
            return START_AGAIN
        return f"It was retried {times} {'time' if times == 1 else 'times'}; start it by hand."

    def cancel(self, job_id: str, attempt: int, error: str = CANCELLED) -> bool:
        """Cancel the attempt at the user's request, so that no run can open it.

        An attempt that has failed meanwhile counts as cancelled too, unless a stolen grant ended it. False if the
        attempt has succeeded or been superseded.
        """
        answer = self._run(scripts.CANCEL, report_keys(job_id), [attempt, error, *self._now_and_ttl()])
        return self._is_applied("a cancel", job_id, attempt, answer)

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
        """Open the attempt that a flow run is about to execute, and return its number. Idempotent.

        A run with an attempt number opens that attempt only. A run without one opens the attempt that waits without a
        run, or else the next one; only such a run creates a missing record. A run that Prefect retries opens the
        attempt after its previous one. With `lease`, this store holds the job's lease afterwards.

        Raises:
            JobConflict: the attempt has ended, was cancelled or was superseded; or the job does not exist, has
                succeeded, or is being run by another process.
        """
        self.leases.release_if_dead(job_id)
        keys = [job_key(job_id), lease_key(job_id), ALL_JOBS, ACTIVE_JOBS, events_key(job_id)]
        number = "" if attempt is None else attempt
        holder = [self.leases.holder, LEASE_SECONDS if lease else ""]
        arguments = [job_id, run_id, number, int(is_retry), request_json, *self._now_and_ttl(), *holder]
        return self._applied_or_conflict(f"run {run_id}", job_id, attempt, self._run(scripts.OPEN, keys, arguments))

    def reopen(self, job_id: str, after: int, *, reason: str = "", unless_cancelled: bool = False) -> int:
        """Open the attempt after `after`, and return its number. Of several concurrent callers, one succeeds.

        `reason` says why `after` failed, if its record does not. Callers that restart jobs automatically set
        `unless_cancelled`, so that a cancelled job stays cancelled.

        Raises:
            JobConflict: the job does not exist, has succeeded, is being run by another process, is at another
                attempt, or was cancelled.
        """
        self.leases.release_if_dead(job_id)
        keys = [job_key(job_id), lease_key(job_id), ACTIVE_JOBS, events_key(job_id)]
        when_and_who = [timestamp(), self.leases.holder, job_id, self.ttl_seconds]
        arguments = [after, *when_and_who, "1" if unless_cancelled else "", reason]
        return self._applied_or_conflict("a start", job_id, after, self._run(scripts.REOPEN, keys, arguments))

    def set_run(self, job_id: str, attempt: int, run_id: str) -> bool:
        """Record the attempt's flow run, also as `nosana_run_id` unless the attempt has one.

        False if the attempt has ended, was superseded, or has another run; the caller then cancels this run.
        """
        answer = self._run(scripts.BIND, [job_key(job_id)], [attempt, run_id])
        return self._is_applied(f"run {run_id}", job_id, attempt, answer)

    def attempt_of(self, job_id: str, run_id: str) -> int | None:
        """The number of the attempt that the flow run opened last, or None."""
        names = [f"run:{run_id}", "flow_run_id", "attempt"]
        with state_errors():
            opened, current, attempt = cast("list[str | None]", self._redis.hmget(job_key(job_id), names))
        if opened is None and current == run_id:  # an older record, without a field per run
            opened = attempt
        return int(opened) if opened else None

    def set_deployment(self, run: JobRef, deployment_id: str) -> bool:
        """Record the Nosana deployment that executes the flow run of an attempt, at the job or at its recut."""
        return self._set_field(run, "nosana_run_id", deployment_id)

    def set_grant(self, run: JobRef, grant_id: str) -> bool:
        """Make this the attempt's only valid grant. False if the attempt has ended or was superseded."""
        return self._set_field(run, "grant_id", grant_id)

    def add_cost(self, job_id: str, item: str, usd: float) -> bool:
        """Add US dollars to the job's cost, once per `item`."""
        answer = self._run(scripts.COST, [job_key(job_id)], [item, usd])
        return self._is_applied(f"the cost of {item}", job_id, None, answer)

    def start_failed(self, job_id: str, attempt: int, text: str, run_id: str | None = None) -> bool:
        """Fail the attempt because its run could not be started. False if it has a run other than `run_id`."""
        arguments = [attempt, text, *self._now_and_ttl(), run_id or ""]
        answer = self._run(scripts.START_FAILED, report_keys(job_id), arguments)
        return self._is_applied("a failed start", job_id, attempt, answer)

    def _pipelined(self, command: str, ids: Sequence[str], *fields: str) -> Iterator[Any]:
        """The answers to the command for each job's record, read page by page."""
        for first in range(0, len(ids), _PAGE):
            with self._redis.pipeline(transaction=False) as pipe:
                for job_id in ids[first : first + _PAGE]:
                    pipe.execute_command(command, job_key(job_id), *fields)
                yield from pipe.execute()

    def _set_field(self, run: JobRef, name: str, value: str) -> bool:
        if run.revision is not None:
            return self.recuts.set_field(run, name, value)
        answer = self._run(scripts.SET_FIELD, [job_key(run.job_id)], [run.attempt, name, value])
        return self._is_applied(f"a new {name}", run.job_id, run.attempt, answer)

    def _run(self, script: str, keys: list[str], arguments: list[Any]) -> int:
        return self.connection.run_script(script, keys, arguments)

    def _now_and_ttl(self) -> tuple[str, int]:
        return timestamp(), self.ttl_seconds

    def _is_applied(self, what: str, job_id: str, attempt: int | None, answer: int) -> bool:
        """Whether the script made the change. Refusals are logged, late progress at DEBUG."""
        if answer > 0:
            return True
        level = logging.DEBUG if answer == Refusal.LATE else logging.INFO
        of_attempt = f" of attempt {attempt}" if attempt else ""
        logger.log(level, "Job %s refused %s%s: it %s", job_id, what, of_attempt, Refusal(answer).words)
        return False

    def _applied_or_conflict(self, what: str, job_id: str, attempt: int | None, answer: int) -> int:
        if not self._is_applied(what, job_id, attempt, answer):
            raise JobConflict(f"Job {job_id} {Refusal(answer).words}.")
        return answer
