"""Every write to a job's record, as one Lua script each: nobody sees half of one, and none touches what it must not.

Each script first checks that the record exists and that the attempt it names is the current one, so nothing that
comes late can change a newer attempt or bring an expired record back. Keys and arguments stand above each script.
Times are seconds since the epoch; '' stands for nothing. An answer above 0 means done; the others are `Refusal`s.
"""

from enum import IntEnum

from infra.states import FIRST_STAGE, Stage


class Refusal(IntEnum):
    """Why a script changed nothing; `words` go behind the job's name."""

    UNKNOWN = 0
    SUCCEEDED = -1
    HELD = -2
    FOLLOWED = -3
    CANCELLED = -4
    ENDED = -5
    OTHER_RUN = -6
    LATE = -7
    TAKEN = -8

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Refusal.UNKNOWN: "is not known",
    Refusal.SUCCEEDED: "has succeeded already",
    Refusal.HELD: "is being run by another process",
    Refusal.FOLLOWED: "is at another attempt by now",
    Refusal.CANCELLED: "was cancelled",
    Refusal.ENDED: "has ended",
    Refusal.OTHER_RUN: "has another run",
    Refusal.LATE: "is further on already",
    Refusal.TAKEN: "has a grant that was redeemed before",
}

_RANKS = ", ".join(f"{stage}={rank}" for rank, stage in enumerate(Stage, 1))
_STAGES = f"local first_stage, last_stage, rank = '{FIRST_STAGE}', '{Stage.DONE}', {{{_RANKS}}}"

# What the scripts share. KEYS[1] is the job everywhere.
_BASE = (
    _STAGES
    + """
local function field(name)
  local value = redis.call('HGET', KEYS[1], name)
  if value and value ~= '' then return value end
end
local function refused(attempt)
  local current = field('attempt')
  if not current or not field('job_id') then return 0 end
  if attempt ~= '' and attempt ~= current then return -3 end
end
local function has_ended()
  local status = field('status')
  return status == 'SUCCEEDED' or status == 'FAILED'
end
local function event(events, attempt, status, stage, progress, message, error)
  redis.call('XADD', events, 'MAXLEN', '~', 2000, '*', 'attempt', attempt, 'status', status,
    'stage', stage, 'progress', progress, 'message', message, 'error', error)
end
local function keep(events, ttl) redis.call('EXPIRE', KEYS[1], ttl); redis.call('EXPIRE', events, ttl) end
"""
)

# A new record; the next attempt of one; the run that an attempt belongs to. `holder` is '' or takes the lease.
_ATTEMPTS = """
local function create(all, active, job_id, request, now, ttl)
  redis.call('HSET', KEYS[1], 'job_id', job_id, 'status', 'QUEUED', 'stage', first_stage, 'progress', '0',
    'attempt', '1', 'request', request, 'created_at', now, 'updated_at', now, 'since:1', now)
  redis.call('EXPIRE', KEYS[1], ttl)
  redis.call('ZADD', all, now, job_id)
  redis.call('ZREMRANGEBYSCORE', all, '-inf', now - ttl)
  redis.call('SADD', active, job_id)
end
local function advance(active, events, job_id, now, ttl, reason)
  local before = field('attempt')
  local attempt = tostring(tonumber(before) + 1)
  if reason ~= '' then redis.call('HSET', KEYS[1], 'reason:' .. before, reason) end
  redis.call('HSETNX', KEYS[1], 'reason:' .. before, 'It ended without a word.')
  redis.call('HSETNX', KEYS[1], 'until:' .. before, now)
  if field('nosana_run_id') then redis.call('HSET', KEYS[1], 'had_run', '1') end
  if field('flow_run_id') then redis.call('HSET', KEYS[1], 'earlier_run_id', field('flow_run_id')) end
  redis.call('HSET', KEYS[1], 'attempt', attempt, 'status', 'QUEUED', 'stage', first_stage,
    'progress', '0', 'message', '', 'updated_at', now, 'since:' .. attempt, now)
  redis.call('HDEL', KEYS[1], 'error', 'start_error', 'is_leased', 'flow_run_id', 'nosana_run_id', 'grant_id',
    'cancelled', 'alarm', 'again', 'again_at')
  redis.call('SADD', active, job_id)
  event(events, attempt, 'QUEUED', first_stage, '0', '', '')
  keep(events, ttl)
  return tonumber(attempt)
end
local function bind(run)
  redis.call('HSET', KEYS[1], 'flow_run_id', run)
  redis.call('HSETNX', KEYS[1], 'nosana_run_id', run)
  if redis.call('HDEL', KEYS[1], 'again_at') == 1 then redis.call('HSET', KEYS[1], 'message', '') end
end
"""

