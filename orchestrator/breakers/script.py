"""What a circuit is in Redis, and the one script that reads and changes it.

`KEYS[1]` is a hash: `rule` (what it was declared with), `epoch` (how often it has opened or closed), `opened` (when, in
milliseconds of the server's clock; missing while it is closed), `bad` and `all` (the ends with which it has opened),
`probe` and `until` (who probes, and how long that counts unless it is renewed), `g:N` and `b:N` (good and bad ends in
the Nth slice of time). `KEYS[2]` is the set of all names. Whatever is lost with the memory of the server was closed.

The script answers with a word, the epoch, and milliseconds or counts:
    ask    closed | open (ms left) | probe
    renew  probe | late
    tell   "" | opened (bad, all) | reopened | closed | late
"""

from __future__ import annotations

import hashlib

SLICES = 12
"""Slices of the window: what is counted is between eleven and twelve of them old at most."""

KEPT = 86_400_000
"""Milliseconds for which a circuit that nobody asks about is remembered beyond its own times."""

SCRIPT = f"""
local verb, name, rule = ARGV[1], ARGV[2], ARGV[3]
local failures, window, minimum, open = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local lease, token, mine, verdict = tonumber(ARGV[8]), ARGV[9], ARGV[10], ARGV[11]
local key = KEYS[1]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local s = redis.call('HMGET', key, 'opened', 'epoch', 'probe', 'until')
local opened, epoch, probe, lasts = tonumber(s[1] or nil), s[2] or '0', s[3] or '', tonumber(s[4] or 0)

local function keep() redis.call('PEXPIRE', key, window + open + {KEPT}) end

local function turn(how)
    redis.call('DEL', key)
    epoch = tostring(tonumber(epoch) + 1)
    redis.call('HSET', key, 'epoch', epoch, 'rule', rule)
    if how == 'open' then redis.call('HSET', key, 'opened', now) end
    redis.call('SADD', KEYS[2], name)
    keep()
end

if verb == 'ask' then
    if not opened then return {{'closed', epoch, 0, 0}} end
    local left = opened + open - now
    if left <= 0 and probe ~= '' then left = lasts - now end
    if left > 0 then return {{'open', epoch, left, 0}} end
    redis.call('HSET', key, 'probe', token, 'until', now + lease)
    keep()
    return {{'probe', epoch, 0, 0}}
end

if verb == 'renew' then
    if probe ~= token then return {{'late', epoch, 0, 0}} end
    redis.call('HSET', key, 'until', now + lease)
    return {{'probe', epoch, 0, 0}}
end

if token ~= '' then
    if probe ~= token then return {{'late', epoch, 0, 0}} end
    if verdict == 'good' then turn('close') return {{'closed', epoch, 0, 0}} end
    if verdict == 'bad' then turn('open') return {{'reopened', epoch, 0, 0}} end
    redis.call('HDEL', key, 'probe', 'until')
    return {{'', epoch, 0, 0}}
end

if opened or epoch ~= mine then return {{'late', epoch, 0, 0}} end
local slice = math.floor(now * {SLICES} / window)
redis.call('HINCRBY', key, (verdict == 'bad' and 'b:' or 'g:') .. slice, 1)
local all = redis.call('HGETALL', key)
local good, bad = 0, 0
for i = 1, #all, 2 do
    local kind, at = string.match(all[i], '^([gb]):(%d+)$')
    if kind and tonumber(at) <= slice - {SLICES} then
        redis.call('HDEL', key, all[i])
    elseif kind == 'g' then
        good = good + all[i + 1]
    elseif kind == 'b' then
        bad = bad + all[i + 1]
    end
end
if good + bad == 1 then
    redis.call('HSET', key, 'rule', rule, 'epoch', epoch)
    redis.call('SADD', KEYS[2], name)
end
keep()
if bad > 0 and good + bad >= minimum and bad >= failures * (good + bad) then
    turn('open')
    redis.call('HSET', key, 'bad', bad, 'all', good + bad)
    return {{'opened', epoch, bad, good + bad}}
end
return {{'', epoch, 0, 0}}
"""

SHA = hashlib.sha1(SCRIPT.encode()).hexdigest()  # noqa: S324  what Redis calls a script by
