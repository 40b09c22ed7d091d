-- The connections of each user, for each node their number and the time at which the node has written it.

-- Sets the number of a node's connections of a user: those that it holds, and of those that wait as many as the bound
-- allows. Entries that were not written for USER_LEASES leases do not count, nor those of dead nodes that are older than
-- a lease. Returns the number and, if it is less than wanted, the other nodes whose entries are older than a lease.
function operations.count_user(base, node, held, wanted, bound, lease, dead)
  local key = base .. ':c'
  local fields = redis.pcall('HGETALL', key)
  if fields.err then
    redis.call('DEL', key)
    fields = {}
  end
  local is_dead = {}
  for _, name in ipairs(dead) do is_dead[name] = true end
  local others, old = 0, {}
  for i = 1, #fields, 2 do
    local name = fields[i]
    local count, written = string.match(fields[i + 1], '^(%d+) (%d+)$')
    local age = now - tonumber(written or 0)
    if name ~= node then
      if age < 0 then
        -- The clock has jumped back.
        redis.call('HSET', key, name, count .. ' ' .. text(now))
      elseif age >= USER_LEASES * lease or (age >= lease and is_dead[name]) then
        redis.call('HDEL', key, name)
        count = 0
      elseif age >= lease then
        table.insert(old, name)
      end
      others = others + count
    end
  end
  local granted = math.max(held, math.min(wanted, bound - others))
  if granted > 0 then
    redis.call('HSET', key, node, text(granted) .. ' ' .. text(now))
    redis.call('PEXPIRE', key, text(USER_LEASES * lease))
  else
    redis.call('HDEL', key, node)
  end
  return {granted, granted < wanted and old or {}}
end