# Progress and the end of the current attempt. KEYS here: job, events, active jobs, totals.
_REPORTS = """
local function say(status_now, stage_now, given, message, error, now, ttl)
  local job = redis.call('HMGET', KEYS[1], 'attempt', 'status', 'progress', 'stage', 'message', 'job_id')
  local attempt, status, progress, stage = job[1], job[2], tonumber(job[3]), job[4]
  if status == 'SUCCEEDED' or status == 'FAILED' then return -5 end
  if status_now == 'QUEUED' and status == 'RUNNING' then return -7 end
  local final = status_now == 'SUCCEEDED' or status_now == 'FAILED'
  local said = stage_now ~= '' and stage_now or stage
  if not final and given and given < progress then return -7 end
  if rank[said] < rank[stage] then
    if not final then return -7 end
    said = stage
  end
  if given and given > progress then progress = given end
  if status_now == status and said == stage and tostring(progress) == job[3] and message == (job[5] or '') then
    return 1
  end
  redis.call('HSET', KEYS[1], 'status', status_now, 'stage', said, 'progress', tostring(progress),
    'message', message, 'updated_at', now)
  if error ~= '' then redis.call('HSET', KEYS[1], 'error', error) end
  local function ended(name)
    local began = redis.call('HGET', KEYS[1], 'began:' .. attempt .. ':' .. name)
    local first = began and redis.call('HSETNX', KEYS[1], 'ended:' .. attempt .. ':' .. name, now) == 1
    if first and status_now ~= 'FAILED' then
      redis.call('HINCRBYFLOAT', KEYS[4], 'seconds:' .. name, now - began)
      redis.call('HINCRBY', KEYS[4], 'count:' .. name, 1)
    end
  end
  if said ~= stage or final then ended(stage) end
  if said ~= last_stage and status_now == 'RUNNING' then
    redis.call('HSETNX', KEYS[1], 'began:' .. attempt .. ':' .. said, now)
  end
  if final then
    redis.call('HSETNX', KEYS[1], 'until:' .. attempt, now)
    if error ~= '' then redis.call('HSET', KEYS[1], 'reason:' .. attempt, error) end
    redis.call('HDEL', KEYS[1], 'again_at')
    redis.call('SREM', KEYS[3], job[6])
    redis.call('HINCRBY', KEYS[4], 'finished:' .. status_now, 1)
  end
  event(KEYS[2], attempt, status_now, said, tostring(progress), message, error)
  keep(KEYS[2], ttl)
  return 1
end
local function say_failed(text, now, ttl) return say('FAILED', '', nil, text, text, now, ttl) end
"""

# KEYS: job, all jobs (sorted by creation), active jobs. ARGV: job_id, request JSON, now, ttl, owner, client, claim,
# how many jobs of all clients may wait and how many of this one ('0' any).
# 1 created; 0 it exists; -1 too many wait; -2 too many of this client wait. What no client asked for is not counted.
CREATE = (
    _BASE
    + _ATTEMPTS
    + """
if field('job_id') then return 0 end
local most, most_each = tonumber(ARGV[8]), tonumber(ARGV[9])
if most > 0 or most_each > 0 then
  local all, own = 0, 0
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    local other = redis.call('HMGET', 'kangklip:job:' .. id, 'status', 'client')
    if other[1] == 'QUEUED' and other[2] then
      all = all + 1
      if other[2] == ARGV[6] then own = own + 1 end
    end
  end
  if most > 0 and all >= most then return -1 end
  if most_each > 0 and own >= most_each then return -2 end
end
create(KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'owner', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'client', ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'claim', ARGV[7]) end
return 1
"""
)

# KEYS: job, events, lease, all jobs, active jobs. ARGV: job_id. 1 gone; 0 no such job; -1 it has not ended.
DELETE = (
    _BASE
    + """
local claim = field('claim')
if not field('job_id') then return 0 end
if not has_ended() then return -1 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('SREM', KEYS[5], ARGV[1])
if claim then redis.call('DEL', claim) end
return 1
"""
)

# A job that no run has begun is as if it had never been asked for; its idempotency key is free again.
# KEYS: job, events, all jobs, active jobs. ARGV: job_id.
DISCARD = (
    _BASE
    + """
if not field('job_id') then return 0 end
if field('attempt') ~= '1' then return -3 end
if has_ended() then return -5 end
if field('flow_run_id') then return -6 end
local claim = field('claim')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('SREM', KEYS[4], ARGV[1])
if claim then redis.call('DEL', claim) end
return 1
"""
)

