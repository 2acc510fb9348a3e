"""Recuts: changes of the clips of jobs that have succeeded. A job has one at a time, in its record.

A run of a recut is (job, revision, attempt). As with a job's attempts, every write is one Lua script that refuses all
but the current one. A revision's number is never given twice, even if the recut failed. The published revision is one
field of the record, `revision`; once there is one, its files are under `revisions/`.
"""

import logging
from typing import Any, cast

from infra.errors import JobConflict, NewerRevision, RunNotStopped
from infra.jobs.connection import Connection, state_errors, timestamp
from infra.jobs.keys import RECUTS, TOTALS, events_key, job_key, lease_key
from infra.jobs.leases import LEASE_SECONDS, Leases
from infra.jobs.record import SEND_AGAIN, Job, JobRef, Report, job_from_hash
from infra.jobs.script_fragments import CURRENT_RECUT_ONLY, RECORD, RECUT, Refusal
from infra.jobs.scripts import FORGET
from infra.states import JobState

logger = logging.getLogger(__name__)

# The keys of these scripts: job, events, recuts. ARGV[1] and ARGV[2] are the revision and the attempt of a run.
_RECUTS = RECORD + RECUT

# Begins a recut, and returns the number of its revision. ARGV: published revision that it changes, now, ttl.
_BEGIN = (
    _RECUTS
    + """
if field('deleted') then return DELETED end
if not field('job_id') then return UNKNOWN end
if field('status') ~= 'SUCCEEDED' then return NOT_SUCCEEDED end
local published = field('revision') or '1'
if published ~= ARGV[1] then return NEWER_REVISION end
if is_under_way() then return BEING_RECUT end
local number = math.max(tonumber(published), tonumber(field('recut_revision') or '0')) + 1
redis.call('HDEL', KEYS[1], 'recut_error', 'recut_flow_run_id', 'recut_earlier_run_id', 'recut_again', 'recut_again_at',
  'recut_nosana_run_id', 'recut_grant_id')
redis.call('SADD', KEYS[3], field('job_id'))
put(ARGV[2], ARGV[3], 'recut_revision', string.format('%d', number), 'recut_attempt', '1', 'recut_state', 'QUEUED',
  'recut_progress', '0', 'recut_message', '')
return number
"""
)

# Records the flow run of an attempt. ARGV: revision, attempt, run.
_BIND = (
    _RECUTS
    + CURRENT_RECUT_ONLY
    + """
local bound = field('recut_flow_run_id')
if bound and bound ~= ARGV[3] then return OTHER_RUN end
set('recut_flow_run_id', ARGV[3])
redis.call('HDEL', KEYS[1], 'recut_again_at')
return 1
"""
)

# Opens an attempt and takes the job's lease. Without lease seconds, it only waits for a rented machine, which begins it
# by redeeming its grant. KEYS: also lease. ARGV: revision, attempt, run, holder, lease seconds or '', now, ttl.
_OPEN = (
    _RECUTS
    + CURRENT_RECUT_ONLY
    + """
local bound, lease = field('recut_flow_run_id'), redis.call('GET', KEYS[4])
if bound and bound ~= ARGV[3] then return OTHER_RUN end
if lease and lease ~= ARGV[4] then return HELD end
redis.call('HDEL', KEYS[1], 'recut_again_at')
if ARGV[5] == '' then
  put(ARGV[6], ARGV[7], 'recut_flow_run_id', ARGV[3])
else
  redis.call('SET', KEYS[4], ARGV[4], 'EX', ARGV[5])
  put(ARGV[6], ARGV[7], 'recut_flow_run_id', ARGV[3], 'recut_state', 'RUNNING')
end
return 1
"""
)

# Applies progress, which never goes back within an attempt. ARGV: revision, attempt, progress, message, now, ttl.
_REPORT = (
    _RECUTS
    + CURRENT_RECUT_ONLY
    + """
if field('recut_state') ~= 'RUNNING' or tonumber(ARGV[3]) < tonumber(field('recut_progress')) then return LATE end
put(ARGV[5], ARGV[6], 'recut_progress', ARGV[3], 'recut_message', ARGV[4])
return 1
"""
)

