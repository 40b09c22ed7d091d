-- What the engine does for the nodes. script.py says what the keys hold, and sets the names in capitals.

local prefix, sharded = ARGV[1] .. ':', ARGV[2] == '1'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- Nobody waits for it any more: what was held up on its way must not undo what was said after it.
if now > tonumber(ARGV[4]) then return {now} end

local nodes = prefix .. '{%nodes}:'

local function text(number) return string.format('%.0f', number) end

local function say(channel, data)
  return redis.call(sharded and 'SPUBLISH' or 'PUBLISH', channel, data)
end

local function publish(base, data, ephemeral, fence, token)
  local meta = base .. ':m'
  local known = redis.call('HMGET', meta, 'e', 'n', 'a', fence and ('f:' .. fence) or 'e')
  local epoch = known[1]
  if fence then
    if known[4] and tonumber(known[4]) > token then return -1 end
    if epoch then redis.call('HSET', meta, 'f:' .. fence, text(token)) end
  end
  if not epoch then return 0 end
  if ephemeral then
    say(base, '-\n' .. data)
    return 0
  end
  local offset = redis.call('HINCRBY', meta, 'o', 1)
  local count = math.max(tonumber(known[2] or 0), CATCH_UP_MESSAGES)
  local age = math.max(tonumber(known[3] or 0), CATCH_UP_MS)
  redis.call('XADD', base .. ':s', 'MAXLEN', text(count), text(offset) .. '-1', 't', text(now), 'd', data)
  redis.call('PEXPIRE', base .. ':s', text(age))
  say(base, epoch .. ':' .. text(offset) .. (known[2] and ':1\n' or ':0\n') .. data)
  return offset
end

local operations = cmsgpack.unpack(ARGV[3])

