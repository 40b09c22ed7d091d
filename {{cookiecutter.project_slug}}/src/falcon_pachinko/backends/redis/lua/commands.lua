-- Commands to all nodes: they are kept for a time, so that a node that was cut off executes them when it has recovered.

local function commands_key() return nodes .. 'c' end

-- Returns the names of live nodes that have not executed a command, and an empty one if there may be others: the list of
-- nodes was lost, or lacks the node that asks; a publisher finds no list.
local function unconfirmed(id, node)
  local waiting = {}
  for _, name in ipairs((live_nodes())) do
    if redis.call('SISMEMBER', nodes .. 'k:' .. id, name) == 0 then table.insert(waiting, name) end
  end
  local is_missing = redis.call('EXISTS', nodes .. 'n') == 0
  if node then
    local expires = redis.call('ZSCORE', nodes .. 'n', listed(node))
    is_missing = not (expires and tonumber(expires) > now)
  end
  if is_missing or redis.call('EXISTS', nodes .. 'w') == 1 then table.insert(waiting, '') end
  return waiting
end

-- Removes commands that are too old, or too many: the oldest first. The field 'dropped' is the time of the last one of
-- the latter.
local function trim_commands()
  local ids = redis.call('HKEYS', commands_key())
  table.sort(ids)
  for i, id in ipairs(ids) do
    local sent = tonumber(string.match(id, '^%d+'))
    local exceeds = #ids - i > MAX_COMMANDS
    if sent and (exceeds or sent + COMMAND_MS < now) then
      redis.call('HDEL', commands_key(), id)
      if exceeds then redis.call('HSET', commands_key(), 'dropped', sent) end
    end
  end
end

-- Stores a command and sends it to all nodes. Returns its id, and the live nodes.
function operations.command(base, data, node)
  local id = string.format('%013.0f-', now) .. new_name(base)
  redis.call('HSET', commands_key(), id, data)
  redis.call('PEXPIRE', commands_key(), COMMAND_MS)
  if redis.call('HLEN', commands_key()) > MAX_COMMANDS then trim_commands() end
  send(nodes .. 'all', '!command:' .. id .. '\n' .. data)
  return {id, unconfirmed(id, node)}
end

-- Records that a node has executed a command.
function operations.confirm(base, node, id)
  redis.call('SADD', nodes .. 'k:' .. id, node)
  return redis.call('PEXPIRE', nodes .. 'k:' .. id, CONFIRMATION_MS)
end

function operations.unconfirmed(base, id, node)
  return unconfirmed(id, node)
end

-- Makes the commands in Redis and those of a node the same: stores those that Redis has lost, and returns those that the
-- node does not know, each with its id; and how long ago the last one was sent that was dropped as there were too many.
function operations.sync_commands(base, known)
  local stored, result = redis.call('HGETALL', commands_key()), {}
  local found, dropped = {}, -1
  for i = 1, #stored, 2 do
    found[stored[i]] = true
    if stored[i] == 'dropped' then
      dropped = math.max(0, now - stored[i + 1])
    elseif not known[stored[i]] then
      table.insert(result, stored[i])
      table.insert(result, stored[i + 1])
    end
  end
  for id, data in pairs(known) do
    if not found[id] then
      redis.call('HSET', commands_key(), id, data)
      redis.call('PEXPIRE', commands_key(), COMMAND_MS)
    end
  end
  trim_commands()
  return {result, dropped, text(now)}
end