# Notes that the first revision has been copied to its folder, from which it is read from now on.
# ARGV: revision, attempt, now, ttl.
_KEEP = (
    _RECUTS
    + CURRENT_RECUT_ONLY
    + """
if field('recut_state') ~= 'RUNNING' then return LATE end
if not field('revision') then put(ARGV[3], ARGV[4], 'revision', '1') end
return 1
"""
)

# Publishes the revision: from now on, readers see it and no other. ARGV: revision, attempt, now, ttl.
_PUBLISH = (
    _RECUTS
    + CURRENT_RECUT_ONLY
    + """
if field('recut_state') ~= 'RUNNING' then return LATE end
if not field('revision') or tonumber(field('revision')) > tonumber(ARGV[1]) then return NEWER_REVISION end
put(ARGV[3], ARGV[4], 'revision', ARGV[1])
return 1
"""
)

# Ends an attempt; without its revision published, it has not succeeded. KEYS: also totals.
# ARGV: revision, attempt, state, error, now, ttl.
_END = (
    _RECUTS
    + CURRENT_RECUT_ONLY
    + """
if ARGV[3] == 'SUCCEEDED' and field('revision') ~= ARGV[1] then return NOT_PUBLISHED end
return finish(ARGV[3], ARGV[4], KEYS[4], ARGV[5], ARGV[6])
"""
)

# Sets a field of an attempt. ARGV: revision, attempt, field, value.
_SET_FIELD = (
    _RECUTS
    + CURRENT_RECUT_ONLY
    + """
set('recut_' .. ARGV[3], ARGV[4])
return 1
"""
)

# Schedules the next attempt or, when none is left, ends the recut. KEYS: also totals. ARGV: revision, attempt, reason,
# error when no retry is left, now, ttl, most retries, pause in seconds. Returns 1 if another attempt follows, else 2.
_RETRY = (
    _RECUTS
    + CURRENT_RECUT_ONLY
    + """
local retries = tonumber(field('recut_again') or '0')
if retries >= tonumber(ARGV[7]) then
  finish('FAILED', ARGV[4], KEYS[4], ARGV[5], ARGV[6])
  return 2
end
local run = field('recut_flow_run_id')
if run then set('recut_earlier_run_id', run) end
redis.call('HDEL', KEYS[1], 'recut_flow_run_id', 'recut_nosana_run_id', 'recut_grant_id')
put(ARGV[5], ARGV[6], 'recut_attempt', string.format('%d', ARGV[2] + 1), 'recut_state', 'QUEUED', 'recut_progress', '0',
  'recut_again', string.format('%d', retries + 1), 'recut_again_at', string.format('%.3f', ARGV[5] + ARGV[8]),
  'recut_message', ARGV[3])
return 1
"""
)
RETRY_SECONDS = 5
"""Pause before an automatic retry: somebody is waiting for the clips."""