local function each(function_of)
  local results = {}
  for i, op in ipairs(operations) do
    local done, result = pcall(function_of(op[1]), prefix .. op[2], unpack(op, 3, 12))
    if done or type(result) == 'table' then
      results[i] = result
    else
      results[i] = redis.error_reply('ERR ' .. tostring(result))
    end
  end
  results[#operations + 1] = now
  return results
end

-- What only publishes, and that is most, does without all the rest.
local publishes = true
for _, op in ipairs(operations) do publishes = publishes and op[1] == 'publish' end
if publishes then return each(function() return publish end) end

local function keep(base)
  local age = tonumber(redis.call('HGET', base .. ':m', 'a') or 0)
  redis.call('PEXPIRE', base .. ':m', text(math.max(age, ROOM_TTL_MS)))
  redis.call('PEXPIRE', base .. ':p', ROOM_TTL_MS)
end

local function get(base, key)
  local found = redis.call('HGET', base .. ':p', key)
  return found and cmsgpack.unpack(found)
end

local function set(base, key, stay)
  redis.call('HSET', base .. ':p', key, cmsgpack.pack(stay))
  redis.call('PEXPIRE', base .. ':p', ROOM_TTL_MS)
end

local function go(base, key, stay)
  redis.call('HDEL', base .. ':p', key)
  if stay.l then publish(base, stay.l) end
end

local does, entered = {}, 0

does.publish = publish

function does.say(base, data)
  return say(base, data)
end

-- A node has the room open: what it needs exists, and this is what followed an offset, or all of an
-- epoch that the node does not know. A node that is ahead of the engine has seen what the engine has lost.
function does.open(base, epoch, messages, age, known_epoch, known_offset, everything)
  local meta, stream = base .. ':m', base .. ':s'
  local here = redis.call('HMGET', meta, 'e', 'o')
  local lost = here[1] and here[1] == known_epoch and tonumber(here[2]) < known_offset
  if not here[1] or lost then
    redis.call('DEL', stream)
    redis.call('HSET', meta, 'e', epoch, 'o', 0)
    here = {epoch, '0'}
  end
  if messages > 0 then redis.call('HSET', meta, 'n', text(messages), 'a', text(age)) end
  keep(base)
  local entries = {}
  local offset = tonumber(here[2])
  if known_epoch or everything then
    local from = not everything and here[1] == known_epoch and known_offset or 0
    if from < offset then
      for _, entry in ipairs(redis.call('XRANGE', stream, '(' .. text(from) .. '-1', '+')) do
        table.insert(entries, entry[1])
        table.insert(entries, entry[2][2])
        table.insert(entries, entry[2][4])
      end
    end
  end
  local shown = redis.call('HEXISTS', meta, 'n')
  return {here[1], offset, shown, text(now), entries}
end

-- A node has the room open for longer.
function does.keep(base)
  keep(base)
  return 1
end

-- A node needs the room no more: with the last one goes what nobody can ask for again. Where somebody is there
-- all the same, their node is cut off just now, and will ask.
function does.close(base)
  local heard = redis.call('PUBSUB', sharded and 'SHARDNUMSUB' or 'NUMSUB', base)
  if heard[2] > 0 then return 0 end
  local age = redis.call('HGET', base .. ':m', 'a')
  if not age then
    for _, stay in ipairs(redis.call('HVALS', base .. ':p')) do
      if next(cmsgpack.unpack(stay).c) then age = CATCH_UP_MS end
    end
  end
  if age then
    redis.call('PEXPIRE', base .. ':m', age)
    redis.call('PEXPIRE', base .. ':s', age)
  else
    redis.call('DEL', base .. ':m', base .. ':s')
  end
  return 1
end

function does.enter(base, key, connection, node, joined, left)
  local stay = get(base, key)
  local first = not stay
  entered = entered + 1
  if first then stay = {c = {}, s = time[1] * 1000000 + time[2] + entered} end
  stay.c[connection] = node
  stay.g, stay.n = nil, nil
  if left then stay.l = left end
  set(base, key, stay)
  if first and joined then publish(base, joined) end
  return first and 1 or 0
end

function does.leave(base, key, connection, node, grace)
  local stay = get(base, key)
  if not stay then return 0 end
  if not stay.c[connection] then
    -- Asked for the second time, perhaps under another name: whoever asks settles it.
    if not stay.g or next(stay.c) then return 0 end
    stay.n = node
    set(base, key, stay)
    return 2
  end
  stay.c[connection] = nil
  if next(stay.c) then
    set(base, key, stay)
    return 0
  end
  if grace > 0 then
    stay.g, stay.n = now + grace, node
    set(base, key, stay)
    return 2
  end
  go(base, key, stay)
  return 1
end

function does.settle(base, key)
  local stay = get(base, key)
  if stay and stay.g and stay.g <= now and not next(stay.c) then go(base, key, stay) end
  return stay and stay.g and stay.g > now and 1 or 0
end

-- A node's connections are not there any more but for the living ones: none of a dead node. Whether something
-- of it has to be settled later, and which of the living ones are not there.
function does.bury(base, node, living)
  local all, later, missing = redis.call('HGETALL', base .. ':p'), 0, {}
  for _, connection in ipairs(living) do missing[connection] = true end
  for i = 1, #all, 2 do
    local key, stay, changed = all[i], cmsgpack.unpack(all[i + 1]), false
    for connection, of in pairs(stay.c) do
      if missing[connection] then
        missing[connection] = nil
      elseif of == node then
        stay.c[connection] = nil
        changed = true
      end
    end
    if not next(stay.c) and (changed or stay.n == node) then
      if stay.g and stay.g > now then later = 1 else go(base, key, stay) end
    elseif changed then
      set(base, key, stay)
    end
  end
  local names = {}
  for connection in pairs(missing) do table.insert(names, connection) end
  return {later, names}
end

function does.present(base, key)
  return redis.call('HEXISTS', base .. ':p', key)
end

function does.members(base)
  local all, found = redis.call('HGETALL', base .. ':p'), {}
  for i = 1, #all, 2 do
    table.insert(found, all[i])
    table.insert(found, text(cmsgpack.unpack(all[i + 1]).s))
  end
  return found
end

-- Whether the engine knows the node (1), or does not (any more) because it lost its data or has it buried: then it
-- is not known by saying so once more, because the answer may be lost, but anew only. And who is to be buried now: nobody, where no node at all could be heard for a while, because then it was the
-- engine that was away.
function does.beat(base, node, expiry, claim, anew)
  local known = anew or redis.call('ZSCORE', nodes .. 'n', node)
  if not known or redis.call('EXISTS', nodes .. 'x:' .. node) == 1 then return {0} end
  redis.call('ZADD', nodes .. 'n', text(now + expiry), node)
  local last = tonumber(redis.call('GET', nodes .. 'b') or now)
  redis.call('SET', nodes .. 'b', text(now), 'PX', ROOM_TTL_MS)
  local answer = {1}
  for _, dead in ipairs(redis.call('ZRANGEBYSCORE', nodes .. 'n', '-inf', text(now))) do
    if now - last > 2 * claim then
      redis.call('ZADD', nodes .. 'n', text(now + expiry), dead)
    else
      redis.call('ZADD', nodes .. 'n', text(now + claim), dead)
      redis.call('SET', nodes .. 'x:' .. dead, '1', 'PX', ROOM_TTL_MS)
      table.insert(answer, dead)
    end
  end
  return answer
end

function does.buried(base, node)
  redis.call('ZREM', nodes .. 'n', node)
  redis.call('DEL', nodes .. 'r:' .. node, nodes .. 'x:' .. node)
  return 1
end

-- A node ends in order: the others bury it when its users' time of grace is over.
function does.depart(base, node, ms)
  if redis.call('EXISTS', nodes .. 'r:' .. node) == 1 then
    redis.call('ZADD', nodes .. 'n', text(now + ms), node)
    redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  else
    redis.call('ZREM', nodes .. 'n', node)
  end
  return 1
end

function does.has(base, node, rooms)
  redis.call('SADD', nodes .. 'r:' .. node, unpack(rooms))
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  return 1
end

function does.had(base, node, rooms)
  redis.call('SREM', nodes .. 'r:' .. node, unpack(rooms))
  return 1
end

function does.keep_rooms_of(base, node)
  redis.call('PEXPIRE', nodes .. 'r:' .. node, ROOM_TTL_MS)
  return 1
end

function does.rooms_of(base, node)
  return redis.call('SMEMBERS', nodes .. 'r:' .. node)
end

function does.living(base)
  return redis.call('ZRANGEBYSCORE', nodes .. 'n', '(' .. text(now), '+inf')
end

function does.acquire(base, name, holder, ms)
  local lease = nodes .. 'l:' .. name
  if redis.call('SET', lease, holder, 'NX', 'PX', text(ms)) then
    -- Higher than the last one, also where that has been lost.
    local token = math.max(tonumber(redis.call('HGET', nodes .. 'f', name) or 0) + 1, now)
    redis.call('HSET', nodes .. 'f', name, text(token))
    return token
  end
  return -redis.call('PTTL', lease)
end

function does.renew(base, name, holder, ms)
  local lease = nodes .. 'l:' .. name
  if redis.call('GET', lease) ~= holder then return 0 end
  return redis.call('PEXPIRE', lease, text(ms))
end

function does.release(base, name, holder)
  local lease = nodes .. 'l:' .. name
  if redis.call('GET', lease) == holder then redis.call('DEL', lease) end
  return 1
end

return each(function(name) return does[name] end)
