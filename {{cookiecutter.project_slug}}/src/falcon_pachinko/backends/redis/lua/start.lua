-- The start of each call. script.py joins the files to one script, documents the keys and defines the constants in
-- capitals.

local prefix, channel_prefix, sharded = ARGV[1] .. ':', ARGV[2] .. ':', ARGV[3] == '1'
local history_bytes = tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A call that was delayed beyond its deadline must not undo newer ones.
if now > tonumber(ARGV[5]) then return {now} end

local batch = cmsgpack.unpack(ARGV[4])
local nodes = prefix .. '{%nodes}:'

local function text(number) return string.format('%.0f', number) end

-- A name that no other call returns: of a room's epoch, or of the generation of its presence.
local names = 0
local function new_name(base)
  names = names + 1
  return string.sub(redis.sha1hex(base .. time[1] .. ':' .. time[2] .. ':' .. names .. ARGV[4]), 1, 16)
end

-- The server's replication id: each start and each promotion of a replica has another one, and so has a primary without
-- replicas once one is attached, or has been missing for an hour (changeReplicationId in syncCommand and replicationCron,
-- replication.c of Redis 7): a false alarm once. Empty without the right to INFO, or where a service hides it. Only the
-- server that executes the call can tell it: a connection may outlive a change of roles. PERF: 5 µs per call (measured),
-- of 40 for one that publishes one message.
local id_of_server
local function server_id()
  if not id_of_server then
    local info = redis.pcall('INFO', 'replication')
    local found = type(info) == 'string' and string.match(info, 'master_replid:(%x+)')
    id_of_server = found and string.sub(found, 1, 8) or ''
  end
  return id_of_server
end

-- Whether what is stored with the id of a server is from another one, which may have lost a part of it: a primary that
-- was replaced by a replica, or this one before a restart. Not where one of both ids is unknown.
local function is_of_another_server(stored)
  return (stored or '') ~= '' and server_id() ~= '' and stored ~= server_id()
end

local function channel_of(base)
  return channel_prefix .. string.sub(base, #prefix + 1)
end

local function send(base, data)
  return redis.call(sharded and 'SPUBLISH' or 'PUBLISH', channel_of(base), data)
end

local function subscribers_of(base)
  return redis.call('PUBSUB', sharded and 'SHARDNUMSUB' or 'NUMSUB', channel_of(base))[2]
end

-- Whether Redis is at maxmemory; nil until the first write.
local full

-- Executes a command that writes. At maxmemory Redis refuses commands that may take memory, unless the script has
-- written before (scriptVerifyOOM in script.c of Redis 7.0, the same in Valkey 9). Numbers, presence and the list of
-- nodes take little memory and are written nevertheless: without them the messages of a room would have no order. A
-- deletion that deletes nothing lifts the check; the history is not kept then.
local function write(...)
  if full ~= nil then return redis.call(...) end
  local result = redis.pcall(...)
  full = type(result) == 'table' and result.err ~= nil and string.sub(result.err, 1, 3) == 'OOM'
  if full then
    redis.call('DEL', prefix .. batch[1][2] .. ':q')
    return redis.call(...)
  end
  if type(result) == 'table' and result.err then error(result) end
  return result
end

-- Deletes the keys of a room, or those of the nodes that an operation uses, that are of a wrong type: they are lost. A
-- change of the presence is not finished then, so that all of it has to be built again.
local function repair(base, op)
  local types = {m = 'hash', s = 'stream', p = 'hash', n = 'zset', o = 'zset', k = 'zset'}
  if string.sub(base, 1, #nodes - 1) == string.sub(nodes, 1, -2) then
    types = {n = 'zset', v = 'string', b = 'hash', c = 'hash', f = 'hash', h = 'zset', hx = 'zset', hb = 'string'}
    for _, name in ipairs(op) do
      if type(name) == 'string' then
        types['r:' .. name], types['k:' .. name], types['l:' .. name] = 'set', 'set', 'string'
      end
    end
  end
  local presence_is_lost = false
  for suffix, expected in pairs(types) do
    local key = base .. ':' .. suffix
    local found = redis.call('TYPE', key).ok
    if found ~= 'none' and found ~= expected then
      redis.call('DEL', key)
      presence_is_lost = presence_is_lost or types.p and suffix ~= 'm' and suffix ~= 's'
    end
  end
  if presence_is_lost then
    redis.call('DEL', base .. ':p', base .. ':n', base .. ':o', base .. ':k')
  end
end
