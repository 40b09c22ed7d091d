-- The operations of the nodes. script.py documents the keys and defines the constants in capitals.

local prefix, sharded = ARGV[1] .. ':', ARGV[2] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A call that was delayed beyond its deadline must not undo newer ones.
if now > tonumber(ARGV[4]) then return {now} end

local nodes = prefix .. '{%nodes}:'

local function text(number) return string.format('%.0f', number) end

local function send(channel, data)
  return redis.call(sharded and 'SPUBLISH' or 'PUBLISH', channel, data)
end

local function publish(base, data, ephemeral, fence, token)
  local meta = base .. ':m'
  local fields = redis.call('HMGET', meta, 'e', 'n', 'a', fence and ('f:' .. fence) or 'e')
  local epoch = fields[1]
  if fence then
    if fields[4] and tonumber(fields[4]) > token then return -1 end
    if epoch then redis.call('HSET', meta, 'f:' .. fence, text(token)) end
  end
  if not epoch then return 0 end
  if ephemeral then
    send(base, '-\n' .. data)
    return 0
  end
  local offset = redis.call('HINCRBY', meta, 'o', 1)
  local count = math.max(tonumber(fields[2] or 0), MIN_STREAM_MESSAGES)
  local age = math.max(tonumber(fields[3] or 0), MIN_STREAM_MS)
  redis.call('XADD', base .. ':s', 'MAXLEN', text(count), text(offset) .. '-1', 't', text(now), 'd', data)
  redis.call('PEXPIRE', base .. ':s', text(age))
  send(base, epoch .. ':' .. text(offset) .. (fields[2] and ':1\n' or ':0\n') .. data)
  return offset
end

local batch = cmsgpack.unpack(ARGV[3])

