-- Publishing.

-- The time until which new users wait only because a room may have been lost has a fraction, unlike that of a recovery.
local function suspicion() return text(now + SUSPICION_MS - 1) .. '.5' end
local function is_suspicion(ends) return ends % 1 > 0 end

-- The number of a generation of a room's presence that begins, or of a loss: a time that does not go back with the clock.
local function next_number(meta)
  return math.max(now, (redis.call('HGET', meta, 'g') or 0) + 1)
end

-- Begins a room's numbering and history: those of a new room, or of one whose last changes were or may have been lost.
-- Tokens and bounds are kept. Returns the epoch.
local function create_room(base, subscribers)
  local epoch, meta = new_name(base), base .. ':m'
  local number = text(next_number(meta))
  write('HSET', meta, 'e', epoch, 'o', 0, 'b', 0, 'c', 0, 'q', 0, 'x', 0, 'l', number, 'g', number, 'u', server_id())
  use_history().drop(base)
  local others = subscribers_of(base) - subscribers
  -- Without a node the room lives a little longer than its stream.
  local life = (subscribers > 0 or others > 0) and ROOM_TTL_MS or 2 * MIN_STREAM_MS
  redis.call('PEXPIRE', meta, text(math.max(life, tonumber(redis.call('HGET', meta, 'a') or 0))))
  if redis.call('EXISTS', base .. ':p') == 1 then redis.call('HSET', meta, 'p', 1) end
  -- A node that has subscribed has usually created the room before: it may have been lost, and its presence with it. The
  -- nodes are asked, and new users wait for their answers.
  if others > 0 then
    redis.call('HSET', meta, 'y', suspicion())
    send(base, '!lost\n')
  end
  return epoch
end

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
-- no lease; 'replaced' if a newer worker has published here.
local function publish(base, data, ephemeral, node, worker, token, change, request)
  local meta, stream = base .. ':m', base .. ':s'
  if node and not has_lease(base, node) then return 'fenced' end
  local token_field = worker and ('f:' .. worker) or 'e'
  local fields = redis.call('HMGET', meta, 'e', 'n', 'a', 'o', 'b', 'q', 'x', token_field, 'u')
  local epoch = fields[1]
  if not epoch or is_of_another_server(fields[9]) then
    epoch = create_room(base, 0)
    fields[4], fields[5], fields[6], fields[7] = 0, 0, 0, 0
  else
    record_server(meta, fields[9])
  end
  if worker then
    if fields[8] and tonumber(fields[8]) > token then return 'replaced' end
    write('HSET', meta, 'f:' .. worker, text(token))
  end
  if ephemeral then
    send(base, '-\n' .. data)
    return epoch .. ':' .. text(fields[4])
  end
  local offset = text(fields[4] + 1)
  local published = text((fields[5] or 0) + #data + ENTRY_OVERHEAD_BYTES)
  write('HSET', meta, 'o', offset, 'b', published)
  local count = math.max(fields[2] or 0, MIN_STREAM_MESSAGES)
  local stored = not full
    and redis.pcall('XADD', stream, 'MAXLEN', count, offset .. '-1', 't', text(now), 'd', data, 'b', published)
  stored = type(stored) == 'string'
  if stored then
    local age = math.max(fields[3] or 0, MIN_STREAM_MS)
    -- PERF: the life of the stream is extended by a quarter more, and then not for so long. A time that is further away
    -- is from before a change of the clock.
    local extended_until = tonumber(fields[7] or 0)
    if now >= extended_until or extended_until > now + age then
      redis.call('PEXPIRE', stream, text(age * 5 / 4))
      redis.call('HSET', meta, 'x', text(now + age / 4))
    end
    if tonumber(published) >= tonumber(fields[6] or 0) then
      local rest = redis.call('HMGET', meta, 'c', 'r')
      local start, limit = tonumber(rest[1] or 0), tonumber(rest[2] or MAX_STREAM_BYTES)
      stored = pcall(use_history().keep_bounds, base, tonumber(offset), tonumber(published), start, limit, age)
    end
  end
  if not stored then pcall(use_history().drop, base, published) end
  local shown = (fields[2] and ':1:' or ':0:') .. text(now)
  send(base, epoch .. ':' .. offset .. shown .. (change and ':' .. change or '') .. '\n' .. data)
  if request then mark_published(unpack(request)) end
  return epoch .. ':' .. offset
end

local function run(operation, op)
  local base = prefix .. op[2]
  local done, result = pcall(operation, base, unpack(op, 3, 12))
  if done then return result end
  local message = type(result) == 'table' and result.err or tostring(result)
  if string.find(message, 'WRONGTYPE', 1, true) then
    repair(base, op)
    done, result = pcall(operation, base, unpack(op, 3, 12))
    if done then return result end
  end
  return type(result) == 'table' and result or redis.error_reply('ERR ' .. tostring(result))
end

local function execute(function_of)
  local results = {}
  for i, op in ipairs(batch) do results[i] = run(function_of(op[1]), op) end
  results[#batch + 1] = now
  return results
end

local function has_only(operations)
  for _, op in ipairs(batch) do
    if not operations[op[1]] then return false end
  end
  return true
end

-- PERF: most calls only publish; they skip the definition of all other operations.
if has_only({publish = true}) then return execute(function() return publish end) end

-- A SET of a key that does not exist, and only if it exists: it changes nothing, but finds out whether Redis is full.
write('SET', prefix .. batch[1][2] .. ':q', '', 'XX')
