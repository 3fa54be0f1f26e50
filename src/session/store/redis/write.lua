-- One change of one session. KEYS[1]: its hash. ARGV: the process, the write's turn in that process, the fence,
-- what changes, and with what. Returns 'done', 'lost' or 'gone'.
local key, process, turn, fence, op = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local has = redis.call('HMGET', key, 'fence', 'owner', 'turn')

if not has[1] then
  if op == 'end' then return 'done' end
  if op ~= 'open' then return 'gone' end
else
  local older = fence < tonumber(has[1])
  local other = fence == tonumber(has[1]) and has[2] ~= process
  -- One that arrives late, after its connection was given up and another has sent it again, has an older turn.
  local late = has[2] == process and tonumber(turn) <= tonumber(has[3])
  if older or other or late then return 'lost' end
end

if op == 'open' or op == 'end' then redis.call('DEL', key) end
if op == 'end' then return 'done' end
redis.call('HSET', key, 'fence', ARGV[3], 'owner', process, 'turn', turn)
if op == 'open' then
  redis.call('HSET', key, 'principal', ARGV[6])
  for at = 7, #ARGV, 2 do redis.call('HSET', key, ARGV[at], ARGV[at + 1]) end
end
if op == 'open' or op == 'touch' then
  redis.call('PEXPIREAT', key, ARGV[5])
elseif op == 'put' then
  redis.call('HSET', key, ARGV[5], ARGV[6])
elseif op == 'delete' then
  redis.call('HDEL', key, ARGV[5])
end
return 'done'