local function execute(function_of)
  local results = {}
  for i, op in ipairs(batch) do
    local done, result = pcall(function_of(op[1]), prefix .. op[2], unpack(op, 3, 12))
    if done or type(result) == 'table' then
      results[i] = result
    else
      results[i] = redis.error_reply('ERR ' .. tostring(result))
    end
  end
  results[#batch + 1] = now
  return results
end

-- PERF: most calls only publish; they skip the definition of all other operations.
local only_publishes = true
for _, op in ipairs(batch) do only_publishes = only_publishes and op[1] == 'publish' end
if only_publishes then return execute(function() return publish end) end

local function refresh(base)
  local age = tonumber(redis.call('HGET', base .. ':m', 'a') or 0)
  redis.call('PEXPIRE', base .. ':m', text(math.max(age, ROOM_TTL_MS)))
  redis.call('PEXPIRE', base .. ':p', ROOM_TTL_MS)
end

local function get_entry(base, key)
  local found = redis.call('HGET', base .. ':p', key)
  return found and cmsgpack.unpack(found)
end

local function set_entry(base, key, entry)
  redis.call('HSET', base .. ':p', key, cmsgpack.pack(entry))
  redis.call('PEXPIRE', base .. ':p', ROOM_TTL_MS)
end

local function remove_entry(base, key, entry)
  redis.call('HDEL', base .. ':p', key)
  if entry.l then publish(base, entry.l) end
end

local operations, entered = {}, 0

operations.publish = publish

function operations.send(base, data)
  return send(base, data)
end

-- Creates the room if necessary and returns its position and the publications after a known offset, or all of
-- them if the epoch is not the known one. A known offset ahead of the stored one means that Redis lost data.
function operations.subscribe(base, epoch, messages, age, known_epoch, known_offset, everything)
  local meta, stream = base .. ':m', base .. ':s'
  local stored = redis.call('HMGET', meta, 'e', 'o')
  local lost = stored[1] and stored[1] == known_epoch and tonumber(stored[2]) < known_offset
  if not stored[1] or lost then
    redis.call('DEL', stream)
    redis.call('HSET', meta, 'e', epoch, 'o', 0)
    stored = {epoch, '0'}
  end
  if messages > 0 then redis.call('HSET', meta, 'n', text(messages), 'a', text(age)) end
  refresh(base)
  local publications = {}
  local offset = tonumber(stored[2])
  if known_epoch or everything then
    local from = not everything and stored[1] == known_epoch and known_offset or 0
    if from < offset then
      for _, item in ipairs(redis.call('XRANGE', stream, '(' .. text(from) .. '-1', '+')) do
        table.insert(publications, item[1])
        table.insert(publications, item[2][2])
        table.insert(publications, item[2][4])
      end
    end
  end
  local shows_positions = redis.call('HEXISTS', meta, 'n')
  return {stored[1], offset, shows_positions, text(now), publications}
end

-- Extends the life of a room's keys.
function operations.refresh_room(base)
  refresh(base)
  return 1
end

-- Deletes the room with its last subscriber, or lets its history expire. Members without a subscriber belong to a
-- node that is cut off and will subscribe again.
function operations.unsubscribe(base)
  local subscribers = redis.call('PUBSUB', sharded and 'SHARDNUMSUB' or 'NUMSUB', base)
  if subscribers[2] > 0 then return 0 end
  local age = redis.call('HGET', base .. ':m', 'a')
  if not age then
    for _, entry in ipairs(redis.call('HVALS', base .. ':p')) do
      if next(cmsgpack.unpack(entry).c) then age = MIN_STREAM_MS end
    end
  end
  if age then
    redis.call('PEXPIRE', base .. ':m', age)
    redis.call('PEXPIRE', base .. ':s', age)
  else
    redis.call('DEL', base .. ':m', base .. ':s')
  end
  return 1
end

-- Adds a connection. Returns 1 for the user's first one.
function operations.enter(base, key, connection, node, join_message, leave_message)
  local entry = get_entry(base, key)
  local first = not entry
  entered = entered + 1
  if first then entry = {c = {}, s = time[1] * 1000000 + time[2] + entered} end
  entry.c[connection] = node
  entry.g, entry.n = nil, nil
  if leave_message then entry.l = leave_message end
  set_entry(base, key, entry)
  if first and join_message then publish(base, join_message) end
  return first and 1 or 0
end

-- Removes a connection. Returns 1 if the user has left, 2 if the grace period has begun.
function operations.leave(base, key, connection, node, grace)
  local entry = get_entry(base, key)
  if not entry then return 0 end
  if not entry.c[connection] then
    -- A repeated call, perhaps under another node name: the caller becomes the one that expires the entry.
    if not entry.g or next(entry.c) then return 0 end
    entry.n = node
    set_entry(base, key, entry)
    return 2
  end
  entry.c[connection] = nil
  if next(entry.c) then
    set_entry(base, key, entry)
    return 0
  end
  if grace > 0 then
    entry.g, entry.n = now + grace, node
    set_entry(base, key, entry)
    return 2
  end
  remove_entry(base, key, entry)
  return 1
end

-- Removes an entry whose grace period is over. Returns 1 if the period is still running.
function operations.expire(base, key)
  local entry = get_entry(base, key)
  if entry and entry.g and entry.g <= now and not next(entry.c) then remove_entry(base, key, entry) end
  return entry and entry.g and entry.g > now and 1 or 0
end

-- Removes a node's connections from a room except the given ones: all of them for an expired node. Returns whether
-- an entry is in its grace period, and those of the given connections that are not stored.
function operations.evict(base, node, connections)
  local all, pending, missing = redis.call('HGETALL', base .. ':p'), 0, {}
  for _, connection in ipairs(connections) do missing[connection] = true end
  for i = 1, #all, 2 do
    local key, entry, changed = all[i], cmsgpack.unpack(all[i + 1]), false
    for connection, of in pairs(entry.c) do
      if missing[connection] then
        missing[connection] = nil
      elseif of == node then
        entry.c[connection] = nil
        changed = true
      end
    end
    if not next(entry.c) and (changed or entry.n == node) then
      if entry.g and entry.g > now then pending = 1 else remove_entry(base, key, entry) end
    elseif changed then
      set_entry(base, key, entry)
    end
  end
  local names = {}
  for connection in pairs(missing) do table.insert(names, connection) end
  return {pending, names}
end

function operations.present(base, key)
  return redis.call('HEXISTS', base .. ':p', key)
end

function operations.members(base)
  local all, found = redis.call('HGETALL', base .. ':p'), {}
  for i = 1, #all, 2 do
    table.insert(found, all[i])
    table.insert(found, text(cmsgpack.unpack(all[i + 1]).s))
  end
  return found
end

-- Renews a node's lease. Returns 1 and the nodes that the caller has to evict, or 0 if the node is unknown (Redis lost
-- its data, or the node is being evicted). An unknown node does not become known by a repeated heartbeat, whose reply
-- may be lost, but only as a new one. No node is evicted if none could send heartbeats: then Redis was unavailable.
function operations.heartbeat(base, node, expiry, claim, is_new)
  local known = is_new or redis.call('ZSCORE', nodes .. 'n', node)
  if not known or redis.call('EXISTS', nodes .. 'x:' .. node) == 1 then return {0} end
  redis.call('ZADD', nodes .. 'n', text(now + expiry), node)
  local last = tonumber(redis.call('GET', nodes .. 'b') or now)
  redis.call('SET', nodes .. 'b', text(now), 'PX', ROOM_TTL_MS)
  local result = {1}
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', nodes .. 'n', '-inf', text(now))) do
    if now - last > 2 * claim then
      redis.call('ZADD', nodes .. 'n', text(now + expiry), expired)
    else
      redis.call('ZADD', nodes .. 'n', text(now + claim), expired)
      redis.call('SET', nodes .. 'x:' .. expired, '1', 'PX', ROOM_TTL_MS)
      table.insert(result, expired)
    end
  end
  return result
