-- Rooms and their histories.

function operations.send(base, data)
  return send(base, data)
end

-- Extends the life of a room's key.
local function extend_life(base)
  local age = tonumber(redis.call('HGET', base .. ':m', 'a') or 0)
  redis.call('PEXPIRE', base .. ':m', text(math.max(age, ROOM_TTL_MS)))
end

-- Extends the life of the keys of a room's presence.
local function extend_presence(base)
  for _, suffix in ipairs({':p', ':n', ':o', ':k'}) do redis.call('PEXPIRE', base .. suffix, ROOM_TTL_MS) end
end

-- Reads a piece of a room's stream, of a bounded size. Returns its publications, and whether others follow.
local function read_piece(base, from, offset, published)
  local publications, size = {}, 0
  while from < offset do
    local items = redis.pcall('XRANGE', base .. ':s', '(' .. text(from) .. '-1', '+', 'COUNT', MESSAGES_PER_READ)
    -- A key of a wrong type is a lost history.
    if items.err then use_history().drop(base, published) end
    for _, item in ipairs(items) do
      publications[#publications + 1] = item[1]
      publications[#publications + 1] = item[2][2]
      publications[#publications + 1] = item[2][4]
      size = size + #item[2][4]
      from = tonumber(string.match(item[1], '^%d+'))
      if size >= BYTES_PER_PIECE then return publications, from < offset end
    end
    if #items < MESSAGES_PER_READ then return publications, false end
    if #publications >= 3 * MESSAGES_PER_PIECE then return publications, from < offset end
  end
  return publications, false
end

-- Returns an epoch with the offsets after one that have been retracted in it; empty if there are none.
local function retracted_after(base, epoch, from)
  local stored = redis.call('HGET', base .. ':m', 'd')
  if not stored then return '' end
  local found = {epoch}
  for offset in string.gmatch(string.match(stored, '^' .. epoch .. '(.*)') or '', '%d+') do
    if tonumber(offset) > from then found[#found + 1] = offset end
  end
  return found[2] and table.concat(found, ' ') or ''
end

-- Returns the epoch, the offset and the published bytes of a room to which the caller has subscribed. Creates it if it
-- is missing, if another server has numbered it, or if the offset is lower than the known one: then Redis has or may
-- have lost data, and no node needs to know what.
local function open_room(base, known_epoch, known_offset, recovery, lease)
  local meta = base .. ':m'
  local stored = redis.call('HMGET', meta, 'e', 'o', 'b', 'u')
  local is_lost = stored[1] and stored[1] == known_epoch and tonumber(stored[2]) < known_offset
  is_lost = is_lost or is_of_another_server(stored[4])
  if stored[1] and not is_lost then
    record_server(meta, stored[4])
    return stored
  end
  stored = {creation.create_room(base, 1), '0', '0'}
  if is_lost then doubt_presence(base, lease, recovery) end
  return stored
end

-- Called after the node has subscribed to the channel: creates the room if necessary and returns its position and
-- the publications after a known offset, or all of them if the epoch is not the known one; they end before the room's
-- position if they exceed a piece; and the offsets that have been retracted. A known offset ahead of the stored one means that Redis lost data.
function operations.sync_room(base, history, known_epoch, known_offset, everything, recovery, lease)
  local meta = base .. ':m'
  local messages, age, room_bytes = unpack(history)
  local stored = open_room(base, known_epoch, known_offset, recovery, lease)
  if messages > 0 then
    local limit = text(room_bytes)
    redis.call('HSET', meta, 'n', text(messages), 'a', text(age), 'r', limit)
  end
  extend_life(base)
  local offset = tonumber(stored[2])
  local publications, more, retracted = {}, false, ''
  if known_epoch or everything then
    local from = not everything and stored[1] == known_epoch and known_offset or 0
    publications, more = read_piece(base, from, offset, stored[3])
    retracted = retracted_after(base, stored[1], from)
  end
  local shows_positions = redis.call('HEXISTS', meta, 'n')
  return {stored[1], offset, shows_positions, text(now), publications, more and 1 or 0, retracted}
end

-- Returns at most so many publications of a room's history: the last ones, or the last ones before an offset of the epoch.
function operations.past(base, epoch, before, count)
  local meta, publications = base .. ':m', {}
  local current, offset, age, messages, published = unpack(redis.call('HMGET', meta, 'e', 'o', 'a', 'n', 'b'))
  if not current or not messages or (epoch and epoch ~= current) then return {'', 0, 0, text(now), {}, 0, ''} end
  local last = tonumber(offset)
  if epoch then last = math.min(last, before - 1) end
  local first = math.max(offset - messages, 0) + 1
  if first <= last then
    -- Backwards, because some may have been retracted.
    local items = redis.pcall('XREVRANGE', base .. ':s', text(last) .. '-1', text(first) .. '-1', 'COUNT', count)
    if items.err then
      use_history().drop(base, published)
      items = {}
    end
    for i = #items, 1, -1 do
      local item = items[i]
      if now - item[2][2] <= tonumber(age) then
        for _, value in ipairs({item[1], item[2][2], item[2][4]}) do publications[#publications + 1] = value end
      end
    end
  end
  return {current, offset, 1, text(now), publications, 0, ''}
end

-- Deletes the room with its last subscriber, or lets its history expire. Members without a subscriber are in their grace
-- period, or belong to a node that is cut off and will subscribe again: the room keeps its epoch for them.
function operations.release_room(base)
  if subscribers_of(base) > 0 then return 0 end
  local age = tonumber(redis.call('HGET', base .. ':m', 'a') or 0)
  local life = age
  if redis.call('EXISTS', base .. ':n') == 1 then life = math.max(age, MIN_STREAM_MS) end
  if life > 0 then
    redis.call('PEXPIRE', base .. ':m', text(life))
    redis.call('PEXPIRE', base .. ':s', text(age > 0 and age or life))
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
