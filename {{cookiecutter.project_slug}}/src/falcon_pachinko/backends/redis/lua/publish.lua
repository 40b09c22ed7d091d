-- Publishing. script.py joins the files to one script, documents the keys and defines the constants in capitals.

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
