-- The leases of the nodes in a room, and the lists of their connections.

-- The entries of expired nodes that this call has removed.
local removed = 0

-- Whether a generation that a node knows was lost, and did not end with its last member.
local function was_lost(base, known, generation)
  if known == '' or known == generation then return false end
  local numbers = redis.call('HMGET', base .. ':m', 'l', 'g')
  local loss, latest, number = tonumber(numbers[1]), tonumber(numbers[2]), tonumber(string.match(known, '^%d+'))
  -- A number above the latest one is from before the loss of the room.
  return not loss or number < loss or number > (latest or now)
end

-- Removes what a node has of an entry, given by its member of the index. Returns whether the entry is removed with it.
local function remove_member(base, node, member, is_silent)
  local key = string.sub(member, #node + 2)
  local entry = get_entry(base, key)
  redis.call('ZREM', base .. ':k', member)
  if not entry then return false end
  for connection, of in pairs(entry.c) do
    if of == node then remove_connection(entry, connection) end
  end
  if entry.n == node then entry.g, entry.n = nil, nil end
  if next(entry.c) or entry.g then
    set_entry(base, key, entry)
    return false
  end
  remove_entry(base, key, entry, is_silent)
  return true
end

-- Removes a slice of the entries of an expired node; all slices of a call have one bound. Returns whether others follow.
-- After a loss of changes it may be known that the users have left: then the nodes are asked to read the list instead,
-- at the end, also if the slices after the first ones are announced because the time for this is over.
local function remove_slice(base, node)
  local found = redis.call('HMGET', base .. ':p', 'z', 's' .. node)
  local silent, was_silent = tonumber(found[1] or 0) > now, found[2]
  local count = ENTRIES_PER_SLICE - removed
  if count == 0 then return true end
  local from, to = range_of(node)
  local members = redis.call('ZRANGEBYLEX', base .. ':k', from, to, 'LIMIT', 0, count)
  removed = removed + #members
  for _, member in ipairs(members) do remove_member(base, node, member, silent) end
  if #members == count then
    if silent then redis.call('HSET', base .. ':p', 's' .. node, 1) end
    return true
  end
  release_lease(base, node)
  if silent or was_silent then send_changed(base) end
  return false
end

-- Gives the node whose entries follow those of a node a lease of one period, if its own was lost: nobody would notice
-- its expiry. Each node does this for the next one.
local function find_node(base, node, period, leases)
  local entries = base .. ':k'
  local next_one = redis.call('ZRANGEBYLEX', entries, '(' .. node .. '\1', '+', 'LIMIT', 0, 1)[1]
    or redis.call('ZRANGEBYLEX', entries, '(', '+', 'LIMIT', 0, 1)[1]
  local name = next_one and string.match(next_one, '^[^%z]+')
  if name and not leases[name] then
    redis.call('ZADD', base .. ':n', text(now + period), name)
    redis.call('PEXPIRE', base .. ':n', ROOM_TTL_MS)
  end
end

-- Fences the expired nodes, and removes a slice of their users. Returns whether others follow. If no node could renew,
-- because Redis was frozen or its clock has jumped, then none is removed before it could have renewed: the caller
-- reports an outage, or its own lease has expired and no other node has noticed.
local function expire_nodes(base, node, period)
  local leases = base .. ':n'
  local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', text(now), 'WITHSCORES')
  if #expired == 0 then return false end
  local spares = in_doubt
  for i = 1, #expired, 2 do
    spares = spares or (expired[i] == node and tonumber(expired[i + 1]) > 0)
  end
  local slice_of
  for i = 1, #expired, 2 do
    local name, expires = expired[i], tonumber(expired[i + 1])
    if expires > 0 and spares then
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

-- Returns the leases of a room, by node, and whether one has expired. Shortens those that end later than one that begins
-- now, and recoveries likewise: the clock has jumped back. Doubts a presence that was stored in another server.
local function read_leases(base, lease, recovery)
  local times = redis.call('HMGET', base .. ':p', 'w', 'z', 'u')
  if check_server(base, lease, recovery, times[3]) then times = {} end
  if tonumber(times[1] or 0) > now + math.max(recovery, SUSPICION_MS) then
    redis.call('HSET', base .. ':p', 'w', text(now + recovery))
  end
  if tonumber(times[2] or 0) > now + 2 * lease then redis.call('HSET', base .. ':p', 'z', text(now + 2 * lease)) end
  local all, leases, has_expired = redis.call('ZRANGE', base .. ':n', 0, -1, 'WITHSCORES'), {}, false
  for i = 1, #all, 2 do
    local name, expires = all[i], tonumber(all[i + 1])
    if expires > now + lease then
      expires = now + lease
      redis.call('ZADD', base .. ':n', text(expires), name)
    end
    leases[name] = expires
    has_expired = has_expired or expires <= now
  end
  return leases, has_expired
end

-- Renews the lease of a node whose list is complete. Returns what the node has to do: 'ok'; 'list': send the list of
-- its connections; 'expire': another node has expired; the room's epoch and offset; the milliseconds until all nodes
-- have sent their lists after a loss; and the version of the list, which changes with it and without announcements.
function operations.renew_room(base, node, terms, generation, digest, known_epoch, known_offset, extend)
  local lease, period, recovery = unpack(terms)
  -- Only a node that has subscribed creates the room: the last user may have left, and the room been deleted, since the
  -- call was submitted.
  local room = known_epoch and open_room(base, known_epoch, known_offset, recovery, lease)
    or redis.call('HMGET', base .. ':m', 'e', 'o')
  local epoch, offset = room[1] or '', room[2] or '0'
  if extend then
    extend_life(base)
    extend_presence(base)
  end
  if not node then return {'ok', epoch, offset, 0, ''} end
  local leases, has_expired = read_leases(base, lease, recovery)
  find_node(base, node, period, leases)
  local more = has_expired and expire_nodes(base, node, period)
  if has_expired then leases = read_leases(base, lease, recovery) end
  local found = redis.call('HMGET', base .. ':p', 'g', 'd' .. node, 'w', 'v')
  local status = 'list'
  if (leases[node] or 0) > now and found[1] == generation and found[2] == digest and current_generation(base, found[1]) then
    redis.call('ZADD', base .. ':n', text(now + lease), node)
    status = more and 'expire' or 'ok'
  end
  local ends = tonumber(found[3] or 0)
  return {status, epoch, offset, creation.is_suspicion(ends) and 0 or math.max(0, ends - now), found[4] or ''}
end

-- Removes the next slice of the users of expired nodes. Returns whether others follow.
function operations.expire_nodes(base, node, terms)
  local lease, period, recovery = unpack(terms)
  check_server(base, lease, recovery)
  return expire_nodes(base, node, period) and 1 or 0
end

-- Gives a node the lease of a room, before it sends the list of its connections. Returns the generation of the
-- presence, whether the node had a lease of it until now, and whether the generation that it knows was lost.
function operations.claim(base, node, lease, period, known, recovery)
  read_leases(base, lease, recovery)
  if current_generation(base) then expire_nodes(base, node, period) end
  -- The node has come back before all of its users were removed.
  if redis.call('HDEL', base .. ':p', 's' .. node) == 1 then send_changed(base) end
  local expires = redis.call('ZSCORE', base .. ':n', node)
  if not redis.call('HGET', base .. ':p', 'g') then create_presence(base, recovery) end
  set_lease(base, node, lease)
  redis.call('HSET', base .. ':p', 'd' .. node, 0)
  local generation = redis.call('HGET', base .. ':p', 'g')
  local is_lost = was_lost(base, known, generation)
  if is_lost then begin_recovery(base, recovery) end
  -- What has left stays so until the list is complete, also if the node has to send it again.
  local kept = expires and tonumber(expires) > now and redis.call('HEXISTS', base .. ':p', 'l' .. node) == 0
  if not (kept or is_lost) then redis.call('HSET', base .. ':p', 'l' .. node, 1) end
  return {generation, kept and 1 or 0, is_lost and 1 or 0}
end

-- Records that the list of a node is complete.
function operations.end_list(base, node)
  return redis.call('HDEL', base .. ':p', 'l' .. node)
end

-- Compares a slice of a node's list, sorted by key, with what is stored of the node after one key up to another one:
-- removes what is not in the list. Returns the connections that are missing, whether the comparison has to be repeated
-- because more was stored than a slice, and the users whose announcement waits.
function operations.compare(base, node, after, up_to, list)
  if not has_lease(base, node) then return 'fenced' end
  local from = after == '' and '[' .. index_of(node, '') or '(' .. index_of(node, after)
  local to = up_to == '' and '(' .. node .. '\1' or '[' .. index_of(node, up_to)
  local found = redis.call('ZRANGEBYLEX', base .. ':k', from, to, 'LIMIT', 0, 2 * ENTRIES_PER_SLICE)
  local missing, waiting, digest, listed = {}, {}, 0, {}
  for _, item in ipairs(list) do
    local key, entry, changed = item[1], get_entry(base, item[1]), false
    local hashes, versions = {}, {}
    for i = 2, #item, 3 do hashes[item[i]], versions[item[i]] = item[i + 1], item[i + 2] end
    listed[key] = true
    for connection, of in pairs(entry and entry.c or {}) do
      if hashes[connection] then
        changed = changed or of ~= node
        entry.c[connection] = node
        local known = version_of(entry, connection)
        if known > versions[connection] then
          -- The record is of an earlier time in the room.
          remove_record(entry, connection)
          known, changed = 0, true
        end
        digest = digest + hashes[connection] + known
        -- A connection whose record is missing is entered again.
        if known == versions[connection] then hashes[connection] = nil end
      elseif of == node then
        remove_connection(entry, connection)
        changed = true
      end
    end
    -- An entry without connections is in its grace period, which the node ends, or is entered again.
    if entry and not next(entry.c) and not entry.g then
      entry.g, entry.n, changed = text(now), node, true
    end
    if changed then set_entry(base, key, entry) end
    for connection in pairs(hashes) do table.insert(missing, connection) end
    if entry and entry.j then table.insert(waiting, key) end
  end
  local has_changed = false
  for _, member in ipairs(found) do
    if not listed[string.sub(member, #node + 2)] then
      has_changed = remove_member(base, node, member, true) or has_changed
    end
  end
  if has_changed and not in_recovery(base) then send_changed(base) end
  local has_more = #found == 2 * ENTRIES_PER_SLICE
  if digest > 0 and not has_more then redis.call('HINCRBY', base .. ':p', 'd' .. node, text(digest)) end
  return {missing, has_more and 1 or 0, waiting}
end

-- Lets the lease of a node that stops end when the grace periods of its users are over. The others are informed.
function operations.stop_node(base, node, ms)
  if not has_lease(base, node) then return 0 end
  redis.call('ZADD', base .. ':n', text(now + ms), node)
  send(base, '!stop:' .. text(ms) .. '\n')
  return 1
end

function operations.present(base, key)
  if not redis.call('ZSCORE', base .. ':o', key) then return 0 end
  local entry = get_entry(base, key)
  for _, node in pairs(entry and entry.c or {}) do
    if has_lease(base, node) then return 1 end
  end
  return entry and entry.g and has_lease(base, entry.n) and 1 or 0
end

-- Returns the records of users, for each of them those of its connections.
local function records_of_users(base, users)
  local keys, found = {}, {}
  for i = 1, #users, 2 do keys[#keys + 1] = users[i] end
  for i, entry in ipairs(redis.call('HMGET', base .. ':p', unpack(keys))) do
    found[i] = entry and records_of(cmsgpack.unpack(entry)) or {}
  end
  return found
end

-- Returns a page of the users, after the users of expired nodes have left: the number of users, the room's epoch and
-- offset, the users with their places, whether others follow, and the records if the room has any; 'expire' if slices
-- of expired nodes have to be removed first; 'unknown' if the user after which the page begins is not here.
function operations.page(base, node, terms, after, limit)
  local lease, period, recovery = unpack(terms)
  check_server(base, lease, recovery)
  if expire_nodes(base, node, period) then return 'expire' end
  local generation = current_generation(base)
  local order = base .. ':o'
  if type(after) == 'string' then
    after = redis.call('ZSCORE', order, after)
    if not after then return 'unknown' end
  end
  local total = math.max(redis.call('ZCARD', order) - 1, 0)
  local meta = redis.call('HMGET', base .. ':m', 'e', 'o', 'p')
  local users, records, more = {}, {}, 0
  if limit > 0 then
    local has_records = redis.call('HEXISTS', base .. ':p', 'r') == 1
    if has_records then limit = math.min(limit, RECORDS_PER_READ) end
    local from = '(' .. text(after or 0)
    users = redis.call('ZRANGEBYSCORE', order, from, '+inf', 'WITHSCORES', 'LIMIT', 0, text(limit + 1))
    if #users > 2 * limit then
      more = 1
      -- Two users in one place are never on different pages.
      if users[2 * limit] ~= users[#users] then users[#users], users[#users - 1] = nil, nil end
    end
    if has_records and #users > 0 then records = records_of_users(base, users) end
  end
  local recovered = tonumber(redis.call('HGET', base .. ':p', 'w') or 0)
  -- The presence is lost, and no node has sent its list yet.
  if not generation and meta[3] then recovered = now + period end
  return {total, meta[1] or '', meta[2] or '0', users, more, records, math.max(0, recovered - now)}
end
