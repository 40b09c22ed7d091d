-- The leases of workers, and the schedules of their holders.

local function is_held(name, holder, token)
  return redis.call('GET', nodes .. 'l:' .. name) == holder and redis.call('HGET', nodes .. 'f', name) == text(token)
end

-- Keeps a schedule for a few intervals: its hash lives as long as the slowest schedule needs.
local function extend_schedule(key, interval)
  local ms = math.max(SCHEDULE_INTERVALS * interval, ROOM_TTL_MS)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, text(ms)) end
end

-- Stores schedules, given as names and values in turn, that Redis does not have: it has lost its data.
local function restore(name, schedules)
  local key = nodes .. 's:' .. name
  for i = 1, #schedules, 2 do
    if redis.call('HSETNX', key, schedules[i], schedules[i + 1]) == 1 then
      extend_schedule(key, tonumber(string.match(schedules[i + 1], '%d+$')))
    end
  end
end

-- Acquires a lease. Returns a token above the last one, even if that was lost, or the negated rest of the lease's time;
-- and the schedules. A node that does not hold the lease, but is its holder in Redis, has missed a reply.
function operations.acquire(base, name, holder, ms, is_unheld, schedules)
  local lease = nodes .. 'l:' .. name
  local is_missed = is_unheld and redis.call('GET', lease) == holder
  local result
  if is_missed or not redis.call('GET', lease) then
    redis.call('SET', lease, holder, 'PX', text(ms))
    result = math.max(tonumber(redis.call('HGET', nodes .. 'f', name) or 0) + 1, now)
    redis.call('HSET', nodes .. 'f', name, text(result))
    restore(name, schedules)
  else
    local rest = redis.call('PTTL', lease)
    -- A time that is further away is from before a change of the clock.
    if rest < 0 or rest > ms then redis.call('PEXPIRE', lease, text(ms)) end
    result = -math.min(math.max(rest, 1), ms)
  end
  return {result, redis.call('HGETALL', nodes .. 's:' .. name)}
end

-- Extends a lease; acquires it again for its holder if Redis has lost its data and nobody else has acquired it.
function operations.renew(base, name, holder, token, ms, schedules)
  local lease = nodes .. 'l:' .. name
  local is_lost = redis.call('EXISTS', lease) == 0 and redis.call('HEXISTS', nodes .. 'f', name) == 0
  if not is_lost and not is_held(name, holder, token) then return 0 end
  redis.call('SET', lease, holder, 'PX', text(ms))
  if is_lost then redis.call('HSET', nodes .. 'f', name, text(token)) end
  restore(name, schedules)
  return 1
end

function operations.release(base, name, holder, token)
  if is_held(name, holder, token) then redis.call('DEL', nodes .. 'l:' .. name) end
  return 1
end

-- Takes the next tick of a schedule if it is due and the caller knows the last one, so that a repeated call takes it
-- once. Returns the time of the last tick, the milliseconds until the next one and 1 if this call or an earlier one of
-- the same caller, whose reply was lost, has taken a tick; an empty list if the lease is not held.
function operations.tick(base, name, holder, token, schedule, interval, known)
  if not is_held(name, holder, token) then return {} end
  local key = nodes .. 's:' .. name
  local stored = redis.call('HGET', key, schedule)
  local last = tonumber(stored and string.match(stored, '^%d+') or known or now)
  local taken = known and last > known
  if not taken then
    -- A time that is further away is from before a change of the clock.
    last = math.min(last, now)
    local due = math.floor((now - last) / interval)
    taken = known and due > 0
    if taken then last = last + due * interval end
  end
  redis.call('HSET', key, schedule, text(last) .. ' ' .. text(interval))
  extend_schedule(key, interval)
  return {last, last + interval - now, taken and 1 or 0}
end

return execute(operations)
