-- The start of each call. script.py joins the files to one script, documents the keys and defines the constants in
-- capitals.

local prefix, sharded, history_bytes = ARGV[1] .. ':', ARGV[2] == '1', tonumber(ARGV[5] or 0)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A call that was delayed beyond its deadline must not undo newer ones.
if now > tonumber(ARGV[4]) then return {now} end

local batch = cmsgpack.unpack(ARGV[3])
local nodes = prefix .. '{%nodes}:'

local function text(number) return string.format('%.0f', number) end

local function send(channel, data)
  return redis.call(sharded and 'SPUBLISH' or 'PUBLISH', channel, data)
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
