-- Publishing.

-- Numbers, stores and publishes a message. It is published even if it cannot be stored: then the room's history ends,
-- and a client that has missed it is informed.
local function publish(base, data, ephemeral, fence, token)
  local meta, stream = base .. ':m', base .. ':s'
  local fields = redis.call('HMGET', meta, 'e', 'n', 'a', 'o', 'b', 'c', 'r', fence and ('f:' .. fence) or 'e')
  local epoch = fields[1]
  if fence then
    if fields[8] and tonumber(fields[8]) > token then return -1 end
    if epoch then write('HSET', meta, 'f:' .. fence, text(token)) end
  end
  if not epoch then return 0 end
  if ephemeral then
    send(base, '-\n' .. data)
    return 0
  end
  local offset, size = tonumber(fields[4]) + 1, #data + ENTRY_OVERHEAD_BYTES
  local before, start = tonumber(fields[5] or 0), tonumber(fields[6] or 0)
  local published, limit = before + size, tonumber(fields[7] or MAX_STREAM_BYTES)
  write('HSET', meta, 'o', text(offset), 'b', text(published))
  local stored
  if not full and size <= limit then
    local count = math.max(tonumber(fields[2] or 0), MIN_STREAM_MESSAGES)
    local age = math.max(tonumber(fields[3] or 0), MIN_STREAM_MS)
    stored = redis.pcall('XADD', stream, 'MAXLEN', text(count), text(offset) .. '-1', 't', text(now), 'd', data, 'b', text(published))
    stored = type(stored) == 'string'
    if stored then
      redis.call('PEXPIRE', stream, text(age))
      local known = before - start
      if known == 0 or level(known) ~= level(known + size) or known + size > limit then
        stored = pcall(bound, base, published, start, limit, age)
      end
    end
  end
  if not stored then pcall(drop_history, base, published) end
  send(base, epoch .. ':' .. text(offset) .. (fields[2] and ':1\n' or ':0\n') .. data)
  return offset
end

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

-- A SET of a key that does not exist, and only if it exists: it changes nothing, but finds out whether Redis is full.
write('SET', prefix .. batch[1][2] .. ':q', '', 'XX')
