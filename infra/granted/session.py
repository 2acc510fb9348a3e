"""Sessions in Redis. A grant is exchanged for a session, once.

Keys: `kangklip:grant:{id}` (the session that redeemed the grant), `kangklip:session:{digest of the token}`, and the
same with `:nonce` until the session is first used. A session is valid while its attempt, at a job or at a recut, is the
current one and its grant is the newest of that attempt: issuing a grant for another host ends the session.
"""

import secrets
import time
from typing import cast

from pydantic import BaseModel, ConfigDict

from infra.errors import GrantRefused
from infra.granted.grant import Grant
from infra.jobs.connection import state_errors, timestamp
from infra.jobs.keys import RECUTS, digest, report_keys
from infra.jobs.record import JobRef
from infra.jobs.script_fragments import RECORD, RECUT, REPORTS, Refusal
from infra.jobs.store import JobStore

NONCE_SECONDS = 600
"""How long the container that redeemed a grant may repeat the request, in case the answer was lost."""
_REMEMBERED_SECONDS = 7 * 86400
"""How long a redeemed grant is remembered: longer than any grant is valid."""
_CLOSING_SECONDS = 60
"""How long a session outlives its run, so that the last log lines arrive."""
STOLEN = (
    "The grant of this run was redeemed twice and may have been stolen, so the run was stopped. Start the job again."
)

# What the script below needs to know of a job's attempt, ...
_OF_JOB = (
    RECORD
    + REPORTS
    + """
local prefix = ''
local function refusal_of_run() return refusal_of(ARGV[2]) end
local function is_over() return has_ended() end
local function begin() end
local function raise_alarm(error, now, ttl)
  set('alarm', '1')
  if fail(error, now, ttl) ~= 1 and field('status') == 'FAILED' then set('error', error, 'message', error) end
end
"""
)

# ... and of a recut's. A revision that is published stays so.
_OF_RECUT = (
    RECORD
    + RECUT
    + """
local prefix = 'recut_'
local function refusal_of_run() return refusal_of_recut() end
local function is_over() return not is_under_way() end
local function begin(now, ttl)
  if field('recut_state') == 'QUEUED' then put(now, ttl, 'recut_state', 'RUNNING') end
end
local function raise_alarm(error, now, ttl)
  if field('revision') == ARGV[1] then return end
  if is_under_way() then finish('FAILED', error, KEYS[4], now, ttl) else put(now, ttl, 'recut_error', error) end
end
"""
)

# Exchanges a grant for a session, once. Redeeming it a second time means that it was stolen, so the attempt is ended.
# A request with the nonce of the first one is a retry, as long as the session is unused: a new session replaces the
# old one.
# KEYS: job, events, active jobs or recuts, totals, grant, session.
# ARGV: revision or '', attempt, run, grant, session_id, session JSON ('' only checks), its seconds, seconds to remember
# the grant, digest of the nonce or '', its seconds, error if stolen, now, ttl.
_REDEEM = """
local refusal = refusal_of_run()
local taken = redis.call('GET', KEYS[5])
local former = taken and 'kangklip:session:' .. taken
local is_repeated = taken and ARGV[9] ~= '' and redis.call('GET', former .. ':nonce') == ARGV[9]
local is_newest = field(prefix .. 'grant_id') == ARGV[4]
if taken and taken ~= ARGV[5] and not is_repeated then
  if refusal then return refusal end
  if not is_newest then return OTHER_RUN end
  redis.call('HDEL', KEYS[1], prefix .. 'grant_id')
  raise_alarm(ARGV[11], ARGV[12], ARGV[13])
  return REDEEMED
end
if refusal then return refusal end
if is_over() then return ENDED end
if not is_newest or field(prefix .. 'flow_run_id') ~= ARGV[3] then return OTHER_RUN end
if ARGV[6] == '' or taken == ARGV[5] then return 1 end
if is_repeated then
  redis.call('DEL', former)
  redis.call('RENAME', former .. ':nonce', KEYS[6] .. ':nonce')
elseif ARGV[9] ~= '' then
  redis.call('SET', KEYS[6] .. ':nonce', ARGV[9], 'EX', ARGV[10])
end
redis.call('SET', KEYS[5], ARGV[5], 'EX', ARGV[8])
redis.call('SET', KEYS[6], ARGV[6], 'EX', ARGV[7])
begin(ARGV[12], ARGV[13])
return 1
"""


class GrantAlreadyRedeemed(GrantRefused):
    """The grant was redeemed before: one of the two redeemers stole it."""


