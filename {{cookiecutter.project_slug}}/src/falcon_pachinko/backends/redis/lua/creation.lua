-- The creation of a room, and the repair of its keys.

local creation

-- Returns the functions of this file. PERF: most calls need none of them, and skip their definition.
local function use_creation()
  if creation then return creation end
  creation = {}

  -- A name that no other call returns: of a room's epoch, or of the generation of its presence.
  local names = 0
  function creation.new_name(base)
    names = names + 1
    return string.sub(redis.sha1hex(base .. time[1] .. ':' .. time[2] .. ':' .. names .. ARGV[4]), 1, 16)
  end

  function creation.subscribers_of(base)
    return redis.call('PUBSUB', sharded and 'SHARDNUMSUB' or 'NUMSUB', channel_of(base))[2]
  end

  -- The time until which new users wait only because a room may have been lost has a fraction, unlike that of a recovery.
  function creation.suspicion() return text(now + SUSPICION_MS - 1) .. '.5' end
  function creation.is_suspicion(ends) return ends % 1 > 0 end

  -- The number of a generation of a room's presence that begins, or of a loss: a time that does not go back with the clock.
  function creation.next_number(meta)
    return math.max(now, (redis.call('HGET', meta, 'g') or 0) + 1)
  end

  -- Begins a room's numbering and history: those of a new room, or of one whose last changes were or may have been lost.
  -- Tokens and bounds are kept. Returns the epoch.
  function creation.create_room(base, subscribers)
    local epoch, meta = creation.new_name(base), base .. ':m'
    local number = text(creation.next_number(meta))
    write('HSET', meta, 'e', epoch, 'o', 0, 'b', 0, 'c', 0, 'q', 0, 'x', 0, 'l', number, 'g', number, 'u', server_id())
    use_history().drop(base)
    local others = creation.subscribers_of(base) - subscribers
    -- Without a node the room lives a little longer than its stream.
    local life = (subscribers > 0 or others > 0) and ROOM_TTL_MS or 2 * MIN_STREAM_MS
    redis.call('PEXPIRE', meta, text(math.max(life, tonumber(redis.call('HGET', meta, 'a') or 0))))
    if redis.call('EXISTS', base .. ':p') == 1 then redis.call('HSET', meta, 'p', 1) end
    -- A node that has subscribed has usually created the room before: it may have been lost, and its presence with it. The
    -- nodes are asked, and new users wait for their answers.
    if others > 0 then
      redis.call('HSET', meta, 'y', creation.suspicion())
      send(base, '!lost\n')
    end
    return epoch
  end

  -- Deletes the keys of a room, or those of the nodes that an operation uses, that are of a wrong type: they are lost. A
  -- change of the presence is not finished then, so that all of it has to be built again.
  function creation.repair(base, op)
    local types = {m = 'hash', s = 'stream', p = 'hash', n = 'zset', o = 'zset', k = 'zset'}
    if string.sub(base, 1, #nodes - 1) == string.sub(nodes, 1, -2) then
      types = {n = 'zset', v = 'string', b = 'hash', c = 'hash', f = 'hash', h = 'zset', hx = 'zset', hb = 'string'}
      for _, name in ipairs(op) do
        if type(name) == 'string' then
          types['r:' .. name], types['k:' .. name], types['l:' .. name] = 'set', 'set', 'string'
        end
      end
    end
    local presence_is_lost = false
    for suffix, expected in pairs(types) do
      local key = base .. ':' .. suffix
      local found = redis.call('TYPE', key).ok
      if found ~= 'none' and found ~= expected then
        redis.call('DEL', key)
        presence_is_lost = presence_is_lost or types.p and suffix ~= 'm' and suffix ~= 's'
      end
    end
    if presence_is_lost then
      redis.call('DEL', base .. ':p', base .. ':n', base .. ':o', base .. ':k')
    end
  end

  return creation
end
