-- Tickets: each has a slot of its own, and is taken once.

-- Stores a ticket for a time. The clock may jump back, so that the key would live longer. A server with old data, after a
-- restart from a copy or a failover, may have a ticket again that was taken.
function operations.issue_ticket(base, value, ms)
  redis.call('SET', base .. ':t', text(now) .. ' ' .. text(now + ms) .. ' ' .. server_id() .. '\n' .. value, 'PX',
    text(ms))
  return 1
end

-- Takes a ticket; returns its value in a list, which is empty if there is none.
function operations.redeem_ticket(base)
  local stored = redis.pcall('GET', base .. ':t')
  redis.call('DEL', base .. ':t')
  if type(stored) ~= 'string' then return {} end
  local issued, ends, server, value = string.match(stored, '^(%d+) (%d+) (%x*)\n(.*)$')
  if not issued or now < tonumber(issued) or now >= tonumber(ends) then return {} end
  if is_of_another_server(server) then return {} end
  return {value}
end
