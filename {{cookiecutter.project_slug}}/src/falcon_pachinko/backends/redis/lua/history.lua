-- The bytes of the histories: those of a room, and those of all rooms of a server.
-- On a cluster the rooms of one server have no slot in common, and only the former are bounded.

local index, expiries, sum = nodes .. 'h', nodes .. 'hx', nodes .. 'hb'

-- A size is recorded again when its level changes: every KiB, and every 16 KiB in a history of that size.
local function level(size)
  return size < 16384 and math.floor(size / 1024) or 15 + math.floor(size / 16384)
end

-- Records the size of a room's history, 0 for none. Returns the size of all histories.
local function record(tag, size, age)
  local known = tonumber(redis.call('ZSCORE', index, tag) or 0)
  if size > 0 then
    size = size + STREAM_OVERHEAD_BYTES
    redis.call('ZADD', index, text(size), tag)
    redis.call('ZADD', expiries, text(now + age), tag)
  elseif known > 0 then
    redis.call('ZREM', index, tag)
    redis.call('ZREM', expiries, tag)
  end
  if size == known then return 0 end
  return redis.call('INCRBY', sum, text(size - known))
end

-- Measures a room's stream, whose entries have the bytes published up to each of them, and drops its oldest messages
-- down to a size. Returns the new size.
local function trim(base, published, start, size)
  local stream, last = base .. ':s'
  local items = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)
  if items[1] then
    local fields = items[1][2]
    -- An entry of an earlier version has no such field.
    if fields[6] then start = fields[6] - #fields[4] - ENTRY_OVERHEAD_BYTES end
  else
    start = published
  end
  while items[1] and published - start > size do
    for _, item in ipairs(items) do
      last = item[1]
      start = item[2][6] and tonumber(item[2][6]) or start
      if published - start <= size then break end
    end
    if published - start > size then items = redis.call('XRANGE', stream, '(' .. last, '+', 'COUNT', 8) end
  end
  if not items[1] or published <= start then
    redis.call('DEL', stream)
    start = published
  elseif last then
    redis.call('XTRIM', stream, 'MINID', text(string.match(last, '^%d+') + 1) .. '-0')
  end
  redis.call('HSET', base .. ':m', 'c', text(start))
  return published - start
end

-- Drops the oldest messages of the largest histories until so many bytes are free.
local function free(bytes)
  for _ = 1, MAX_TRIMMED_ROOMS do
    local tag, known = unpack(redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES'))
    if bytes <= 0 or not tag then break end
    local base, size = prefix .. tag, 0
    known = tonumber(known)
    local done, result = pcall(function()
      local fields = redis.call('HMGET', base .. ':m', 'b', 'c')
      if not fields[1] then return redis.call('DEL', base .. ':s') and 0 end
      local rest = math.max(known - STREAM_OVERHEAD_BYTES - bytes, 0)
      return trim(base, tonumber(fields[1]), tonumber(fields[2] or 0), rest)
    end)
    if done then size = result end
    local ttl = redis.call('PTTL', base .. ':s')
    record(tag, size, ttl > 0 and ttl or MIN_STREAM_MS)
    bytes = bytes - known + (size > 0 and size + STREAM_OVERHEAD_BYTES or 0)
  end
end

-- Records the size of a room's history after a message, and keeps both bounds. Fails if a key is of a wrong type.
local function bound(base, published, start, limit, age)
  local size = trim(base, published, start, limit)
  if sharded then return end
  local all = record(string.sub(base, #prefix + 1), size, age)
  if history_bytes > 0 and all > history_bytes then free(all - history_bytes) end
end

-- Forgets a room's history.
local function drop_history(base, published)
  redis.call('DEL', base .. ':s')
  if published then redis.call('HSET', base .. ':m', 'c', text(published)) end
  if not sharded then record(string.sub(base, #prefix + 1), 0) end
end
