-- The list of nodes, and of the rooms where each has members.

-- Renews a node's place in the list, and removes the nodes whose time is over. Returns the number of rooms in the
-- node's own list, the number of commands, and the version of the protocol that the nodes use.
function operations.beat(base, node, lease, version)
  local list = nodes .. 'n'
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', list, '-inf', text(now))) do
    redis.call('ZREM', list, expired)
    redis.call('UNLINK', nodes .. 'r:' .. expired)
  end
  for _, late in ipairs(redis.call('ZRANGEBYSCORE', list, '(' .. text(now + lease), '+inf')) do
    redis.call('ZADD', list, text(now + lease), late)
  end
  local others = redis.call('ZCARD', list) - (redis.call('ZSCORE', list, node) and 1 or 0)
  local found = redis.call('GET', nodes .. 'v')
  if found and found ~= version and others > 0 then return {0, 0, found, {}} end
  local live = redis.call('ZRANGEBYSCORE', list, '-inf', '+inf')
  redis.call('SET', nodes .. 'v', version, 'PX', text(ROOM_TTL_MS))
  redis.call('ZADD', list, text(now + lease), node)
  redis.call('PEXPIRE', list, ROOM_TTL_MS)
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  local commands = redis.call('HLEN', nodes .. 'c') - redis.call('HEXISTS', nodes .. 'c', 'dropped')
  return {redis.call('SCARD', nodes .. 'r:' .. node), commands, version, live}
end

-- Removes a node that stops.
function operations.remove_node(base, node)
  redis.call('ZREM', nodes .. 'n', node)
  return redis.call('UNLINK', nodes .. 'r:' .. node)
end

function operations.add_rooms(base, node, rooms)
  redis.call('SADD', nodes .. 'r:' .. node, unpack(rooms))
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  return 1
end

function operations.remove_rooms(base, node, rooms)
  return redis.call('SREM', nodes .. 'r:' .. node, unpack(rooms))
end

function operations.clear_rooms(base, node)
  return redis.call('UNLINK', nodes .. 'r:' .. node)
end

-- Returns a part of the rooms of a node, and the cursor of the next part; '0' after the last one.
function operations.rooms_of(base, node, cursor)
  return redis.call('SSCAN', nodes .. 'r:' .. node, cursor, 'COUNT', ROOMS_PER_SCAN)
end

function operations.live_nodes(base)
  return redis.call('ZRANGEBYSCORE', nodes .. 'n', '(' .. text(now), '+inf')
end
