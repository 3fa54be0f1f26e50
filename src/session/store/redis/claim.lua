-- Makes a process the owner of a session. KEYS[1]: its hash. ARGV: the process, the claim's turn in that process,
-- and the principal. Returns the hash's fields and values, or nil.
local key, process, turn = KEYS[1], ARGV[1], ARGV[2]
local has = redis.call('HMGET', key, 'fence', 'owner', 'turn', 'principal')
if not has[1] or has[4] ~= ARGV[3] then return false end
-- One that arrives late: another connection has made it again.
if has[2] == process and tonumber(turn) <= tonumber(has[3]) then return false end

local fence = string.format('%.0f', tonumber(has[1]) + 1)
redis.call('HSET', key, 'fence', fence, 'owner', process, 'turn', turn)
return redis.call('HGETALL', key)
