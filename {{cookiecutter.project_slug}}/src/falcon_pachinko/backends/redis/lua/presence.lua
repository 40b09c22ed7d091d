-- The users in a room.

-- Adds a connection. Returns 1 for the user's first one.
function operations.enter(base, key, connection, node, join_message, leave_message)
  local entry = get_entry(base, key)
  local first = not entry
  entered = entered + 1
  if first then entry = {c = {}, s = time[1] * 1000000 + time[2] + entered} end
  entry.c[connection] = node
  entry.g, entry.n = nil, nil
  if leave_message then entry.l = leave_message end
  set_entry(base, key, entry)
  if first and join_message then publish(base, join_message) end
  return first and 1 or 0
end

-- Removes a connection. Returns 1 if the user has left, 2 if the grace period has begun.
function operations.leave(base, key, connection, node, grace)
  local entry = get_entry(base, key)
  if not entry then return 0 end
  if not entry.c[connection] then
    -- A repeated call, perhaps under another node name: the caller becomes the one that expires the entry.
    if not entry.g or next(entry.c) then return 0 end
    entry.n = node
    set_entry(base, key, entry)
    return 2
  end
  entry.c[connection] = nil
  if next(entry.c) then
    set_entry(base, key, entry)
    return 0
  end
  if grace > 0 then
    entry.g, entry.n = now + grace, node
    set_entry(base, key, entry)
    return 2
  end
  remove_entry(base, key, entry)
  return 1
end

-- Removes an entry whose grace period is over. Returns 1 if the period is still running.
function operations.expire(base, key)
  local entry = get_entry(base, key)
  if entry and entry.g and entry.g <= now and not next(entry.c) then remove_entry(base, key, entry) end
  return entry and entry.g and entry.g > now and 1 or 0
end

-- Removes a node's connections from a room except the given ones: all of them for an expired node. A live node calls it
-- to reconcile Redis with its connections. Returns whether an entry is in its grace period, and those of the given
-- connections that are not stored.
function operations.evict(base, node, connections)
  local all, pending, missing = redis.call('HGETALL', base .. ':p'), 0, {}
  for _, connection in ipairs(connections) do missing[connection] = true end
  for i = 1, #all, 2 do
    local key, entry, changed = all[i], cmsgpack.unpack(all[i + 1]), false
    for connection, of in pairs(entry.c) do
      if missing[connection] then
        missing[connection] = nil
      elseif of == node then
        entry.c[connection] = nil
        changed = true
      end
    end
    if not next(entry.c) and (changed or entry.n == node) then
      if entry.g and entry.g > now then pending = 1 else remove_entry(base, key, entry) end
    elseif changed then
      set_entry(base, key, entry)
    end
  end
  local names = {}
  for connection in pairs(missing) do table.insert(names, connection) end
  return {pending, names}
end

function operations.present(base, key)
  return redis.call('HEXISTS', base .. ':p', key)
end

function operations.members(base)
  local all, found = redis.call('HGETALL', base .. ':p'), {}
  for i = 1, #all, 2 do
    table.insert(found, all[i])
    table.insert(found, text(cmsgpack.unpack(all[i + 1]).s))
  end
  return found
end
