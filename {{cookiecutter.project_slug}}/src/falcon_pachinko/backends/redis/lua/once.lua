-- Requests that are handled once: their executions and replies, by client and reference. All clients of a user share a
-- slot.

-- The value of a request is '<state> <end> <token>', a line feed and the reply. The states: r, it is being handled; p, so
-- it is, and a message was published; d, it was handled; x, its execution was interrupted.
local function keys_of_client(base, client)
  return base .. ':r:' .. client, base .. ':o:' .. client
end

-- Returns the state, the token and the reply of a request that has not expired.
local function find_request(base, client, ref)
  local requests, order = keys_of_client(base, client)
  local value = redis.pcall('HGET', requests, ref)
  if type(value) == 'table' then
    redis.call('DEL', requests, order)
    return
  end
  local state, ends, token, reply = string.match(value or '', '^(%l) (%d+) (%S+)\n(.*)$')
  if state and now < tonumber(ends) then return state, token, reply end
end

local function drop_request(base, client, ref)
  local requests, order = keys_of_client(base, client)
  local value = redis.call('HGET', requests, ref)
  if value then
    redis.call('HDEL', requests, ref)
    redis.call('HINCRBY', requests, '', -(#ref + #value))
  end
  redis.call('ZREM', order, ref)
end

-- Extends the life of a key: another class of resources may keep its replies for longer.
local function keep(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, text(ms)) end
end

-- Drops the oldest requests of a client above the bounds. Without their order, which was lost, all others are dropped.
local function keep_once_bounds(base, client, ref, value)
  local requests, order = keys_of_client(base, client)
  while true do
    local size = tonumber(redis.call('HGET', requests, '') or 0)
    -- The field '' is the size.
    if redis.call('HLEN', requests) - 1 <= MAX_REPLIES and size <= MAX_REPLY_BYTES then return end
    local oldest = redis.call('ZRANGE', order, 0, 0)[1]
    if not oldest or oldest == ref then
      redis.call('DEL', requests)
      redis.call('HSET', requests, ref, value, '', #ref + #value)
      return
    end
    drop_request(base, client, oldest)
  end
end

local function store_request(base, client, ref, state, token, ms, reply)
  local requests, order = keys_of_client(base, client)
  local index = base .. ':i'
  local value = state .. ' ' .. text(now + ms) .. ' ' .. token .. '\n' .. reply
  if type(redis.pcall('ZSCORE', order, ref)) == 'table' then redis.call('DEL', order) end
  if type(redis.pcall('ZSCORE', index, client)) == 'table' then redis.call('DEL', index) end
  drop_request(base, client, ref)
  write('HSET', requests, ref, value)
  redis.call('HINCRBY', requests, '', #ref + #value)
  redis.call('ZADD', order, text(time[1] * 1000000 + time[2]), ref)
  redis.call('ZADD', index, text(now), client)
  keep_once_bounds(base, client, ref, value)
  keep(requests, ms)
  keep(order, ms)
  keep(index, ms)
  while redis.call('ZCARD', index) > MAX_CLIENTS do
    local oldest = redis.call('ZRANGE', index, 0, 0)[1]
    redis.call('ZREM', index, oldest)
    redis.call('UNLINK', keys_of_client(base, oldest))
  end
end

-- Claims a request for an execution. Returns its state: new, running with the token of the other execution, done with the
-- reply, or interrupted. The execution 'ended' has ended without an outcome; 'again' if the request may be handled again
-- after it.
function operations.claim_request(base, client, ref, token, ms, ended, again)
  local state, holder, reply = find_request(base, client, ref)
  if state == 'd' then return {'done', reply} end
  if state == 'x' and not again then return {'interrupted', ''} end
  if state == 'r' or state == 'p' then
    if holder ~= ended then return {'running', holder} end
    if state == 'p' then
      store_request(base, client, ref, 'd', token, ms, '')
      return {'done', ''}
    elseif not again then
      store_request(base, client, ref, 'x', token, ms, '')
      return {'interrupted', ''}
    end
  end
  store_request(base, client, ref, 'r', token, ms, '')
  return {'new', ''}
end

-- Stores the reply of an execution, unless another one was faster.
function operations.finish_request(base, client, ref, token, ms, reply)
  local state, holder = find_request(base, client, ref)
  if state == 'd' and holder ~= token then return 0 end
  store_request(base, client, ref, 'd', token, ms, reply)
  return 1
end

-- Ends an execution without a reply. One that has published is done. Otherwise the request may be handled again, or is
-- interrupted, also if its claim was lost.
function operations.release_request(base, client, ref, token, ms, again)
  local state, holder = find_request(base, client, ref)
  if state and holder ~= token then return 0 end
  if state == 'p' then
    store_request(base, client, ref, 'd', token, ms, '')
  elseif not again then
    store_request(base, client, ref, 'x', token, ms, '')
  elseif state then
    drop_request(base, client, ref)
  end
  return 1
end