# A run opens its attempt: the one that it carries or had before, that one alone; a run that carries none takes what
# waits without a run, else the next. A run that is retried gets the attempt after its own. Only a run that carries
# none makes a record.
# KEYS: job, lease, all jobs, active jobs, events.
# ARGV: job_id, run, attempt or '', '1' when it is retried, request JSON, now, ttl, holder, seconds of its lease or ''.
OPEN = (
    _BASE
    + _ATTEMPTS
    + """
local run, carried, is_retried, now, ttl, holder = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[6], ARGV[7], ARGV[8]
local function opened()
  bind(run)
  redis.call('HSET', KEYS[1], 'run:' .. run, field('attempt'))
  if ARGV[9] ~= '' then
    redis.call('SET', KEYS[2], holder, 'EX', ARGV[9])
    redis.call('HSET', KEYS[1], 'is_leased', '1')
  end
  return tonumber(field('attempt'))
end
if not field('job_id') then
  if carried ~= '' then return 0 end
  create(KEYS[3], KEYS[4], ARGV[1], ARGV[5], now, ttl)
  return opened()
end
local lease = redis.call('GET', KEYS[2])
local is_held = lease and lease ~= holder
local attempt, status, bound = field('attempt'), field('status'), field('flow_run_id')
local own = field('run:' .. run) or (carried ~= '' and carried) or (bound == run and attempt)
if own and own ~= attempt then return -3 end
if status == 'SUCCEEDED' then return -1 end
if status == 'QUEUED' and ((own and (not bound or bound == run)) or not (own or bound)) then
  if is_held then return -2 end
  return opened()
end
if own and bound and bound ~= run then return -6 end
if own and field('cancelled') then return -4 end
if own and not is_retried then return status == 'FAILED' and -5 or -2 end
local is_rented = not own and status ~= 'FAILED' and bound and field('nosana_run_id') ~= bound
if is_held or is_rented then return -2 end
advance(KEYS[4], KEYS[5], ARGV[1], now, ttl, '')
return opened()
"""
)

# KEYS: job, lease, active jobs, events.
# ARGV: now, holder, job_id, ttl, attempt to follow, '1' to refuse after a cancel, reason. The new attempt's number.
REOPEN = (
    _BASE
    + _ATTEMPTS
    + """
local no = refused(ARGV[5])
if no then return no end
if field('status') == 'SUCCEEDED' then return -1 end
if ARGV[6] == '1' and field('cancelled') then return -4 end
local lease = redis.call('GET', KEYS[2])
if lease and lease ~= ARGV[2] then return -2 end
return advance(KEYS[3], KEYS[4], ARGV[3], ARGV[1], ARGV[4], ARGV[7])
"""
)

# The run that was made for an attempt. -5: the attempt has failed meanwhile, -6 another run has it.
# KEYS: job. ARGV: attempt, run.
BIND = (
    _BASE
    + _ATTEMPTS
    + """
local no = refused(ARGV[1])
if no then return no end
local bound = field('flow_run_id')
if bound and bound ~= ARGV[2] then return -6 end
bind(ARGV[2])
return field('status') == 'FAILED' and -5 or 1
"""
)

# KEYS: job, events, active jobs, totals.
# ARGV: attempt ('' is the current one), status, stage, progress, message, error, now, ttl.
REPORT = (
    _BASE
    + _REPORTS
    + """
local no = refused(ARGV[1])
if no then return no end
return say(ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8])
"""
)

# A failure becomes a cancel, as whoever cancels has asked while the attempt went on; not so a theft.
# KEYS: job, events, active jobs, totals. ARGV: attempt, words, now, ttl.
CANCEL = (
    _BASE
    + _REPORTS
    + """
local no = refused(ARGV[1])
if no then return no end
if field('status') == 'SUCCEEDED' then return -1 end
if field('alarm') then return -5 end
say_failed(ARGV[2], ARGV[3], ARGV[4])
redis.call('HSET', KEYS[1], 'cancelled', '1', 'error', ARGV[2], 'message', ARGV[2],
  'reason:' .. field('attempt'), ARGV[2])
return 1
"""
)

