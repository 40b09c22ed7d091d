-- Publishing.

-- Records the server of a room that was numbered by a caller without the right to INFO, or by an earlier version.
local function record_server(meta, stored)
  if (stored or '') == '' and server_id() ~= '' then write('HSET', meta, 'u', server_id()) end
end

-- Returns whether a node may change the room: its lease there has not expired.
local function has_lease(base, node)
  local expires = redis.call('ZSCORE', base .. ':n', node)
  return expires and tonumber(expires) > now
end

-- Records that the handler of a request has published, which is its effect; see once.lua. The request is that of a client
-- with a slot of its own, so not on a cluster.
local function mark_published(tag, client, ref, token)
  local key = prefix .. tag .. ':r:' .. client
  local value = redis.pcall('HGET', key, ref)
  if type(value) == 'string' and string.match(value, '^r %d+ (%S+)\n') == token then
    redis.call('HSET', key, ref, 'p' .. string.sub(value, 2))
  end
end

-- Numbers, stores and publishes a message. It is published even if it cannot be stored: then the room's history ends,
-- and a client that has missed it is informed. Returns its position; 'fenced' if the node has members in the room and
-- no lease; 'replaced' if a newer worker has published here. Removes retracted publications from the history.
local function publish(base, data, ephemeral, node, worker, token, change, retracted, request)
  local meta, stream = base .. ':m', base .. ':s'
  if node and not has_lease(base, node) then return 'fenced' end
  local fields = redis.call('HMGET', meta, 'e', 'u', 'o', 'b', 'n', 'a', 'q', 'x')
  local epoch, server, last, bytes, messages, age, measured_at, extended_until = unpack(fields)
  if not epoch or is_of_another_server(server) then
    epoch = use_creation().create_room(base, 0)
    last, bytes, measured_at, extended_until = 0, 0, 0, 0
  else
    record_server(meta, server)
  end
  if worker then
    local latest = redis.call('HGET', meta, 'f:' .. worker)
    if latest and tonumber(latest) > token then return 'replaced' end
    write('HSET', meta, 'f:' .. worker, text(token))
  end
  if ephemeral then
    send(base, '-\n' .. data)
    return epoch .. ':' .. text(last)
  end
  local offset = text(last + 1)
  local published = (bytes or 0) + #data + ENTRY_OVERHEAD_BYTES
  write('HSET', meta, 'o', offset, 'b', published)
  -- PERF: text(now) costs twice as much. A number of 13 digits as an argument may become 1.8e+12 (Redis 7.2.0 to 7.2.4,
  -- https://github.com/redis/redis/issues/13113); Lua reads that of the bytes in any form.
  local at = time[1] .. string.format('%03d', time[2] / 1000)
  local count = math.max(messages or 0, MIN_STREAM_MESSAGES)
  local stored = not full
    and redis.pcall('XADD', stream, 'MAXLEN', count, offset .. '-1', 't', at, 'd', data, 'b', published)
  stored = type(stored) == 'string'
  if stored then
    age = math.max(age or 0, MIN_STREAM_MS)
    -- PERF: the life of the stream is extended by a quarter more, and then not for so long. A time that is further away
    -- is from before a change of the clock.
    extended_until = tonumber(extended_until or 0)
    if now >= extended_until or extended_until > now + age then
      redis.call('PEXPIRE', stream, text(age * 5 / 4))
      redis.call('HSET', meta, 'x', text(now + age / 4))
    end
    if published >= tonumber(measured_at or 0) then
      local rest = redis.call('HMGET', meta, 'c', 'r')
      local start, limit = tonumber(rest[1] or 0), tonumber(rest[2] or MAX_STREAM_BYTES)
      stored = pcall(use_history().keep_bounds, base, tonumber(offset), published, start, limit, age)
    end
  end
  if not stored then pcall(use_history().drop, base, published) end
  if retracted then pcall(use_history().retract, base, epoch, retracted) end
  local position = epoch .. ':' .. offset
  send(base, position .. (messages and ':1:' or ':0:') .. at .. (change and ':' .. change or '') .. '\n' .. data)
  if request then mark_published(unpack(request)) end
  return position
end

local function run(operation, op)
  local base = prefix .. op[2]
  local done, result = pcall(operation, base, unpack(op, 3, 12))
  if done then return result end
  local message = type(result) == 'table' and result.err or tostring(result)
  if string.find(message, 'WRONGTYPE', 1, true) then
    use_creation().repair(base, op)
    done, result = pcall(operation, base, unpack(op, 3, 12))
    if done then return result end
  end
  return type(result) == 'table' and result or redis.error_reply('ERR ' .. tostring(result))
end

local function execute(operations)
  local results = {}
  for i, op in ipairs(batch) do results[i] = run(operations[op[1]], op) end
  results[#batch + 1] = now
  return results
end

local function has_only(operations)
  for _, op in ipairs(batch) do
    if not operations[op[1]] then return false end
  end
  return true
end

local operations = {publish = publish}

-- PERF: most calls only publish; they skip the definition of all other operations.
if has_only(operations) then return execute(operations) end

-- A SET of a key that does not exist, and only if it exists: it changes nothing, but finds out whether Redis is full.
write('SET', prefix .. batch[1][2] .. ':q', '', 'XX')

use_creation()
local new_name, subscribers_of = creation.new_name, creation.subscribers_of
