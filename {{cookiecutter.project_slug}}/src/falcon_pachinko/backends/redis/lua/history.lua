-- The bytes of the histories: those of a room, and those of all rooms of a server.
-- On a cluster the rooms of one server have no slot in common, and only the former are bounded.


local history

-- Returns the functions of this file. PERF: most calls need none of them, and skip their definition.
local function use_history()
  if history then return history end
  history = {index = nodes .. 'h', expiries = nodes .. 'hx', sum = nodes .. 'hb'}
  local index, expiries, sum = history.index, history.expiries, history.sum

  local function record_or_fail(tag, size, age)
    local known = tonumber(redis.call('ZSCORE', index, tag) or 0)
    local changed, planned
    if size > 0 then
      size = size + STREAM_OVERHEAD_BYTES
      changed = redis.call('ZADD', index, text(size), tag)
      planned = redis.call('ZADD', expiries, text(now + age), tag)
    else
      changed = redis.call('ZREM', index, tag)
      planned = redis.call('ZREM', expiries, tag)
    end
    if changed ~= planned then error('a key is lost') end
    if size == known then return tonumber(redis.call('GET', sum) or 0) end
    local all = redis.call('INCRBY', sum, text(size - known))
    local others = redis.call('ZCARD', index) - (size > 0 and 1 or 0)
    if all < size + others or (others == 0 and all > size) then error('a key is lost') end
    -- Without a node that extends its life, the index expires.
    if others == 0 and size > 0 then
      for _, key in ipairs({index, expiries, sum}) do redis.call('PEXPIRE', key, text(age + ROOM_TTL_MS)) end
    end
    return all
  end

  -- Records the size of a room's history, 0 for none. Returns the size of all histories. If a key of the index is lost
  -- or of a wrong type, all are dropped; rooms are added to the new ones when they are measured next.
  local function record(tag, size, age)
    for _ = 1, 2 do
      local done, all = pcall(record_or_fail, tag, size, age)
      if done then return all end
      redis.call('DEL', index, expiries, sum)
    end
    return 0
  end

  local function is_complete()
    local count = redis.call('ZCARD', index)
    return count == redis.call('ZCARD', expiries) and (tonumber(redis.call('GET', sum)) or 0) >= count
  end

  -- Drops the index if one of its keys is lost or of a wrong type.
  function history.check_index()
    local done, complete = pcall(is_complete)
    if not (done and complete) then redis.call('DEL', index, expiries, sum) end
  end

  -- Returns the bytes published before an entry of a stream; nil for an entry of an earlier version.
  local function published_before(item)
    local fields = item[2]
    return fields[6] and fields[6] - #fields[4] - ENTRY_OVERHEAD_BYTES
  end

  -- Deletes a room's stream. The next one has no expiry yet, so that its first message has to set one.
  local function delete_stream(base)
    redis.call('DEL', base .. ':s')
    -- A deletion of a field does not create the room, and a key of a wrong type has none.
    redis.pcall('HDEL', base .. ':m', 'x')
  end

  -- Removes publications of an epoch from a room's stream. The room remembers the offsets of the last ones, so that their
  -- gaps are no loss.
  function history.retract(base, epoch, positions)
    local known = {}
    local stored = redis.call('HGET', base .. ':m', 'd') or ''
    for offset in string.gmatch(string.match(stored, '^' .. epoch .. '(.*)') or '', '%d+') do known[#known + 1] = offset end
    for _, position in ipairs(positions) do
      local id = position[1] == epoch and text(position[2])
      if id and redis.call('XDEL', base .. ':s', id .. '-1') == 1 then known[#known + 1] = id end
    end
    local first = math.max(1, #known - MAX_RETRACTED + 1)
    redis.call('HSET', base .. ':m', 'd', epoch .. ' ' .. table.concat(known, ' ', first))
  end

  -- Measures a room's stream and drops its oldest messages down to a size. Returns the new size.
  -- The offsets in a stream have few gaps, so that the number of messages to drop can be searched: first at the place
  -- that is right for messages of one size, then beside it, then by bisection.
  local function trim(base, last, published, start, size)
    local stream = base .. ':s'
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    if not oldest then return published, 0 end
    local first = tonumber(string.match(oldest[1], '^%d+'))
    start = published_before(oldest) or start
    local excess = published - start - size
    if excess <= 0 then return start, published - start end
    local least, most = 1, last - first + 1
    local guess, step = math.ceil(most * excess / (published - start)), 1
    while least < most do
      guess = math.max(least, math.min(guess, most - 1))
      local id = text(first + guess) .. '-1'
      -- A publication that has been retracted is missing: the next one will do.
      local item = redis.call('XRANGE', stream, id, '+', 'COUNT', 1)[1]
      local before = item and published_before(item)
      if before and published - before <= size then
        most, start = guess, before
        guess = guess - step
      else
        least = guess + 1
        guess = guess + step
      end
      step = step * 4
      if step > 4 then guess = math.floor((least + most) / 2) end
    end
    if most > last - first then
      delete_stream(base)
      return published, 0
    end
    redis.call('XTRIM', stream, 'MINID', text(first + most) .. '-0')
    return start, published - start
  end

  -- The part of a history that may be published before it is measured again.
  local function margin(size, limit)
    return math.floor(math.min(math.max(size / 4, 1024), math.max(limit - size, 0)))
  end

  -- Trims a room's history to a size, and records it with what may be added before it is measured again.
  local function bound(base, last, published, start, size, limit)
    start, size = trim(base, last, published, start, size)
    local more = size > 0 and margin(size, limit) or 0
    redis.call('HSET', base .. ':m', 'c', text(start), 'q', text(published + more))
    return size + more
  end

  -- Drops the oldest messages of the largest histories until all histories, whose size is given, are within the bound.
  function history.free(all)
    for _ = 1, MAX_TRIMMED_ROOMS do
      if all <= history_bytes then return end
      local tag, known = unpack(redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES'))
      if not tag then
        redis.call('DEL', expiries, sum)
        return
      end
      local base, size = prefix .. tag, 0
      local done, result = pcall(function()
        local fields = redis.call('HMGET', base .. ':m', 'o', 'b', 'c', 'r')
        if not fields[2] then
          delete_stream(base)
          return 0
        end
        local limit = tonumber(fields[4] or MAX_STREAM_BYTES)
        -- The recorded size includes the margin.
        local rest = tonumber(known) - STREAM_OVERHEAD_BYTES - (all - history_bytes)
        rest = math.max(math.floor(rest * 4 / 5), 0)
        return bound(base, tonumber(fields[1]), tonumber(fields[2]), tonumber(fields[3] or 0), rest, limit)
      end)
      if done then size = result end
      local ttl = redis.call('PTTL', base .. ':s')
      all = record(tag, size, ttl > 0 and ttl or MIN_STREAM_MS)
    end
  end

  -- Measures a room's history after a message, and keeps both bounds. Fails if a key is of a wrong type. Above the
  -- bound of the room a sixteenth more is dropped, so that large messages are not measured one by one.
  function history.keep_bounds(base, last, published, start, limit, age)
    local size = published - start > limit and limit * 15 / 16 or limit
    size = bound(base, last, published, start, size, limit)
    if sharded then return end
    local all = record(string.sub(base, #prefix + 1), size, age)
    if history_bytes > 0 then history.free(all) end
  end

  -- Gives a room's stream the age of its history to live. Returns it.
  function history.extend(base)
    local done, age = pcall(redis.call, 'HGET', base .. ':m', 'a')
    age = math.max(done and tonumber(age) or 0, MIN_STREAM_MS)
    redis.call('PEXPIRE', base .. ':s', text(age))
    redis.pcall('HDEL', base .. ':m', 'x')
    return age
  end

  -- Forgets a room's history. The room exists if the bytes published in it are given.
  function history.drop(base, published)
    delete_stream(base)
    if published then redis.call('HSET', base .. ':m', 'c', text(published), 'q', 0) end
    if not sharded then record(string.sub(base, #prefix + 1), 0) end
  end

  return history
end
