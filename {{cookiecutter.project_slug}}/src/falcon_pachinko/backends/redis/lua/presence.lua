-- The users in a room. A node has a lease in each room where it has members; after its expiry the room refuses what
-- the node sends, and its users leave, until it has renewed the lease and sent the list of its connections.

-- The connections that this call has added, and the entries of expired nodes that it has removed.
local entered, removed = 0, 0

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

-- Removes an entry. The user has left, unless nobody has learnt that it is here.
local function remove_entry(base, key, entry, is_silent)
  redis.call('HDEL', base .. ':p', key)
  redis.call('ZREM', base .. ':o', key)
  if entry.l and not entry.j and not is_silent then publish(base, entry.l, false, nil, nil, nil, '-' .. key) end
end

-- Whether the room's presence was lost a short time ago, so that entries may be missing.
local function in_recovery(base)
  return tonumber(redis.call('HGET', base .. ':p', 'w') or 0) > now
end

-- Returns the generation of the presence. If one of its keys was lost, the others are deleted, and all nodes are asked
-- for their lists. Leases that were lost are replaced, see find_node.
local function current_generation(base)
  local generation = redis.call('HGET', base .. ':p', 'g')
  if generation and redis.call('ZSCORE', base .. ':o', '') and redis.call('ZSCORE', base .. ':k', '') then
    return generation
  end
  if redis.call('DEL', base .. ':p', base .. ':n', base .. ':o', base .. ':k') > 0 then
    send(base, '!lost\n')
  end
end

-- Lets the announcement of users wait until all nodes could send their lists, and asks for these.
local function begin_recovery(base, grace)
  if in_recovery(base) then return end
  redis.call('HSET', base .. ':p', 'w', text(now + grace))
  send(base, '!lost\n')
end

-- Creates the presence of a room; the caller adds a lease. If the room has members, theirs was lost. A generation begins
-- with the time of its creation.
local function create_presence(base, grace)
  local meta = base .. ':m'
  redis.call('HSET', base .. ':p', 'g', string.format('%013.0f-', now) .. new_name(base), 'w', 0)
  redis.call('ZADD', base .. ':o', 0, '')
  redis.call('ZADD', base .. ':k', 0, '')
  for _, suffix in ipairs({':p', ':o', ':k'}) do redis.call('PEXPIRE', base .. suffix, ROOM_TTL_MS) end
  if redis.call('HGET', meta, 'p') then
    redis.call('HSET', meta, 'l', text(now))
    begin_recovery(base, grace)
  elseif redis.call('EXISTS', meta) == 1 then
    redis.call('HSET', meta, 'p', 1)
  end
end

-- Whether a generation that a node knows was lost, and did not end with its last member.
local function was_lost(base, known, generation)
  if known == '' or known == generation then return false end
  local lost_at = redis.call('HGET', base .. ':m', 'l')
  return not lost_at or tonumber(string.match(known, '^%d+')) <= tonumber(lost_at)
end

local function set_lease(base, node, lease)
  redis.call('ZADD', base .. ':n', text(now + lease), node)
  redis.call('PEXPIRE', base .. ':n', ROOM_TTL_MS)
end

-- Releases the lease of a node without members, and deletes the presence with the last one.
local function release_lease(base, node)
  redis.call('ZREM', base .. ':n', node)
  redis.call('HDEL', base .. ':p', 'd' .. node)
  if redis.call('EXISTS', base .. ':n') == 0 and redis.call('ZCARD', base .. ':k') <= 1 then
    redis.call('DEL', base .. ':p', base .. ':o', base .. ':k')
    redis.call('HDEL', base .. ':m', 'p')
  end
end

