-- The users in a room. A node has a lease in each room where it has members; after its expiry the room refuses what
-- the node sends, and its users leave, until it has renewed the lease and sent the list of its connections.

-- The connections that this call has added.
local entered = 0

local function get_entry(base, key)
  local found = redis.call('HGET', base .. ':p', key)
  return found and cmsgpack.unpack(found)
end

local function set_entry(base, key, entry)
  redis.call('HSET', base .. ':p', key, cmsgpack.pack(entry))
end

-- Adds an entry to the list of users, which has those that were announced.
local function add_user(base, key, entry)
  if string.sub(key, 1, 1) == 'u' then redis.call('ZADD', base .. ':o', text(entry.s), key) end
end

local function index_of(node, key) return node .. '\0' .. key end

-- Returns the bounds of the entries of a node in the index.
local function range_of(node) return '[' .. index_of(node, ''), '(' .. node .. '\1' end

-- Informs the nodes of a change without an announcement: their clients read the list again. A node that does not receive
-- the message sees another version with its next renewal.
local function send_changed(base)
  local version = ''
  if redis.call('HEXISTS', base .. ':p', 'g') == 1 then
    version = new_name(base)
    redis.call('HSET', base .. ':p', 'v', version)
  end
  send(base, '!changed:' .. version .. '\n')
end

-- Whether changes of the presence were lost a short time ago.
local function has_lost_changes(base)
  local found = redis.call('HMGET', base .. ':p', 'z', 'u')
  return tonumber(found[1] or 0) > now or is_of_another_server(found[2])
end

-- Removes an entry. The user has left, unless nobody has learnt that it is here. If the removal is repeated, and changes
-- were lost since, then nodes may have learnt that it has left: they are asked to read the list.
local function remove_entry(base, key, entry, is_silent, is_repeated)
  redis.call('HDEL', base .. ':p', key)
  redis.call('ZREM', base .. ':o', key)
  if is_silent or not entry.l or entry.j then return end
  if is_repeated and has_lost_changes(base) then
    send_changed(base)
  else
    publish(base, entry.l, false, nil, nil, nil, '-' .. key)
  end
end

-- Whether the room's presence was lost a short time ago, so that entries may be missing.
local function in_recovery(base)
  return tonumber(redis.call('HGET', base .. ':p', 'w') or 0) > now
end

-- Returns the generation of the presence. If one of its keys was lost, the others are deleted, and all nodes are asked
-- for their lists. Leases that were lost are replaced, see find_node.
local function current_generation(base, generation)
  generation = generation or redis.call('HGET', base .. ':p', 'g')
  if generation and redis.call('ZSCORE', base .. ':o', '') and redis.call('ZSCORE', base .. ':k', '') then
    return generation
  end
  if redis.call('DEL', base .. ':p', base .. ':n', base .. ':o', base .. ':k') > 0 then
    send(base, '!lost\n')
  end
end

-- Lets the announcement of users wait until all nodes could send their lists, and asks for these.
local function begin_recovery(base, recovery)
  if tonumber(redis.call('HGET', base .. ':p', 'w') or 0) > now + SUSPICION_MS then return end
  redis.call('HSET', base .. ':p', 'w', text(now + recovery), 'v', new_name(base))
  send(base, '!lost\n')
end

-- Handles the loss of the last changes of a presence. Users may have left in what is lost: their nodes remove them, or
-- their leases expire. Each node sends its list, of which users in their grace period are a part, because no list has
-- the digest.
local function doubt_presence(base, lease, recovery)
  if redis.call('EXISTS', base .. ':p') == 0 then return end
  local ends, silent_until = text(now + recovery), text(now + 2 * lease)
  redis.call('HSET', base .. ':p', 'w', ends, 'z', silent_until, 'u', server_id(), 'v', new_name(base))
  for _, node in ipairs(redis.call('ZRANGE', base .. ':n', 0, -1)) do
    redis.call('HSET', base .. ':p', 'd' .. node, NO_DIGEST)
  end
end