end

-- Deletes the keys of a node that has been evicted from all rooms.
function operations.remove_node(base, node)
  redis.call('ZREM', nodes .. 'n', node)
  redis.call('DEL', nodes .. 'r:' .. node, nodes .. 'x:' .. node)
  return 1
end

-- Stops a node in order: the others evict it when the grace periods of its users are over.
function operations.stop_node(base, node, ms)
  if redis.call('EXISTS', nodes .. 'r:' .. node) == 1 then
    redis.call('ZADD', nodes .. 'n', text(now + ms), node)
    redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  else
    redis.call('ZREM', nodes .. 'n', node)
  end
  return 1
end

function operations.add_rooms(base, node, rooms)
  redis.call('SADD', nodes .. 'r:' .. node, unpack(rooms))
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  return 1
end

function operations.remove_rooms(base, node, rooms)
  redis.call('SREM', nodes .. 'r:' .. node, unpack(rooms))
  return 1
end

function operations.refresh_rooms(base, node)
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  return 1
end

function operations.rooms_of(base, node)
  return redis.call('SMEMBERS', nodes .. 'r:' .. node)
end

function operations.live_nodes(base)
  return redis.call('ZRANGEBYSCORE', nodes .. 'n', '(' .. text(now), '+inf')
end

-- Acquires a lease. Returns a token above the last one, even if that was lost, or the negated rest of its time.
function operations.acquire(base, name, holder, ms)
  local lease = nodes .. 'l:' .. name
  if redis.call('SET', lease, holder, 'NX', 'PX', text(ms)) then
    local token = math.max(tonumber(redis.call('HGET', nodes .. 'f', name) or 0) + 1, now)
    redis.call('HSET', nodes .. 'f', name, text(token))
    return token
  end
  return -redis.call('PTTL', lease)
end

function operations.renew(base, name, holder, ms)
  local lease = nodes .. 'l:' .. name
  if redis.call('GET', lease) ~= holder then return 0 end
  return redis.call('PEXPIRE', lease, text(ms))
end

function operations.release(base, name, holder)
  local lease = nodes .. 'l:' .. name
  if redis.call('GET', lease) == holder then redis.call('DEL', lease) end
  return 1
end

return execute(function(name) return operations[name] end)
