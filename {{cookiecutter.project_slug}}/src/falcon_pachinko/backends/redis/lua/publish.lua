-- Publishing.

-- Numbers, stores and publishes a message. It is published even if it cannot be stored: then the room's history ends,
-- and a client that has missed it is informed.
local function publish(base, data, ephemeral, fence, token)
  local meta, stream = base .. ':m', base .. ':s'
  local fields = redis.call('HMGET', meta, 'e', 'n', 'a', 'o', 'b', 'q', 'x', fence and ('f:' .. fence) or 'e')
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
  send(base, epoch .. ':' .. offset .. (fields[2] and ':1\n' or ':0\n') .. data)
  return tonumber(offset)
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