class Recuts:
    """The recuts of jobs. Every method raises `StateError` if Redis does not answer."""

    def __init__(self, connection: Connection, ttl_seconds: int, max_attempts: int) -> None:
        self._connection = connection
        self._ttl_seconds, self._max_attempts = ttl_seconds, max_attempts

    def begin(self, job_id: str, base: int) -> int:
        """Begin a recut of the published revision `base`, and return the number of the new revision.

        Raises:
            NewerRevision: `base` is not the published one.
            JobConflict: the job does not exist, has not succeeded, or is being recut.
        """
        answer = self._run(_BEGIN, job_id, base, *self._now_and_ttl())
        if answer == Refusal.NEWER_REVISION:
            raise NewerRevision(f"Job {job_id} {Refusal(answer).words}.")
        if answer <= 0:
            raise JobConflict(f"Job {job_id} {Refusal(answer).words}.")
        return answer

    def set_run(self, job_id: str, revision: int, attempt: int, run_id: str) -> bool:
        """Record the attempt's flow run. False if the attempt is over or has another run."""
        return self._is_applied(job_id, "a run", self._run(_BIND, job_id, revision, attempt, run_id))

    def open(
        self, job_id: str, revision: int, attempt: int, run_id: str, leases: Leases, *, lease: bool = True
    ) -> None:
        """Open the attempt, and take the job's lease for the holder of `leases`.

        Without `lease`, the run will be on a rented machine, and the recut stays QUEUED until that redeems its grant.

        Raises:
            RunNotStopped: another process holds the lease.
            JobConflict: the attempt is over, was superseded, or has another run.
        """
        leases.release_if_dead(job_id)
        holder = (leases.holder, LEASE_SECONDS if lease else "")
        arguments = (revision, attempt, run_id, *holder, *self._now_and_ttl())
        answer = self._run(_OPEN, job_id, *arguments, key=lease_key(job_id))
        if not self._is_applied(job_id, f"run {run_id}", answer):
            kind = RunNotStopped if answer == Refusal.HELD else JobConflict
            raise kind(f"Revision {revision}: job {job_id} {Refusal(answer).words}.")

    def set_field(self, run: JobRef, name: str, value: str) -> bool:
        """Set a field of the attempt. False if it is over."""
        answer = self._run(_SET_FIELD, run.job_id, run.revision, run.attempt, name, value)
        return self._is_applied(run.job_id, f"a new {name}", answer)

    def report(self, report: Report) -> bool:
        """Apply a report on a recut. False if its attempt is over or was superseded, or if progress would go back."""
        if report.revision is None or report.attempt is None:
            raise ValueError("the report is not on a run of a recut")
        job_id, run = report.job_id, (report.revision, report.attempt)
        if report.retry_reason:
            return self.retry(job_id, *run, report.retry_reason)
        if report.status in (JobState.SUCCEEDED, JobState.FAILED):
            return self.end(job_id, *run, report.status, report.error or "")
        progress = f"{report.progress or 0.0:.1f}"
        answer = self._run(_REPORT, job_id, *run, progress, report.message, *self._now_and_ttl())
        return self._is_applied(job_id, "progress", answer)

    def keep(self, job_id: str, revision: int, attempt: int) -> bool:
        """Note that the first revision is in its own folder, and is read from there."""
        answer = self._run(_KEEP, job_id, revision, attempt, *self._now_and_ttl())
        return self._is_applied(job_id, "a kept revision", answer)

    def publish(self, job_id: str, revision: int, attempt: int) -> bool:
        """Make the revision the published one, at once for all readers. False if the attempt is over."""
        answer = self._run(_PUBLISH, job_id, revision, attempt, *self._now_and_ttl())
        return self._is_applied(job_id, f"revision {revision}", answer)

    def end(self, job_id: str, revision: int, attempt: int, state: JobState, error: str = "") -> bool:
        """End the attempt SUCCEEDED or FAILED. False if it is over."""
        arguments = (revision, attempt, state, error, *self._now_and_ttl())
        return self._is_applied(job_id, f"an end as {state}", self._run(_END, job_id, *arguments, key=TOTALS))

    def retry(self, job_id: str, revision: int, attempt: int, reason: str) -> bool:
        """Schedule the next attempt; when none is left, the recut is FAILED. False if this attempt is over."""
        failed = f"{reason} {SEND_AGAIN}"
        arguments = (revision, attempt, reason, failed, *self._now_and_ttl(), self._max_attempts, RETRY_SECONDS)
        return self._is_applied(job_id, "a retry", self._run(_RETRY, job_id, *arguments, key=TOTALS))

    def under_way(self) -> list[Job]:
        """The jobs that are being recut. Those without a record are removed from the set."""
        client = self._connection.client
        found: list[Job] = []
        with state_errors():
            ids = sorted(cast("set[str]", client.smembers(RECUTS)))
            with client.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.hgetall(job_key(job_id))
                records = cast("list[dict[str, str]]", pipe.execute())
        for job_id, job in zip(ids, map(job_from_hash, records), strict=True):
            if job is None:
                self._connection.run_script(FORGET, [job_key(job_id), RECUTS], [job_id])
            elif job.recut and not job.recut.has_ended:
                found.append(job)
        return found

    def _run(self, script: str, job_id: str, *arguments: Any, key: str | None = None) -> int:
        keys = [job_key(job_id), events_key(job_id), RECUTS, *([key] if key else [])]
        return self._connection.run_script(script, keys, list(arguments))

    def _now_and_ttl(self) -> tuple[str, int]:
        return timestamp(), self._ttl_seconds

    def _is_applied(self, job_id: str, what: str, answer: int) -> bool:
        if answer > 0:
            return True
        level = logging.DEBUG if answer == Refusal.LATE else logging.INFO
        logger.log(level, "Recut of %s refused %s: it %s", job_id, what, Refusal(answer).words)
        return False