class Session(BaseModel):
    """The run that the session belongs to, with its flow and deployment on the Prefect server.

    `expires_at` is in seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True)

    session_id: str
    grant_id: str
    job_id: str
    run_id: str
    attempt: int
    revision: int | None = None
    flow_id: str
    deployment_id: str | None
    expires_at: float

    @property
    def run(self) -> JobRef:
        return JobRef(job_id=self.job_id, attempt=self.attempt, revision=self.revision)


class SessionStore:
    """Sessions, in the same Redis as the jobs. Every method raises `StateError` when Redis does not answer."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        self._redis = jobs.connection.client

    def open(
        self, grant: Grant, flow_id: str, deployment_id: str | None, nonce: str | None = None
    ) -> tuple[str, Session]:
        """Exchange the grant for a session. Returns the session's token, which is stored nowhere, and the session.

        A retry with the same `nonce` gets a new token, which replaces the first one. Retries are accepted for
        `NONCE_SECONDS`, until the session is first used.

        Raises:
            GrantAlreadyRedeemed: the grant was redeemed before. If its attempt is the current one, it has been failed.
            GrantRefused: it is not the newest grant of a current, unfinished attempt.
        """
        token = f"kks_{secrets.token_urlsafe(32)}"
        session = Session(
            session_id=digest(token),
            expires_at=time.time() + grant.session_seconds,
            flow_id=flow_id,
            deployment_id=deployment_id,
            **grant.model_dump(include={"grant_id", "job_id", "run_id", "attempt", "revision"}),
        )
        self._redeem(grant, nonce, session.session_id, session.model_dump_json())
        return token, session

    def check(self, grant: Grant, nonce: str | None = None) -> None:
        """Check that `open` would accept the grant, and raise what it would raise."""
        self._redeem(grant, nonce, "", "")

    def _redeem(self, grant: Grant, nonce: str | None, session_id: str, session_json: str) -> None:
        is_recut = grant.revision is not None
        arguments = [
            grant.revision if is_recut else "",
            grant.attempt,
            grant.run_id,
            grant.grant_id,
            session_id,
            session_json,
            grant.session_seconds,
            _REMEMBERED_SECONDS,
            digest(nonce) if nonce else "",
            NONCE_SECONDS,
            grant.run.advice(STOLEN),
            timestamp(),
            self._jobs.ttl_seconds,
        ]
        job, events, active, totals = report_keys(grant.job_id)
        keys = [job, events, RECUTS if is_recut else active, totals, _grant_key(grant), _session_key(session_id)]
        script = (_OF_RECUT if is_recut else _OF_JOB) + _REDEEM
        answer = self._jobs.connection.run_script(script, keys, arguments)
        if answer == Refusal.REDEEMED:
            raise GrantAlreadyRedeemed("The grant was redeemed before.")
        if answer <= 0:
            raise GrantRefused(f"Job {grant.job_id} {Refusal(answer).words}.")

    def find(self, token: str) -> Session | None:
        """The token's session, or None if it is unknown, expired, closed, or replaced by another grant's session.

        A session outlives its attempt by a minute. Finding a session counts as its first use.
        """
        key = _session_key(digest(token))
        with state_errors():
            found = cast("str | None", self._redis.get(key))
            self._redis.delete(f"{key}:nonce")
        if found is None:
            return None
        session = Session.model_validate_json(found)
        job = self._jobs.get(session.job_id)
        work = job.worked_on(session.run) if job else None
        if work is None or work.grant_id != session.grant_id:
            return None
        is_over = work.has_ended and time.time() - work.updated_at > _CLOSING_SECONDS
        return None if is_over else session

    def close_soon(self, session: Session) -> None:
        """Let the session expire in a minute, so that the run's last requests still arrive."""
        with state_errors():
            self._redis.expire(_session_key(session.session_id), _CLOSING_SECONDS, lt=True)

    def count_use(self, session: Session, resource: str) -> int:
        """Count one use of a limited resource and return the uses so far."""
        key = f"{_session_key(session.session_id)}:{resource}"
        with state_errors():
            uses = self._redis.incr(key)
            self._redis.expireat(key, int(session.expires_at) + 1)
        return uses

    def lock(self, session: Session, name: str, seconds: int) -> bool:
        """Take the session's lock `name` until `unlock`, but for `seconds` at most. False if it is taken."""
        with state_errors():
            return bool(self._redis.set(f"{_session_key(session.session_id)}:{name}", "1", nx=True, ex=seconds))

    def unlock(self, session: Session, name: str) -> None:
        with state_errors():
            self._redis.delete(f"{_session_key(session.session_id)}:{name}")


def _session_key(session_id: str) -> str:
    """A session's id is its token's digest, so Redis holds no usable token."""
    return f"kangklip:session:{session_id}"


def _grant_key(grant: Grant) -> str:
    return f"kangklip:grant:{grant.grant_id}"