# The attempt has died of something that is not its own doing: the next one is opened, and begins after a pause that
# grows with each, until that was done so often that it ends in failure.
# KEYS: job, events, active jobs, totals. ARGV: attempt, reason, words of a failure, now, ttl, how often, first pause in
# seconds, by how much it grows, longest pause. 1 when another follows, 2 when it has failed.
AGAIN = (
    _BASE
    + _ATTEMPTS
    + _REPORTS
    + """
local no = refused(ARGV[1])
if no then return no end
if has_ended() then return -5 end
local now, times = ARGV[4], tonumber(field('again') or '0')
if times >= tonumber(ARGV[6]) then
  say_failed(ARGV[3], now, ARGV[5])
  redis.call('HSET', KEYS[1], 'reason:' .. ARGV[1], ARGV[2])
  return 2
end
local pause = math.min(tonumber(ARGV[7]) * tonumber(ARGV[8]) ^ times, tonumber(ARGV[9]))
local attempt = advance(KEYS[3], KEYS[2], field('job_id'), now, ARGV[5], ARGV[2])
local words = ARGV[2] .. ' It goes on by itself in ' .. math.ceil(pause) .. ' seconds.'
redis.call('HSET', KEYS[1], 'again', tostring(times + 1), 'again_at', string.format('%.3f', now + pause),
  'message', words)
event(KEYS[2], tostring(attempt), 'QUEUED', first_stage, '0', words, '')
return 1
"""
)

# The attempt's run could not be started: by anybody, or by the run that has the attempt.
# KEYS: job, events, active jobs, totals. ARGV: attempt, words, now, ttl, run or ''.
START_FAILED = (
    _BASE
    + _REPORTS
    + """
local no = refused(ARGV[1])
if no then return no end
local bound = field('flow_run_id')
if bound and bound ~= ARGV[5] then return -6 end
local said = say_failed(ARGV[2], ARGV[3], ARGV[4])
if said == 1 then redis.call('HSET', KEYS[1], 'start_error', ARGV[2]) end
return said
"""
)

# KEYS: job. ARGV: attempt, '1' when it must not have ended, field, value.
NOTE = (
    _BASE
    + """
local no = refused(ARGV[1])
if no then return no end
if ARGV[2] == '1' and has_ended() then return -5 end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
return 1
"""
)

# What something has cost is added once, also when its attempt was followed. KEYS: job. ARGV: what, usd.
COST = (
    _BASE
    + """
if not field('job_id') then return 0 end
if redis.call('HSETNX', KEYS[1], 'cost:' .. ARGV[1], ARGV[2]) == 1 then
  redis.call('HINCRBYFLOAT', KEYS[1], 'cost_usd', ARGV[2])
end
return 1
"""
)

# KEYS: lease. ARGV: holder, seconds. Takes or renews the lease; 0 when another has it.
HOLD = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""

# KEYS: anything. ARGV: its value. Deletes it only while it is that.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

# KEYS: active jobs, job. ARGV: job_id. Leaves out a job that Redis has forgotten.
FORGET = "if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end return redis.call('SREM', KEYS[1], ARGV[1])"

# KEYS: counter. ARGV: seconds it lives. How often it was counted in its life.
COUNT = """
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return n
"""

# A grant becomes a session, once; a second holder of the grant is a theft, which ends the attempt. Whoever shows the
# nonce of the first, while nobody has used the session, is the first again: a new session takes the place of the other.
# KEYS: job, events, active jobs, totals, grant, session.
# ARGV: attempt, run, grant, session_id, session JSON ('' only looks), its seconds, seconds for which a grant is
# remembered, digest of the nonce or '', its seconds, words for a theft, now, ttl.
REDEEM = (
    _BASE
    + _REPORTS
    + """
local no = refused(ARGV[1])
local taken = redis.call('GET', KEYS[5])
local former = taken and 'kangklip:session:' .. taken
local is_again = taken and ARGV[8] ~= '' and redis.call('GET', former .. ':nonce') == ARGV[8]
if taken and taken ~= ARGV[4] and not is_again then
  if no then return no end
  if field('grant_id') ~= ARGV[3] then return -6 end
  redis.call('HDEL', KEYS[1], 'grant_id')
  redis.call('HSET', KEYS[1], 'alarm', '1')
  if say_failed(ARGV[10], ARGV[11], ARGV[12]) ~= 1 and field('status') == 'FAILED' then
    redis.call('HSET', KEYS[1], 'error', ARGV[10], 'message', ARGV[10])
  end
  return -8
end
if no then return no end
if has_ended() then return -5 end
if field('grant_id') ~= ARGV[3] or field('flow_run_id') ~= ARGV[2] then return -6 end
if ARGV[5] == '' or taken == ARGV[4] then return 1 end
if is_again then
  redis.call('DEL', former)
  redis.call('RENAME', former .. ':nonce', KEYS[6] .. ':nonce')
elseif ARGV[8] ~= '' then
  redis.call('SET', KEYS[6] .. ':nonce', ARGV[8], 'EX', ARGV[9])
end
redis.call('SET', KEYS[5], ARGV[4], 'EX', ARGV[7])
redis.call('SET', KEYS[6], ARGV[5], 'EX', ARGV[6])
return 1
"""
)