-- Removes a slice of the entries of an expired node; all slices of a call have one bound. Returns whether others follow.
-- After a loss of changes it may be known that the users have left: then the nodes are asked to read the list instead.
local function remove_slice(base, node)
  local silent = tonumber(redis.call('HGET', base .. ':p', 'z') or 0) > now
  local count = ENTRIES_PER_SLICE - removed
  if count == 0 then return true end
  local from, to = '[' .. index_of(node, ''), '(' .. node .. '\1'
  local found = redis.call('ZRANGEBYLEX', base .. ':k', from, to, 'LIMIT', 0, count)
  removed = removed + #found
  for _, member in ipairs(found) do
    local key = string.sub(member, #node + 2)
    local entry = get_entry(base, key)
    if entry then
      for connection, of in pairs(entry.c) do
        if of == node then entry.c[connection] = nil end
      end
      if entry.n == node then entry.g, entry.n = nil, nil end
      if next(entry.c) or entry.g then set_entry(base, key, entry) else remove_entry(base, key, entry, silent) end
    end
    redis.call('ZREM', base .. ':k', member)
  end
  if #found == count then return true end
  release_lease(base, node)
  if silent then send(base, '!changed\n') end
  return false
end

-- Gives the node whose entries follow those of a node a lease of one period, if its own was lost: nobody would notice
-- its expiry. Each node does this for the next one.
local function find_node(base, node, period)
  local entries = base .. ':k'
  local next_one = redis.call('ZRANGEBYLEX', entries, '(' .. node .. '\1', '+', 'LIMIT', 0, 1)[1]
    or redis.call('ZRANGEBYLEX', entries, '(', '+', 'LIMIT', 0, 1)[1]
  local name = next_one and string.match(next_one, '^[^%z]+')
  if name and not redis.call('ZSCORE', base .. ':n', name) then
    redis.call('ZADD', base .. ':n', text(now + period), name)
    redis.call('PEXPIRE', base .. ':n', ROOM_TTL_MS)
  end
end

-- Fences the expired nodes, and removes a slice of their users. Returns whether others follow. If no node could renew,
-- because Redis was frozen or its clock has jumped, then none is removed before it could have renewed: the caller
-- reports an outage, or its own lease has expired and no other node has noticed.
local function expire_nodes(base, node, period, in_doubt)
  local leases = base .. ':n'
  local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', text(now), 'WITHSCORES')
  if #expired == 0 then return false end
  for i = 1, #expired, 2 do
    in_doubt = in_doubt or (expired[i] == node and tonumber(expired[i + 1]) > 0)
  end
  local slice_of
  for i = 1, #expired, 2 do
    local name, expires = expired[i], tonumber(expired[i + 1])
    if expires > 0 and in_doubt then
      redis.call('ZADD', leases, text(now + period), name)
    else
      if expires > 0 then
        redis.call('ZADD', leases, 0, name)
        redis.call('HDEL', base .. ':p', 'd' .. name)
      end
      slice_of = name
    end
  end
  if not slice_of then return false end
  return remove_slice(base, slice_of) or redis.call('ZCOUNT', leases, '-inf', text(now)) > 0
end

-- Shortens leases that end later than one that begins now: the clock has jumped back.
local function clamp_leases(base, lease)
  local late = redis.call('ZRANGEBYSCORE', base .. ':n', '(' .. text(now + lease), '+inf')
  for _, name in ipairs(late) do redis.call('ZADD', base .. ':n', text(now + lease), name) end
end

-- Renews the lease of a node whose list is complete. Returns what the node has to do: 'ok'; 'list': send the list of
-- its connections; 'expire': another node has expired; and the room's epoch and offset.
function operations.renew_room(base, node, terms, in_doubt, generation, digest, known_epoch, known_offset, extend)
  local lease, period, grace = unpack(terms)
  -- Only a node that has subscribed creates the room: the last user may have left, and the room been deleted, since the
  -- call was submitted.
  local room = known_epoch and open_room(base, known_epoch, known_offset, grace, lease)
    or redis.call('HMGET', base .. ':m', 'e', 'o')
  if extend then
    extend_life(base)
    extend_presence(base)
  end
  local status = 'ok'
  if node then
    clamp_leases(base, lease)
    find_node(base, node, period)
    local more = expire_nodes(base, node, period, in_doubt)
    local known = redis.call('HMGET', base .. ':p', 'g', 'd' .. node)
    if has_lease(base, node) and known[1] == generation and known[2] == digest and current_generation(base) then
      set_lease(base, node, lease)
    else
      status = 'list'
    end
    if status == 'ok' and more then status = 'expire' end
  end
  local recovered = node and tonumber(redis.call('HGET', base .. ':p', 'w') or 0) or 0
  return {status, room[1] or '', room[2] or '0', math.max(0, recovered - now)}
end

-- Removes the next slice of the users of expired nodes. Returns whether others follow.
function operations.expire_nodes(base, node, period, in_doubt)
  return expire_nodes(base, node, period, in_doubt) and 1 or 0
end

-- Gives a node the lease of a room, before it sends the list of its connections. Returns the generation of the
-- presence, whether the node had a lease of it until now, and whether the generation that it knows was lost.
function operations.claim(base, node, lease, period, in_doubt, known, grace)
  clamp_leases(base, lease)
  if current_generation(base) then expire_nodes(base, node, period, in_doubt) end
  local expires = redis.call('ZSCORE', base .. ':n', node)
  if not redis.call('HGET', base .. ':p', 'g') then create_presence(base, grace) end
  set_lease(base, node, lease)
  redis.call('HSET', base .. ':p', 'd' .. node, 0)
  local generation = redis.call('HGET', base .. ':p', 'g')
  local is_lost = was_lost(base, known, generation)
  if is_lost then begin_recovery(base, grace) end
  return {generation, expires and tonumber(expires) > now and 1 or 0, is_lost and 1 or 0}
end

-- Compares a slice of a node's list, sorted by key, with what is stored of the node after one key up to another one:
-- removes what is not in the list. Returns the connections that are missing, and whether the comparison has to be
-- repeated because more was stored than a slice.
function operations.compare(base, node, after, up_to, list)
  if not has_lease(base, node) then return 'fenced' end
  local from = after == '' and '[' .. index_of(node, '') or '(' .. index_of(node, after)
  local to = up_to == '' and '(' .. node .. '\1' or '[' .. index_of(node, up_to)
  local found = redis.call('ZRANGEBYLEX', base .. ':k', from, to, 'LIMIT', 0, 2 * ENTRIES_PER_SLICE)
  local missing, digest, listed = {}, 0, {}
  for _, item in ipairs(list) do
    local key, entry, changed = item[1], get_entry(base, item[1]), false
    local hashes = {}
    for i = 2, #item, 2 do hashes[item[i]] = item[i + 1] end
    listed[key] = true
    for connection, of in pairs(entry and entry.c or {}) do
      if hashes[connection] then
        changed = changed or of ~= node
        entry.c[connection] = node
        digest = digest + hashes[connection]
        hashes[connection] = nil
      elseif of == node then
        entry.c[connection] = nil
        changed = true
      end
    end
    -- An entry without connections is in its grace period, which the node ends, or is entered again.
    if entry and not next(entry.c) and not entry.g then
      entry.g, entry.n, changed = text(now), node, true
    end
    if changed then set_entry(base, key, entry) end
    for connection in pairs(hashes) do table.insert(missing, connection) end
  end
  for _, member in ipairs(found) do
    local key = string.sub(member, #node + 2)
    if not listed[key] then
      local entry = get_entry(base, key)
      for connection, of in pairs(entry and entry.c or {}) do
        if of == node then entry.c[connection] = nil end
      end
      if entry and entry.n == node then entry.g, entry.n = nil, nil end
      if entry and not next(entry.c) and not entry.g then
        remove_entry(base, key, entry, true)
      elseif entry then
        set_entry(base, key, entry)
      end
      redis.call('ZREM', base .. ':k', member)
    end
  end
  if digest > 0 then redis.call('HINCRBY', base .. ':p', 'd' .. node, text(digest)) end
  return {missing, #found == 2 * ENTRIES_PER_SLICE and 1 or 0}
end

-- Adds a connection. Without other members in the room the node gets its lease with it. Returns 'first' for the user's
-- first connection, otherwise 'another'; whether the announcement of the user waits until the recovery of the room is
-- over; the place of the user in the order of joining; and the generation of the presence.
function operations.enter(base, node, lease, grace, key, connection, hash, messages, place, claims)
  if claims then
    if not current_generation(base) then create_presence(base, grace) end
    -- The entries of a node that has expired are being removed: it has to send its list.
    if not redis.call('ZSCORE', base .. ':n', node) then set_lease(base, node, lease) end
  end
  if not has_lease(base, node) then return 'fenced' end
  local known = redis.call('HMGET', base .. ':p', key, 'w', 'g')
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
  elseif entry.j and is_announced then
    entry.j = nil
    add_user(base, key, entry)
  end
  local is_new = entry.c[connection] ~= node
  entry.c[connection] = node
  entry.g, entry.n = nil, nil
  if leaving then entry.l = leaving end
  set_entry(base, key, entry)
  redis.call('ZADD', base .. ':k', 0, index_of(node, key))
  if is_new then redis.call('HINCRBY', base .. ':p', 'd' .. node, text(hash)) end
  if status == 'first' and joining and not is_announced and not entry.j then
    publish(base, joining, false, nil, nil, nil, '+' .. key)
  end
  return {status, entry.j and 1 or 0, text(entry.s), known[3]}
end

-- Announces a user whose announcement has waited. Returns 1 while it has to wait longer.
function operations.announce(base, key)
  local entry = get_entry(base, key)
  if not entry or not entry.j then return 0 end
  if in_recovery(base) then return 1 end
  local joining = entry.j
  entry.j = nil
  set_entry(base, key, entry)
  add_user(base, key, entry)
  publish(base, joining, false, nil, nil, nil, '+' .. key)
  return 0
end

-- Removes what a node has of an entry that has no connection of the node any more, and the node's lease with the last.
local function forget(base, node, key, entry, is_last)
  local is_on_node = entry and entry.n == node
  for _, of in pairs(entry and entry.c or {}) do is_on_node = is_on_node or of == node end
  if not is_on_node then redis.call('ZREM', base .. ':k', index_of(node, key)) end
  -- The node's other entries may be in their grace period.
  local from, to = '[' .. index_of(node, ''), '(' .. node .. '\1'
  if is_last and #redis.call('ZRANGEBYLEX', base .. ':k', from, to, 'LIMIT', 0, 1) == 0 then
    release_lease(base, node)
  end
end

-- Removes a connection. Returns 'left' if the user has left, 'grace' if the grace period has begun, otherwise 'stays'.
function operations.leave(base, node, key, connection, hash, grace, is_last)
  if not has_lease(base, node) then return 'fenced' end
  local entry = get_entry(base, key)
  local status = 'stays'
  if entry and entry.c[connection] == node then
    entry.c[connection] = nil
    redis.call('HINCRBY', base .. ':p', 'd' .. node, text(-hash))
    if not next(entry.c) then
      status = grace > 0 and 'grace' or 'left'
      if status == 'grace' then entry.g, entry.n = text(now + grace), node end
    end
    if status == 'left' then
      remove_entry(base, key, entry)
      entry = nil
    else
      set_entry(base, key, entry)
    end
  elseif entry and entry.n == node then
    status = 'grace'  -- a repeated call
  end
  forget(base, node, key, entry, is_last and status ~= 'grace')
  return status
end

-- Removes an entry whose grace period is over. Returns 1 if the period is still running.
function operations.expire(base, node, key, is_last)
  if not has_lease(base, node) then return 'fenced' end
  local entry = get_entry(base, key)
  if entry and entry.n == node then
    if tonumber(entry.g) > now then return 1 end
    entry.g, entry.n = nil, nil
    remove_entry(base, key, entry)
    entry = nil
  end
  forget(base, node, key, entry, is_last)
  return 0
end

-- Lets the lease of a node that stops end when the grace periods of its users are over. The others are informed.
function operations.stop_node(base, node, ms)
  if not has_lease(base, node) then return 0 end
  redis.call('ZADD', base .. ':n', text(now + ms), node)
  send(base, '!stop:' .. text(ms) .. '\n')
  return 1
end

function operations.present(base, key)
  return redis.call('ZSCORE', base .. ':o', key) and 1 or 0
end

-- Returns a page of the users, after the users of expired nodes have left: the number of users, the room's epoch and
-- offset, and the users with their places; 'expire' if slices of expired nodes have to be removed first; 'unknown' if
-- the user after which the page begins is not here.
function operations.page(base, node, period, in_doubt, after, limit)
  if expire_nodes(base, node, period, in_doubt) then return 'expire' end
  current_generation(base)
  local order = base .. ':o'
  if type(after) == 'string' then
    after = redis.call('ZSCORE', order, after)
    if not after then return 'unknown' end
  end
  local total = math.max(redis.call('ZCARD', order) - 1, 0)
  local meta = redis.call('HMGET', base .. ':m', 'e', 'o')
  local users, more = {}, 0
  if limit > 0 then
    local from = '(' .. text(after or 0)
    users = redis.call('ZRANGEBYSCORE', order, from, '+inf', 'WITHSCORES', 'LIMIT', 0, text(limit + 1))
    if #users > 2 * limit then
      more = 1
      -- Two users in one place are never on different pages.
      if users[2 * limit] ~= users[#users] then users[#users], users[#users - 1] = nil, nil end
    end
  end
  return {total, meta[1] or '', meta[2] or '0', users, more}
end
