-- The records of connections, in the presence entries of their users.

-- The version of a connection's record that is stored; 0 for none.
local function version_of(entry, connection)
  local record = entry.m and entry.m[connection]
  return record and record[1] or 0
end

-- Stores a record unless it is older than the stored one. Returns the difference of the versions.
local function set_record(base, entry, connection, record)
  local known = version_of(entry, connection)
  if not record or record[1] <= known then return 0 end
  entry.m = entry.m or {}
  entry.m[connection] = record
  redis.call('HSET', base .. ':p', 'r', 1)
  return record[1] - known
end

local function remove_record(entry, connection)
  if not entry.m then return end
  entry.m[connection] = nil
  if not next(entry.m) then entry.m = nil end
end

local function remove_connection(entry, connection)
  entry.c[connection] = nil
  remove_record(entry, connection)
end

-- Returns the records of a user by connection, in turn.
local function records_of(entry)
  local found = {}
  for connection, record in pairs(entry.m or {}) do
    if record[2] and entry.c[connection] then
      found[#found + 1] = connection
      found[#found + 1] = record[2]
    end
  end
  return found
end

-- Describes the change of a user for the head of a message, with the user's records.
local function change_of(sign, key, entry)
  return table.concat({sign .. key, unpack(records_of(entry))}, '\t')
end
