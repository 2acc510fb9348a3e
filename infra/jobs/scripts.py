"""The Lua scripts that write to a job's record. Each is one atomic change.

A script first checks that the record exists and that its attempt is the current one. A late write therefore never
changes a newer attempt or recreates an expired record. The keys and arguments are listed above each script;
`infra/jobs/script_fragments.py` has the shared fragments and the return values.
"""

from infra.jobs.script_fragments import ATTEMPTS, CURRENT_ATTEMPT_ONLY, DELETION, KNOWN_JOB_ONLY, RECORD, REPORTS

TOO_MANY, TOO_MANY_OF_CLIENT = -1, -2
"""Return values of `CREATE` when a limit is reached."""

# Creates a job. Jobs without a client do not count towards the limits.
# KEYS: job, all jobs, active jobs. ARGV: job_id, request JSON, now, ttl, owner, client, Redis key of the idempotency
# key, limit of waiting jobs of all clients, the same of this client ('0' means no limit), webhook URL.
# Returns 1 if created, 0 if it exists or was deleted, TOO_MANY or TOO_MANY_OF_CLIENT.
CREATE = (
    RECORD
    + ATTEMPTS
    + f"local TOO_MANY, TOO_MANY_OF_CLIENT = {TOO_MANY}, {TOO_MANY_OF_CLIENT}"
    + """
if field('job_id') or field('deleted') then return 0 end
local max_all, max_own = tonumber(ARGV[8]), tonumber(ARGV[9])
if max_all > 0 and redis.call('HLEN', waiting) >= max_all then return TOO_MANY end
local own = tonumber(redis.call('HGET', waiting_of, ARGV[6]) or '0')
if max_own > 0 and own >= max_own then return TOO_MANY_OF_CLIENT end
create(KEYS[2], KEYS[3], ARGV[1], ARGV[2], ARGV[3], ARGV[4])
if ARGV[5] ~= '' then
  set('owner', ARGV[5])
  list(KEYS[2] .. ':' .. ARGV[5], ARGV[1], ARGV[3], ARGV[4])
  redis.call('EXPIRE', KEYS[2] .. ':' .. ARGV[5], ARGV[4])
end
if ARGV[6] ~= '' then set('client', ARGV[6]) end
note_waiting(ARGV[1])
if ARGV[7] ~= '' then set('claim', ARGV[7]) end
if ARGV[10] ~= '' then set('webhook_url', ARGV[10]) end
return 1
"""
)