-- Doubts a presence that was stored in another server. Returns whether it does.
local function check_server(base, lease, recovery, stored)
  if stored == nil then stored = redis.call('HGET', base .. ':p', 'u') end
  if not is_of_another_server(stored) then return false end
  doubt_presence(base, lease, recovery)
  send(base, '!lost\n')
  return true
end

-- Creates the presence of a room; the caller adds a lease. If the room has members, theirs was lost. A generation begins
-- with its number.
local function create_presence(base, recovery)
  local meta = base .. ':m'
  local suspicious = redis.call('HGET', meta, 'y')
  local number = creation.next_number(meta)
  local generation = string.format('%013.0f-', number) .. new_name(base)
  redis.call('HSET', base .. ':p', 'g', generation, 'w', suspicious or 0, 'u', server_id())
  redis.call('ZADD', base .. ':o', 0, '')
  redis.call('ZADD', base .. ':k', 0, '')
  for _, suffix in ipairs({':p', ':o', ':k'}) do redis.call('PEXPIRE', base .. suffix, ROOM_TTL_MS) end
  if redis.call('HGET', meta, 'p') then
    redis.call('HSET', meta, 'l', text(number), 'g', text(number))
    begin_recovery(base, recovery)
  elseif redis.call('EXISTS', meta) == 1 then
    redis.call('HSET', meta, 'p', 1, 'g', text(number))
  end
end

local function set_lease(base, node, lease)
  redis.call('ZADD', base .. ':n', text(now + lease), node)
  redis.call('PEXPIRE', base .. ':n', ROOM_TTL_MS)
end

-- Releases the lease of a node without members, and deletes the presence with the last one.
local function release_lease(base, node)
  redis.call('ZREM', base .. ':n', node)
  redis.call('HDEL', base .. ':p', 'd' .. node, 'l' .. node, 's' .. node)
  if redis.call('EXISTS', base .. ':n') == 0 and redis.call('ZCARD', base .. ':k') <= 1 then
    redis.call('DEL', base .. ':p', base .. ':o', base .. ':k')
    redis.call('HDEL', base .. ':m', 'p')
  end
end

-- Adds a connection. Without other members in the room the node gets its lease with it. Returns 'first' for the user's
-- first connection, otherwise 'another'; whether the announcement of the user waits until the recovery of the room is
-- over; the place of the user in the order of joining; and the generation of the presence.
function operations.enter(base, node, lease, recovery, key, connection, hash, messages, place, claims, record)
  if claims then
    if not current_generation(base) then create_presence(base, recovery) end
    -- The entries of a node that has expired are being removed: it has to send its list.
    if not redis.call('ZSCORE', base .. ':n', node) then set_lease(base, node, lease) end
  end
  if not has_lease(base, node) then return 'fenced' end
  local known = redis.call('HMGET', base .. ':p', key, 'w', 'g', 'u', 'v')
  if check_server(base, lease, recovery, known[4]) then known[2] = text(now + recovery) end
  local entry = known[1] and cmsgpack.unpack(known[1])
  local status = entry and 'another' or 'first'
  local joining, leaving, is_announced = messages[1], messages[2], messages[3]
  if not entry then
    entered = entered + 1
    entry = {c = {}, s = place or time[1] * 1000000 + time[2] + entered}
    if joining and not is_announced and tonumber(known[2]) > now then
      entry.j = joining
    end
    if not entry.j then add_user(base, key, entry) end
    -- Nobody is informed of a user that is entered again, unless the lists are read again after the recovery anyway.
    if is_announced and tonumber(known[2] or 0) <= now then send_changed(base) end
  elseif entry.j and is_announced then
    entry.j = nil
    add_user(base, key, entry)
  end
  local is_new = entry.c[connection] ~= node
  entry.c[connection] = node
  entry.g, entry.n = nil, nil
  if leaving then entry.l = leaving end
  local added = set_record(base, entry, connection, record)
  if is_new then added = hash + version_of(entry, connection) end
  set_entry(base, key, entry)
  redis.call('ZADD', base .. ':k', 0, index_of(node, key))
  if added > 0 then redis.call('HINCRBY', base .. ':p', 'd' .. node, text(added)) end
  if status == 'first' and joining and not is_announced and not entry.j then
    publish(base, joining, false, nil, nil, nil, change_of('+', key, entry))
  end
  local recovery_ms = math.min(math.max(0, tonumber(known[2]) - now), recovery)
  return {status, entry.j and 1 or 0, text(entry.s), known[3], recovery_ms, known[5] or ''}
