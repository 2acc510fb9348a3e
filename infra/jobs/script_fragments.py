"""Lua fragments that the scripts in `infra/jobs/scripts.py` share: functions over a job's record, and refusals.

A script starts with one or more of these fragments. KEYS[1] is always the job, times are in seconds since the epoch,
and '' means none. A script returns a positive number on success, else a `Refusal`.
"""

from enum import IntEnum

from infra.jobs.keys import WAITING, WAITING_OF, WEBHOOKS
from infra.states import FIRST_STAGE, Stage


class Refusal(IntEnum):
    """Why a script changed nothing. Lua has the same names; `words` complete a sentence that starts with the job."""

    UNKNOWN = 0
    SUCCEEDED = -1
    HELD = -2
    SUPERSEDED = -3
    CANCELLED = -4
    ENDED = -5
    OTHER_RUN = -6
    LATE = -7
    REDEEMED = -8
    DELETED = -9
    NOT_ENDED = -10
    NOT_SUCCEEDED = -11
    NEWER_REVISION = -12
    BEING_RECUT = -13
    NOT_PUBLISHED = -14

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Refusal.UNKNOWN: "does not exist",
    Refusal.SUCCEEDED: "has already succeeded",
    Refusal.HELD: "is being run by another process",
    Refusal.SUPERSEDED: "is at another attempt",
    Refusal.CANCELLED: "was cancelled",
    Refusal.ENDED: "has ended",
    Refusal.OTHER_RUN: "has another run",
    Refusal.LATE: "has already progressed further",
    Refusal.REDEEMED: "has a grant that was already redeemed",
    Refusal.DELETED: "was deleted",
    Refusal.NOT_ENDED: "has not ended",
    Refusal.NOT_SUCCEEDED: "has not succeeded",
    Refusal.NEWER_REVISION: "has a newer revision",
    Refusal.BEING_RECUT: "is being recut",
    Refusal.NOT_PUBLISHED: "has not published the revision",
}

_REFUSALS = f"local {', '.join(Refusal.__members__)} = {', '.join(str(int(refusal)) for refusal in Refusal)}"
_RANKS = ", ".join(f"{stage}={rank}" for rank, stage in enumerate(Stage, 1))
_KEYS = f"local webhooks, waiting, waiting_of = '{WEBHOOKS}', '{WAITING}', '{WAITING_OF}'"
_STAGES = f"local first_stage, last_stage, rank = '{FIRST_STAGE}', '{Stage.DONE}', {{{_RANKS}}}"

RECORD = (
    _REFUSALS
    + "\n"
    + _KEYS
    + "\n"
    + _STAGES
    + """
local function field(name)
  local value = redis.call('HGET', KEYS[1], name)
  if value and value ~= '' then return value end
end
local function set(...) redis.call('HSET', KEYS[1], ...) end
local function set_once(name, value) return redis.call('HSETNX', KEYS[1], name, value) == 1 end
local function refusal_of(attempt)
  local current = field('attempt')
  if not current or not field('job_id') then return UNKNOWN end
  if attempt ~= '' and attempt ~= current then return SUPERSEDED end
end
local function has_ended()
  local status = field('status')
  return status == 'SUCCEEDED' or status == 'FAILED'
end
local function add_event(events, attempt, status, stage, progress, message, error)
  redis.call('XADD', events, 'MAXLEN', '~', 2000, '*', 'attempt', attempt, 'status', status,
    'stage', stage, 'progress', progress, 'message', message, 'error', error)
end
local function stop_waiting(job_id)
  local client = redis.call('HGET', waiting, job_id)
  if not client then return end
  redis.call('HDEL', waiting, job_id)
  if redis.call('HINCRBY', waiting_of, client, -1) <= 0 then redis.call('HDEL', waiting_of, client) end
end
local function note_waiting(job_id)
  local client = field('client')
  if not client or field('status') ~= 'QUEUED' then return stop_waiting(job_id) end
  if redis.call('HSETNX', waiting, job_id, client) == 1 then redis.call('HINCRBY', waiting_of, client, 1) end
end
local function extend_life(events, ttl) redis.call('EXPIRE', KEYS[1], ttl); redis.call('EXPIRE', events, ttl) end
"""
)

