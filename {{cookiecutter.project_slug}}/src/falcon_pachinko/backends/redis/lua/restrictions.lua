-- The restrictions of users and sessions: a map in which the last change of an entry wins. An entry is a text of its
-- version, its end, the time until which it is kept, and the time until which the sessions that it revokes were issued.

local function restrictions_key() return nodes .. 'b' end

local function hash_of(field, value)
  return tonumber(string.sub(redis.sha1hex(field .. '\n' .. value), 1, 10), 16)
end

-- Returns the parts of a value; nothing if there is none, or it is not valid.
local function numbers_of(value)
  local version, ends, kept, issued = string.match(value or '', '^(%d+) (%d+) (%d+) (%d+)$')
  return tonumber(version), tonumber(ends), tonumber(kept), tonumber(issued)
end

-- Whether a value is later than another of its entry; of two with one version, all nodes choose the same.
local function replaces(field, value, other)
  if value == other then return false end
  local version, known = numbers_of(value), numbers_of(other)
  if not (version and known) then return version ~= nil end
  if version ~= known then return version > known end
  return hash_of(field, value) > hash_of(field, other)
end

-- Stores values, given as fields and values in turn, where they replace the known ones, and keeps the digest. The key
-- lives at least for the given time.
local function store_restrictions(changes, ttl)
  local key, fields, difference = restrictions_key(), {}, 0
  for i = 1, #changes, 2 do fields[#fields + 1] = changes[i] end
  local known, later = redis.call('HMGET', key, unpack(fields)), {}
  for i, field in ipairs(fields) do
    local value, other = changes[2 * i], known[i]
    if replaces(field, value, other) then
      later[#later + 1], later[#later + 2] = field, value
      difference = difference + hash_of(field, value) - (other and hash_of(field, other) or 0)
    end
  end
  if #later > 0 then
    redis.call('HSET', key, unpack(later))
    redis.call('HINCRBY', key, 'digest', text(difference))
  end
  if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, text(ttl)) end
end

-- Changes an entry, and sends it to all nodes. Returns the id of the message, the live nodes, and the number of entries
-- if there are too many and nothing was changed.
function operations.restrict(base, node, field, ends, issued, extends, known, clock, removal)
  local key = restrictions_key()
  local stored = redis.call('HGET', key, field)
  local last = replaces(field, known, stored) and known or stored
  local most = extends and MAX_WITH_REVOCATIONS or MAX_RESTRICTIONS
  if not last and redis.call('HLEN', key) > most then
    return {'', {}, redis.call('HLEN', key) - 1}
  end
  local version, kept = now, ends > 0 and ends or clock + removal
  local last_version, last_ends, last_kept, last_issued = numbers_of(last)
  if last_version then
    version, kept = math.max(now, last_version + 1), math.max(ends, last_kept)
    if extends then ends, issued = math.max(ends, last_ends), math.max(issued, last_issued) end
  end
  local value = table.concat({text(version), text(ends), text(kept), text(issued)}, ' ')
  store_restrictions({field, value}, kept - clock + ROOM_TTL_MS)
  local id = string.format('%013.0f-', now) .. new_name(base)
  send(nodes .. 'all', '!restrict:' .. id .. '\n' .. field .. '\n' .. value)
  return {id, unconfirmed(id, node), 0}
end

-- Stores entries of a node that are later than those in Redis.
function operations.merge_restrictions(base, changes, ttl)
  store_restrictions(changes, ttl)
  return 1
end

-- Removes entries that have ended, unless they have changed.
function operations.drop_restrictions(base, entries)
  local key = restrictions_key()
  for i = 1, #entries, 2 do
    local field, value = entries[i], entries[i + 1]
    if redis.call('HGET', key, field) == value then
      redis.call('HDEL', key, field)
      redis.call('HINCRBY', key, 'digest', text(-hash_of(field, value)))
    end
  end
  if redis.call('HLEN', key) <= 1 then redis.call('DEL', key) end
  return 1
end

-- Removes all entries and a damaged digest; the node stores its entries again.
function operations.delete_restrictions(base)
  redis.call('DEL', restrictions_key())
  return 1
end

-- Returns a part of the entries, and the cursor of the next part; '0' after the last one.
function operations.read_restrictions(base, cursor)
  return redis.call('HSCAN', restrictions_key(), cursor, 'COUNT', RESTRICTIONS_PER_SLICE)
end

function operations.restrictions_digest(base)
  return restrictions_digest()
end
