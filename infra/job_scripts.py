"""Transitions of a job as Lua scripts: each is one step to every reader and writer.

Keys and arguments stand above each script. Times are seconds since the epoch.
"""

# KEYS: job, all jobs (sorted by creation), active jobs. ARGV: job_id, request JSON, now, ttl, owner, client, claim,
# how many jobs of all clients may wait and how many of this one ('0' any).
# 1 created; 0 it exists; -1 too many wait; -2 too many of this client wait. What no client asked for is not counted.
CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
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
redis.call('HSET', KEYS[1], 'job_id', ARGV[1], 'status', 'QUEUED', 'stage', 'DOWNLOAD', 'progress', '0',
  'attempt', '1', 'request', ARGV[2], 'created_at', ARGV[3], 'updated_at', ARGV[3])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'owner', ARGV[5]) end
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'client', ARGV[6]) end
if ARGV[7] ~= '' then redis.call('HSET', KEYS[1], 'claim', ARGV[7]) end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', ARGV[3] - ARGV[4])
redis.call('SADD', KEYS[3], ARGV[1])
return 1
"""

# KEYS: job, events, lease, all jobs, active jobs. ARGV: job_id. 1 gone; 0 no such job; -1 it has not ended.
DELETE = """
local job = redis.call('HMGET', KEYS[1], 'status', 'claim')
if not job[1] then return 0 end
if job[1] ~= 'SUCCEEDED' and job[1] ~= 'FAILED' then return -1 end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('SREM', KEYS[5], ARGV[1])
if job[2] then redis.call('DEL', job[2]) end
return 1
"""

# KEYS: job, events, active jobs, totals.
# ARGV: attempt ('' is the one that runs), status, stage, progress, message, error, now, ttl, job_id.
# 1 taken; 0 too late, from another attempt, or would go back: nothing is changed; -1 no job.
REPORT = """
local rank = {DOWNLOAD=1, TRANSCRIPT=2, CHUNK=3, SELECT=4, RENDER=5, UPLOAD=6, DONE=7}
local job = redis.call('HMGET', KEYS[1], 'attempt', 'status', 'progress', 'stage', 'message')
local attempt, status, progress, stage = job[1], job[2], tonumber(job[3]), job[4]
if not attempt then return -1 end
if ARGV[1] ~= '' and ARGV[1] ~= attempt then return 0 end
if status == 'SUCCEEDED' or status == 'FAILED' then return 0 end
if ARGV[2] == 'QUEUED' and status == 'RUNNING' then return 0 end
local final = ARGV[2] == 'SUCCEEDED' or ARGV[2] == 'FAILED'
local given, now = tonumber(ARGV[4]), ARGV[7]
local said = ARGV[3] ~= '' and ARGV[3] or stage
if not final and given and given < progress then return 0 end
if rank[said] < rank[stage] then
  if not final then return 0 end
  said = stage
end
if given and given > progress then progress = given end
if ARGV[2] == status and said == stage and tostring(progress) == job[3] and ARGV[5] == (job[5] or '') then return 1 end
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'stage', said, 'progress', tostring(progress),
  'message', ARGV[5], 'updated_at', now)
if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'error', ARGV[6]) end
local function ended(name)
  local began = redis.call('HGET', KEYS[1], 'began:' .. attempt .. ':' .. name)
  if began and redis.call('HSETNX', KEYS[1], 'ended:' .. attempt .. ':' .. name, now) == 1 and ARGV[2] ~= 'FAILED' then
    redis.call('HINCRBYFLOAT', KEYS[4], 'seconds:' .. name, now - began)
    redis.call('HINCRBY', KEYS[4], 'count:' .. name, 1)
  end
end
if said ~= stage or final then ended(stage) end
if said ~= 'DONE' and ARGV[2] == 'RUNNING' then
  redis.call('HSETNX', KEYS[1], 'began:' .. attempt .. ':' .. said, now)
end
if final then
  redis.call('SREM', KEYS[3], ARGV[9])
  redis.call('HINCRBY', KEYS[4], 'finished:' .. ARGV[2], 1)
end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 2000, '*', 'attempt', attempt, 'status', ARGV[2],
  'stage', said, 'progress', tostring(progress), 'message', ARGV[5], 'error', ARGV[6])
redis.call('EXPIRE', KEYS[1], ARGV[8]); redis.call('EXPIRE', KEYS[2], ARGV[8])
return 1
"""

# KEYS: job, lease, active jobs, events. ARGV: now, holder, job_id, ttl, attempt that is to be followed ('' any).
# The new attempt's number; 0 no job, -1 succeeded, -2 another process runs it, -3 followed already.
REOPEN = """
local job = redis.call('HMGET', KEYS[1], 'attempt', 'status')
if not job[1] then return 0 end
if job[2] == 'SUCCEEDED' then return -1 end
if ARGV[5] ~= '' and job[1] ~= ARGV[5] then return -3 end
local lease = redis.call('GET', KEYS[2])
if lease and lease ~= ARGV[2] then return -2 end
local attempt = tonumber(job[1]) + 1
redis.call('HSET', KEYS[1], 'attempt', tostring(attempt), 'status', 'QUEUED', 'stage', 'DOWNLOAD',
  'progress', '0', 'message', '', 'updated_at', ARGV[1])
redis.call('HDEL', KEYS[1], 'error', 'start_error', 'is_leased')
redis.call('SADD', KEYS[3], ARGV[3])
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 2000, '*', 'attempt', tostring(attempt), 'status', 'QUEUED',
  'stage', 'DOWNLOAD', 'progress', '0', 'message', '', 'error', '')
redis.call('EXPIRE', KEYS[1], ARGV[4]); redis.call('EXPIRE', KEYS[4], ARGV[4])
return attempt
"""

# KEYS: lease. ARGV: holder. Deletes the lease only if it is the holder's own.
RELEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"

# KEYS: counter. ARGV: seconds it lives. How often it was counted in its life.
COUNT = """
local n = redis.call('INCR', KEYS[1])
if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end
return n
"""
