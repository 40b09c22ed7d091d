-- The start of each call. script.py joins the files to one script, documents the keys and replaces the constants in
-- capitals by their values.

local prefix, channel_prefix, sharded = ARGV[1] .. ':', ARGV[2] .. ':', ARGV[3] == '1'
local history_bytes = tonumber(ARGV[6])
-- Whether nodes may have been unable to renew their leases.
local in_doubt = ARGV[7] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A call that was delayed beyond its deadline must not undo newer ones.
if now > tonumber(ARGV[5]) then return {now} end

local batch = cmsgpack.unpack(ARGV[4])
local nodes = prefix .. '{%nodes}:'

local function text(number) return string.format('%.0f', number) end

-- The server's replication id: each start and each promotion of a replica has another one, and so has a primary without
-- replicas once one is attached, or has been missing for an hour (changeReplicationId in syncCommand and replicationCron,
-- replication.c of Redis 7): a false alarm once. Empty without the right to INFO, or where a service hides it. Only the
-- server that executes the call can tell it: a connection may outlive a change of roles. PERF: a tenth of a call that
-- publishes one message (measured).
local id_of_server
local function server_id()
  if not id_of_server then
    local info = redis.pcall('INFO', 'replication')
    local _, ends = string.find(type(info) == 'string' and info or '', 'master_replid:', 1, true)
    id_of_server = ends and string.match(info, '^%x+', ends + 1) or ''
    id_of_server = string.sub(id_of_server, 1, 8)
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
