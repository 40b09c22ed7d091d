-- Rooms and their histories.

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

-- Called after the node has subscribed to the channel: creates the room if necessary and returns its position and
-- the publications after a known offset, or all of them if the epoch is not the known one. A known offset ahead of the
-- stored one means that Redis lost data.
function operations.sync_room(base, epoch, messages, age, known_epoch, known_offset, everything, room_bytes)
  local meta, stream = base .. ':m', base .. ':s'
  local stored = redis.call('HMGET', meta, 'e', 'o', 'b')
  local lost = stored[1] and stored[1] == known_epoch and tonumber(stored[2]) < known_offset
  if not stored[1] or lost then
    use_history().drop(base)
    redis.call('HSET', meta, 'e', epoch, 'o', 0, 'b', 0, 'c', 0, 'q', 0, 'x', 0)
    stored = {epoch, '0'}
  end
  if messages > 0 then
    local limit = text(room_bytes or MAX_STREAM_BYTES)
    redis.call('HSET', meta, 'n', text(messages), 'a', text(age), 'r', limit)
  end
  refresh(base)
  local publications = {}
  local offset = tonumber(stored[2])
  if known_epoch or everything then
    local from = not everything and stored[1] == known_epoch and known_offset or 0
    if from < offset then
      local items = redis.pcall('XRANGE', stream, '(' .. text(from) .. '-1', '+')
      -- A key of a wrong type is a lost history.
      if items.err then use_history().drop(base, stored[3]) end
      for _, item in ipairs(items) do
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
function operations.release_room(base)
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
    redis.call('HDEL', base .. ':m', 'x')
  else
    redis.call('DEL', base .. ':m')
    use_history().drop(base)
  end
  return 1
end

-- Forgets histories that have expired, and frees what is above the bound. Every node calls it now and then; each call
-- does a bounded part of the work.
function operations.trim_histories(base)
  if sharded then return 0 end
  local history = use_history()
  history.check_index()
  local due = redis.call('ZRANGEBYSCORE', history.expiries, '-inf', text(now), 'LIMIT', 0, MAX_EXPIRED_ROOMS)
  for _, tag in ipairs(due) do
    local room = prefix .. tag
    local ttl = redis.call('PTTL', room .. ':s')
    if ttl == -2 then
      local done, published = pcall(redis.call, 'HGET', room .. ':m', 'b')
      history.drop(room, done and published)
    else
      if ttl < 0 then ttl = history.extend(room) end
      redis.call('ZADD', history.expiries, text(now + math.max(ttl, 1)), tag)
    end
  end
  local latest = redis.call('ZREVRANGE', history.expiries, 0, 0, 'WITHSCORES')[2]
  if latest then
    -- Without nodes the index goes with the last stream.
    local ttl = text(math.max(latest - now, 0) + ROOM_TTL_MS)
    for _, key in ipairs({history.index, history.expiries, history.sum}) do redis.call('PEXPIRE', key, ttl) end
  else
    redis.call('DEL', history.sum)
  end
  if history_bytes > 0 then history.free(tonumber(redis.call('GET', history.sum) or 0)) end
  return #due
end