# Refuses if the record does not exist.
KNOWN_JOB_ONLY = """
if not field('job_id') then return UNKNOWN end
"""

# Refuses unless ARGV[1] is the current attempt, or ''.
CURRENT_ATTEMPT_ONLY = """
local refusal = refusal_of(ARGV[1])
if refusal then return refusal end
"""

# Creates a record, opens a job's next attempt, and binds an attempt to its flow run.
ATTEMPTS = """
local function list(jobs, job_id, now, ttl)
  redis.call('ZADD', jobs, now, job_id)
  redis.call('ZREMRANGEBYSCORE', jobs, '-inf', now - ttl)
end
local function create(all, active, job_id, request, now, ttl)
  set('job_id', job_id, 'status', 'QUEUED', 'stage', first_stage, 'progress', '0',
    'attempt', '1', 'request', request, 'created_at', now, 'updated_at', now, 'since:1', now)
  redis.call('EXPIRE', KEYS[1], ttl)
  list(all, job_id, now, ttl)
  redis.call('SADD', active, job_id)
end
local function advance(active, events, job_id, now, ttl, reason)
  local before = field('attempt')
  local attempt = tostring(tonumber(before) + 1)
  if reason ~= '' then set('reason:' .. before, reason) end
  set_once('reason:' .. before, 'It ended without giving a reason.')
  set_once('until:' .. before, now)
  if field('nosana_run_id') then set('had_run', '1') end
  if field('flow_run_id') then set('earlier_run_id', field('flow_run_id')) end
  set('attempt', attempt, 'status', 'QUEUED', 'stage', first_stage,
    'progress', '0', 'message', '', 'updated_at', now, 'since:' .. attempt, now)
  redis.call('HDEL', KEYS[1], 'error', 'start_error', 'is_leased', 'flow_run_id', 'nosana_run_id', 'grant_id',
    'cancelled', 'alarm', 'again', 'again_at')
  redis.call('SADD', active, job_id)
  note_waiting(job_id)
  add_event(events, attempt, 'QUEUED', first_stage, '0', '', '')
  extend_life(events, ttl)
  return tonumber(attempt)
end
local function bind(run)
  set('flow_run_id', run)
  set_once('nosana_run_id', run)
  if redis.call('HDEL', KEYS[1], 'again_at') == 1 then set('message', '') end
end
"""

