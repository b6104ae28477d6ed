"""Calls of tools: what is written of them, what answers equal ones, what must have its effect once."""

from __future__ import annotations

from typing import LiteralString

# One statement when a call has ended. Whoever is told of waits is told of calls of medium risk, which wait for nobody.
INSERT_CALL: LiteralString = """
WITH written AS (
    INSERT INTO tool_calls (id, run_id, path, attempt, place, agent, tool, part_of, idempotency_key, arguments, result,
                            error, cached, runs_on, seconds)
    VALUES (%(id)s, %(run)s, %(path)s, %(attempt)s, %(place)s, %(agent)s, %(tool)s, %(part_of)s, %(key)s,
            %(arguments)s::jsonb, %(result)s::jsonb, %(error)s, %(cached)s, %(runs_on)s, %(seconds)s)
    ON CONFLICT (id) DO NOTHING RETURNING id
)
INSERT INTO notices (kind, run_id, path, body)
SELECT 'tool.informed', %(run)s, %(path)s,
       jsonb_build_object('tool', %(tool)s::text, 'agent', %(agent)s::text, 'risk', 'medium', 'error', %(error)s::text)
FROM written WHERE %(informs)s
"""

SELECT_CALLS: LiteralString = """
SELECT path, attempt, place, agent, tool, part_of, idempotency_key, arguments, result, error, cached, runs_on, seconds,
       at
FROM tool_calls WHERE run_id = %(run)s ORDER BY at, id
"""

# --- the cache --------------------------------------------------------------------------------------------

SELECT_CACHED: LiteralString = """
SELECT value::text, value IS NOT NULL AND expires_at > clock_timestamp(), error, ended_at,
       lease_until > clock_timestamp() AND holder <> %(holder)s
FROM tool_cache WHERE key = %(key)s
"""

SELECT_NOW: LiteralString = "SELECT clock_timestamp()"

# What nobody computes, and what is no longer worth anything, is for the one that comes first.
TAKE_CACHED: LiteralString = """
INSERT INTO tool_cache AS c (key, holder, lease_until, expires_at)
VALUES (%(key)s, %(holder)s, clock_timestamp() + make_interval(secs => %(lease)s),
        clock_timestamp() + interval '1 hour')
ON CONFLICT (key) DO UPDATE
SET holder = excluded.holder, lease_until = excluded.lease_until, expires_at = excluded.expires_at, value = NULL,
    error = NULL, ended_at = NULL
WHERE c.lease_until <= clock_timestamp() AND (c.value IS NULL OR c.expires_at <= clock_timestamp())
   OR c.holder = excluded.holder AND c.ended_at IS NULL  -- what it took itself, unheard
RETURNING 1
"""

RENEW_CACHED: LiteralString = """
UPDATE tool_cache SET lease_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE key = %(key)s AND holder = %(holder)s AND ended_at IS NULL
"""

# Whoever writes takes some away that have expired: nobody else has to. An error is for those who wait now.
END_CACHED: LiteralString = """
WITH gone AS (
    DELETE FROM tool_cache WHERE key IN (
        SELECT key FROM tool_cache WHERE expires_at < statement_timestamp() AND key <> %(key)s
        ORDER BY expires_at LIMIT 20 FOR UPDATE SKIP LOCKED
    )
)
UPDATE tool_cache
SET value = %(value)s::jsonb, error = %(error)s, ended_at = clock_timestamp(), lease_until = clock_timestamp(),
    expires_at = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE key = %(key)s AND holder = %(holder)s AND ended_at IS NULL
"""

# --- fences -----------------------------------------------------------------------------------------------

# The row of the step is held, as for an entry of its journal: an attempt that is over puts up no fence.
PUT_FENCE: LiteralString = """
INSERT INTO tool_fences AS f (key, run_id, token)
SELECT %(key)s, s.run_id, %(token)s
FROM (
    SELECT run_id FROM steps
    WHERE run_id = %(run)s AND path = %(path)s AND attempt = %(attempt)s AND state || '' = 'running'
    FOR SHARE
) s
ON CONFLICT (key) DO UPDATE SET token = excluded.token WHERE f.token = excluded.token
RETURNING 1
"""

SELECT_FENCE: LiteralString = "SELECT result::text FROM tool_fences WHERE key = %(key)s"

# What could not be done may be tried again.
DROP_FENCE: LiteralString = "DELETE FROM tool_fences WHERE key = %(key)s AND token = %(token)s"

# What is open in a fork goes on from where the other run is: what was begun there is not begun again. Keys begin with
# run and path.
COPY_FENCES: LiteralString = """
INSERT INTO tool_fences (key, run_id, token, result)
SELECT %(run)s::text || substr(f.key, length(%(origin)s::text) + 1), %(run)s, gen_random_uuid(), f.result
FROM tool_fences f
WHERE f.run_id = %(origin)s AND EXISTS (
    SELECT FROM unnest(%(paths)s::text[]) AS p(path) WHERE starts_with(f.key, %(origin)s::text || ':' || path || ':'))
"""

END_FENCE: LiteralString = """
UPDATE tool_fences SET result = %(result)s::jsonb WHERE key = %(key)s AND token = %(token)s
"""
