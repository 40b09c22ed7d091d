-- The nodes of the cluster.

-- Renews a node's lease. Returns 1 and the nodes that the caller has to evict, or 0 if the node is unknown (Redis lost
-- its data, or the node is being evicted). An unknown node does not become known by a repeated heartbeat, whose reply
-- may be lost, but only as a new one. No node is evicted if none could send heartbeats: then Redis was unavailable.
function operations.heartbeat(base, node, expiry, claim, is_new)
  local known = is_new or redis.call('ZSCORE', nodes .. 'n', node)
  if not known or redis.call('EXISTS', nodes .. 'x:' .. node) == 1 then return {0} end
  redis.call('ZADD', nodes .. 'n', text(now + expiry), node)
  local last = tonumber(redis.call('GET', nodes .. 'b') or now)
  redis.call('SET', nodes .. 'b', text(now), 'PX', ROOM_TTL_MS)
  local result = {1}
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', nodes .. 'n', '-inf', text(now))) do
    if now - last > 2 * claim then
      redis.call('ZADD', nodes .. 'n', text(now + expiry), expired)
    else
      redis.call('ZADD', nodes .. 'n', text(now + claim), expired)
      redis.call('SET', nodes .. 'x:' .. expired, '1', 'PX', ROOM_TTL_MS)
      table.insert(result, expired)
    end
  end
  return result
end

-- Deletes the keys of a node that has been evicted from all rooms.
function operations.remove_node(base, node)
  redis.call('ZREM', nodes .. 'n', node)
  redis.call('DEL', nodes .. 'r:' .. node, nodes .. 'x:' .. node)
  return 1
end

-- Stops a node in order: the others evict it when the grace periods of its users are over.
function operations.stop_node(base, node, ms)
  if redis.call('EXISTS', nodes .. 'r:' .. node) == 1 then
    redis.call('ZADD', nodes .. 'n', text(now + ms), node)
    redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  else
    redis.call('ZREM', nodes .. 'n', node)
  end
  return 1
end

function operations.add_rooms(base, node, rooms)
  redis.call('SADD', nodes .. 'r:' .. node, unpack(rooms))
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  return 1
end

function operations.remove_rooms(base, node, rooms)
  redis.call('SREM', nodes .. 'r:' .. node, unpack(rooms))
  return 1
end

function operations.refresh_rooms(base, node)
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  return 1
end

function operations.rooms_of(base, node)
  return redis.call('SMEMBERS', nodes .. 'r:' .. node)
end

function operations.live_nodes(base)
  return redis.call('ZRANGEBYSCORE', nodes .. 'n', '(' .. text(now), '+inf')
end