# Applies progress and the end to the current attempt. KEYS: job, events, active jobs, totals.
REPORTS = """
local function apply(status_now, stage_now, progress_now, message, error, now, ttl)
  local job = redis.call('HMGET', KEYS[1], 'attempt', 'status', 'progress', 'stage', 'message', 'job_id')
  local attempt, status, progress, stage = job[1], job[2], tonumber(job[3]), job[4]
  if status == 'SUCCEEDED' or status == 'FAILED' then return ENDED end
  if status_now == 'QUEUED' and status == 'RUNNING' then return LATE end
  local is_final = status_now == 'SUCCEEDED' or status_now == 'FAILED'
  local new_stage = stage_now ~= '' and stage_now or stage
  if not is_final and progress_now and progress_now < progress then return LATE end
  if rank[new_stage] < rank[stage] then
    if not is_final then return LATE end
    new_stage = stage
  end
  if progress_now and progress_now > progress then progress = progress_now end
  local is_same = status_now == status and new_stage == stage
  if is_same and tostring(progress) == job[3] and message == (job[5] or '') then return 1 end
  set('status', status_now, 'stage', new_stage, 'progress', tostring(progress), 'message', message,
    'updated_at', now)
  if status_now ~= status then note_waiting(job[6]) end
  if error ~= '' then set('error', error) end
  local function end_stage(name)
    local began = redis.call('HGET', KEYS[1], 'began:' .. attempt .. ':' .. name)
    local is_first = began and set_once('ended:' .. attempt .. ':' .. name, now)
    if is_first and status_now ~= 'FAILED' then
      redis.call('HINCRBYFLOAT', KEYS[4], 'seconds:' .. name, now - began)
      redis.call('HINCRBY', KEYS[4], 'count:' .. name, 1)
    end
  end
  if new_stage ~= stage or is_final then end_stage(stage) end
  if new_stage ~= last_stage and status_now == 'RUNNING' then
    set_once('began:' .. attempt .. ':' .. new_stage, now)
  end
  if is_final then
    set_once('until:' .. attempt, now)
    if error ~= '' then set('reason:' .. attempt, error) end
    redis.call('HDEL', KEYS[1], 'again_at')
    redis.call('SREM', KEYS[3], job[6])
    redis.call('HINCRBY', KEYS[4], 'finished:' .. status_now, 1)
    if field('webhook_url') then
      set('webhook_attempt', attempt, 'webhook_status', status_now, 'webhook_tries', '0')
      redis.call('HDEL', KEYS[1], 'webhook_error', 'webhook_delivered_at')
      redis.call('ZADD', webhooks, now, job[6])
    end
  end
  add_event(KEYS[2], attempt, status_now, new_stage, tostring(progress), message, error)
  extend_life(KEYS[2], ttl)
  return 1
end
local function fail(text, now, ttl) return apply('FAILED', '', nil, text, text, now, ttl) end
"""

# Reads and writes the fields of a job's recut. KEYS: job, events, recuts. ARGV[1] and ARGV[2] are the revision and the
# attempt of a run.
RECUT = """
local function tell()
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 2000, '*', 'attempt', field('attempt'), 'status', field('status'),
    'stage', field('stage'), 'progress', field('progress'), 'message', field('recut_message') or '', 'error', '',
    'revision', field('revision') or '', 'recut_revision', field('recut_revision'), 'recut_state', field('recut_state'),
    'recut_progress', field('recut_progress'), 'recut_error', field('recut_error') or '')
end
local function put(now, ttl, ...)
  set('updated_at', now, 'recut_updated_at', now, ...)
  tell()
  extend_life(KEYS[2], ttl)
end
local function is_under_way()
  local state = field('recut_state')
  return state == 'QUEUED' or state == 'RUNNING'
end
local function refusal_of_recut()
  if field('deleted') then return DELETED end
  if not field('job_id') then return UNKNOWN end
  if field('recut_revision') ~= ARGV[1] or field('recut_attempt') ~= ARGV[2] then return SUPERSEDED end
end
local function finish(state, error, totals, now, ttl)
  local progress = state == 'SUCCEEDED' and '100' or field('recut_progress')
  redis.call('SREM', KEYS[3], field('job_id'))
  redis.call('HINCRBY', totals, 'recuts:' .. state, 1)
  redis.call('HDEL', KEYS[1], 'recut_again_at')
  put(now, ttl, 'recut_state', state, 'recut_progress', progress, 'recut_error', error, 'recut_message', '')
  return 1
end
"""

# Refuses unless ARGV[1] and ARGV[2] are the revision and the attempt of the recut, and it has not ended.
CURRENT_RECUT_ONLY = """
local refusal = refusal_of_recut()
if refusal then return refusal end
if not is_under_way() then return ENDED end
"""

# Deletes every trace of the job, and frees its idempotency key.
# KEYS: job, events, lease, all jobs, active jobs. ARGV: job_id.
DELETION = """
local idempotency_key, owner = field('claim'), field('owner')
stop_waiting(ARGV[1])
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
if owner then redis.call('ZREM', KEYS[4] .. ':' .. owner, ARGV[1]) end
redis.call('SREM', KEYS[5], ARGV[1])
if idempotency_key then redis.call('DEL', idempotency_key) end
"""