end

-- Replaces the record of a connection, and publishes a message with the change. Returns the position of the message,
-- otherwise an empty text. Where the connection is missing, the node will notice it and send its list.
function operations.update(base, node, key, connection, record, message)
  if not has_lease(base, node) then return 'fenced' end
  local entry = get_entry(base, key)
  if entry and entry.c[connection] == node then
    local added = set_record(base, entry, connection, record)
    if added > 0 then
      set_entry(base, key, entry)
      redis.call('HINCRBY', base .. ':p', 'd' .. node, text(added))
    end
  end
  if not message then return '' end
  return publish(base, message, false, nil, nil, nil, entry and change_of('*', key, entry))
end

-- Announces a user whose announcement has waited. Returns 'done', 'later' while it has to wait longer, or 'unknown'
-- without an entry.
function operations.announce(base, key)
  local entry = get_entry(base, key)
  if not entry then return 'unknown' end
  if not entry.j then return 'done' end
  if in_recovery(base) then return 'later' end
  local joining = entry.j
  entry.j = nil
  set_entry(base, key, entry)
  add_user(base, key, entry)
  publish(base, joining, false, nil, nil, nil, change_of('+', key, entry))
  return 'done'
end

-- Removes what a node has of an entry that has no connection of the node any more, and the node's lease with the last.
local function forget(base, node, key, entry, is_last)
  local is_on_node = entry and entry.n == node
  for _, of in pairs(entry and entry.c or {}) do is_on_node = is_on_node or of == node end
  if not is_on_node then redis.call('ZREM', base .. ':k', index_of(node, key)) end
  -- The node's other entries may be in their grace period.
  local from, to = range_of(node)
  if is_last and #redis.call('ZRANGEBYLEX', base .. ':k', from, to, 'LIMIT', 0, 1) == 0 then
    release_lease(base, node)
  end
end

-- Whether an entry has no connection, and no grace period that another node ends: the connection that leaves was not
-- stored, or has left before.
local function is_abandoned(entry, node)
  return entry and not next(entry.c) and (not entry.g or entry.n == node)
end

-- Removes a connection. Returns 'left' if the user has left, 'grace' if the grace period has begun, otherwise 'stays'.
function operations.leave(base, node, key, connection, hash, grace, is_last, is_repeated)
  if not has_lease(base, node) then return 'fenced' end
  local entry = get_entry(base, key)
  local status = 'stays'
  if is_abandoned(entry, node) or (entry and entry.c[connection] == node) then
    if entry.c[connection] then
      redis.call('HINCRBY', base .. ':p', 'd' .. node, text(-hash - version_of(entry, connection)))
      remove_connection(entry, connection)
    end
    if not next(entry.c) then
      status = grace > 0 and 'grace' or 'left'
      if status == 'grace' then
        entry.g, entry.n = text(now + grace), node
        redis.call('ZADD', base .. ':k', 0, index_of(node, key))
      end
    end
    if status == 'left' then
      remove_entry(base, key, entry, false, is_repeated)
      entry = nil
    else
      set_entry(base, key, entry)
    end
  end
  forget(base, node, key, entry, is_last and status ~= 'grace')
  return status
end

-- Removes an entry whose grace period is over. Returns 1 if the period is still running: one that ends later than one
-- that begins now is from before a jump of the clock, and is over.
function operations.expire(base, node, key, grace, is_last, is_repeated)
  if not has_lease(base, node) then return 'fenced' end
  local entry = get_entry(base, key)
  if entry and entry.n == node then
    local ends = tonumber(entry.g)
    if ends > now and ends <= now + grace then return 1 end
    entry.g, entry.n = nil, nil
  end
  if is_abandoned(entry, node) then
    remove_entry(base, key, entry, false, is_repeated)
    entry = nil
  end
  forget(base, node, key, entry, is_last)
  return 0
end

-- PERF: joins and leaves are the other frequent calls.
if has_only(operations) then return execute(operations) end