# Replaces the record of a job that has ended by a mark that keeps it from coming back, and notes that its objects are
# still to be deleted. KEYS: job, events, lease, all jobs, active jobs, deletions. ARGV: job_id, now, ttl.
# Returns 1 also if an earlier deletion of the job has not finished.
BEGIN_DELETION = (
    RECORD
    + """
if redis.call('HEXISTS', KEYS[6], ARGV[1]) == 1 then return 1 end
if field('deleted') then return DELETED end
if not field('job_id') then return UNKNOWN end
if not has_ended() then return NOT_ENDED end
if redis.call('EXISTS', KEYS[3]) == 1 then return HELD end
redis.call('HSET', KEYS[6], ARGV[1], field('owner') or '')
"""
    + DELETION
    + """
set('deleted', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""
)

# Deletes a job whose first attempt has no run. KEYS: job, events, lease, all jobs, active jobs. ARGV: job_id.
DISCARD = (
    RECORD
    + KNOWN_JOB_ONLY
    + """
if field('attempt') ~= '1' then return SUPERSEDED end
if has_ended() then return ENDED end
if field('flow_run_id') then return OTHER_RUN end
"""
    + DELETION
    + "return 1"
)

# Opens the attempt of a run: the one it names or has opened before. A run that names none opens the attempt that waits
# without a run, or else the next one; only such a run creates a record. A run that Prefect retries opens the attempt
# after its previous one.
# KEYS: job, lease, all jobs, active jobs, events.
# ARGV: job_id, run, attempt or '', '1' if Prefect retries it, request JSON, now, ttl, holder, lease seconds or ''.
OPEN = (
    RECORD
    + ATTEMPTS
    + """
local run, named, is_retried, now, ttl, holder = ARGV[2], ARGV[3], ARGV[4] == '1', ARGV[6], ARGV[7], ARGV[8]
local function open()
  bind(run)
  set('run:' .. run, field('attempt'))
  if ARGV[9] ~= '' then
    redis.call('SET', KEYS[2], holder, 'EX', ARGV[9])
    set('is_leased', '1')
  end
  return tonumber(field('attempt'))
end
if field('deleted') then return DELETED end
if not field('job_id') then
  if named ~= '' then return UNKNOWN end
  create(KEYS[3], KEYS[4], ARGV[1], ARGV[5], now, ttl)
  return open()
end
local lease = redis.call('GET', KEYS[2])
local is_held = lease and lease ~= holder
local attempt, status, bound = field('attempt'), field('status'), field('flow_run_id')
local own = field('run:' .. run) or (named ~= '' and named) or (bound == run and attempt)
if own and own ~= attempt then return SUPERSEDED end
if status == 'SUCCEEDED' then return SUCCEEDED end
if status == 'QUEUED' and ((own and (not bound or bound == run)) or not (own or bound)) then
  if is_held then return HELD end
  return open()
end
if own and bound and bound ~= run then return OTHER_RUN end
if own and field('cancelled') then return CANCELLED end
if own and not is_retried then return status == 'FAILED' and ENDED or HELD end
local is_rented = not own and status ~= 'FAILED' and bound and field('nosana_run_id') ~= bound
if is_held or is_rented then return HELD end
advance(KEYS[4], KEYS[5], ARGV[1], now, ttl, '')
return open()
"""
)

# Opens the next attempt and returns its number. KEYS: job, lease, active jobs, events.
# ARGV: current attempt, now, holder, job_id, ttl, '1' to refuse if cancelled, reason why the current attempt failed.
REOPEN = (
    RECORD
    + ATTEMPTS
    + CURRENT_ATTEMPT_ONLY
    + """
if field('status') == 'SUCCEEDED' then return SUCCEEDED end
if ARGV[6] == '1' and field('cancelled') then return CANCELLED end
local lease = redis.call('GET', KEYS[2])
if lease and lease ~= ARGV[3] then return HELD end
return advance(KEYS[3], KEYS[4], ARGV[4], ARGV[2], ARGV[5], ARGV[7])
"""
)

# Records the flow run of an attempt. Returns ENDED if the attempt has failed meanwhile. KEYS: job. ARGV: attempt, run.
BIND = (
    RECORD
    + ATTEMPTS
    + CURRENT_ATTEMPT_ONLY
    + """
local bound = field('flow_run_id')
if bound and bound ~= ARGV[2] then return OTHER_RUN end
bind(ARGV[2])
return field('status') == 'FAILED' and ENDED or 1
"""
)

# Applies a report. KEYS: job, events, active jobs, totals.
# ARGV: attempt ('' means the current one), status, stage, progress, message, error, now, ttl.
REPORT = (
    RECORD
    + REPORTS
    + CURRENT_ATTEMPT_ONLY
    + "return apply(ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8])"
)

# Cancels an attempt, even if it has failed meanwhile, unless a stolen grant ended it.
# KEYS: job, events, active jobs, totals. ARGV: attempt, error, now, ttl.
CANCEL = (
    RECORD
    + REPORTS
    + CURRENT_ATTEMPT_ONLY
    + """
if field('status') == 'SUCCEEDED' then return SUCCEEDED end
if field('alarm') then return ENDED end
fail(ARGV[2], ARGV[3], ARGV[4])
set('cancelled', '1', 'error', ARGV[2], 'message', ARGV[2], 'reason:' .. field('attempt'), ARGV[2])
return 1
"""
)

# Retries an attempt that was lost: opens the next one, due after a pause that grows with each retry. When no retry is
# left, the job fails.
# KEYS: job, events, active jobs, totals. ARGV: attempt, reason, error when no retry is left, now, ttl, most retries,
# first pause in seconds, growth factor, longest pause. Returns 1 if another attempt follows, 2 if the job has failed.
RETRY = (
    RECORD
    + ATTEMPTS
    + REPORTS
    + CURRENT_ATTEMPT_ONLY
    + """
if has_ended() then return ENDED end
local now, retries = ARGV[4], tonumber(field('again') or '0')
if retries >= tonumber(ARGV[6]) then
  fail(ARGV[3], now, ARGV[5])
  set('reason:' .. ARGV[1], ARGV[2])
  return 2
end
local pause = math.min(tonumber(ARGV[7]) * tonumber(ARGV[8]) ^ retries, tonumber(ARGV[9]))
local attempt = advance(KEYS[3], KEYS[2], field('job_id'), now, ARGV[5], ARGV[2])
local message = ARGV[2] .. ' The next attempt starts in ' .. math.ceil(pause) .. ' seconds.'
set('again', tostring(retries + 1), 'again_at', string.format('%.3f', now + pause), 'message', message)
add_event(KEYS[2], tostring(attempt), 'QUEUED', first_stage, '0', message, '')
return 1
"""
)

# Fails the attempt because its run could not be started. Refuses if the attempt has a run other than this one.
# KEYS: job, events, active jobs, totals. ARGV: attempt, error, now, ttl, run or ''.
START_FAILED = (
    RECORD
    + REPORTS
    + CURRENT_ATTEMPT_ONLY
    + """
local bound = field('flow_run_id')
if bound and bound ~= ARGV[5] then return OTHER_RUN end
local answer = fail(ARGV[2], ARGV[3], ARGV[4])
if answer == 1 then set('start_error', ARGV[2]) end
return answer
"""
)

# Sets a field of an unfinished attempt. KEYS: job. ARGV: attempt, field, value.
SET_FIELD = (
    RECORD
    + CURRENT_ATTEMPT_ONLY
    + """
if has_ended() then return ENDED end
set(ARGV[2], ARGV[3])
return 1
"""
)

# Adds a cost, once per item, even if its attempt is no longer the current one. KEYS: job. ARGV: item, usd.
COST = (
    RECORD
    + KNOWN_JOB_ONLY
    + """
if set_once('cost:' .. ARGV[1], ARGV[2]) then redis.call('HINCRBYFLOAT', KEYS[1], 'cost_usd', ARGV[2]) end
return 1
"""
)

# Removes a job without a record from a set, and from the waiting jobs. KEYS: job, set. ARGV: job_id.
FORGET = (
    RECORD
    + """
if field('job_id') then return 0 end
stop_waiting(ARGV[1])
return redis.call('SREM', KEYS[2], ARGV[1])
"""
)

# Counts a job as waiting if, according to its record, it waits. KEYS: job. ARGV: job_id.
COUNT = (
    RECORD
    + """
note_waiting(ARGV[1])
return 1
"""
)
