-- The list of nodes, and of the rooms where each has members.

-- The name of a node in the list begins with the version of its protocol; nodes of the first version have none.
local function listed(node) return PROTOCOL .. ':' .. node end

-- Returns the live nodes of this version, and another version with live nodes if there is one.
local function live_nodes()
  local found, other = {}, nil
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', nodes .. 'n', '(' .. text(now), '+inf')) do
    local version, node = string.match(name, '^(%d+):(.*)$')
    if tonumber(version) == PROTOCOL then table.insert(found, node) else other = version or '1' end
  end
  return found, other
end

-- Describes all restrictions: the sum of their hashes, and their number with the digest; see restrictions.lua.
local function restrictions_digest()
  local key = nodes .. 'b'
  return (redis.call('HGET', key, 'digest') or '0') .. ' ' .. redis.call('HLEN', key)
end

-- Renews a node's place in the list, and removes the nodes whose time is over. Returns the number of rooms in the
-- node's own list, the number of commands, another version of the protocol that live nodes use, or an empty text, the
-- live nodes before, and the digest of the restrictions.
-- If a node that was in the list finds it empty, it was lost: live nodes may be missing until they have renewed.
function operations.beat(base, node, lease, was_listed)
  local list = nodes .. 'n'
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', list, '-inf', text(now))) do
    redis.call('ZREM', list, expired)
    redis.call('UNLINK', nodes .. 'r:' .. string.gsub(expired, '^%d+:', ''))
  end
  for _, late in ipairs(redis.call('ZRANGEBYSCORE', list, '(' .. text(now + lease), '+inf')) do
    redis.call('ZADD', list, text(now + lease), late)
  end
  if was_listed and redis.call('EXISTS', list) == 0 then redis.call('SET', nodes .. 'w', '', 'PX', text(lease)) end
  local found, other = live_nodes()
  if other and not redis.call('ZSCORE', list, listed(node)) then return {0, 0, other, found, ''} end
  redis.call('ZADD', list, text(now + lease), listed(node))
  redis.call('PEXPIRE', list, ROOM_TTL_MS)
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  local commands = redis.call('HLEN', nodes .. 'c') - redis.call('HEXISTS', nodes .. 'c', 'dropped')
  return {redis.call('SCARD', nodes .. 'r:' .. node), commands, other or '', found, restrictions_digest()}
end

-- Removes a node that stops.
function operations.remove_node(base, node)
  redis.call('ZREM', nodes .. 'n', listed(node))
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
  return (live_nodes())
end
