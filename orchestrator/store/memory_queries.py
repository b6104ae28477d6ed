"""What agents remember beyond a run. A search is bounded, however many memories there are."""

from __future__ import annotations

from typing import LiteralString

# The fence, as for shared state: whoever no longer holds the step remembers nothing. Once for each place of a step.
REMEMBER: LiteralString = """
WITH holder AS (
    SELECT run_id, path FROM steps
    WHERE run_id = %(run_id)s AND path = %(path)s AND attempt = %(attempt)s AND state || '' = 'running'
    FOR SHARE
), made AS (
    INSERT INTO memories (tenant, key, kind, text, data, words, model, vector, run_id, path, place, expires_at)
    SELECT %(tenant)s, %(key)s, %(kind)s, %(text)s, %(data)s::jsonb,
           to_tsvector(%(language)s::regconfig, %(text)s) || array_to_tsvector(%(marks)s::text[]),
           %(model)s, %(vector)s::real[], run_id, path, %(place)s,
           clock_timestamp() + make_interval(secs => %(expires)s::float8)
    FROM holder
    ON CONFLICT (run_id, path, place) DO NOTHING
    RETURNING id, run_id, path, key, kind, model
), told AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, 'step.remembered', path, jsonb_build_object('id', id, 'key', key, 'kind', kind, 'model', model)
    FROM made
)
SELECT id FROM made
UNION ALL SELECT id FROM memories WHERE run_id = %(run_id)s AND path = %(path)s AND place = %(place)s
"""

# Told at once and not with the outcome, which a killed worker would not bring: what it read is read.
TELL_RECALLED: LiteralString = """
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.recalled', path, %(data)s::jsonb FROM steps
WHERE run_id = %(run_id)s AND path = %(path)s AND attempt = %(attempt)s AND state || '' = 'running'
RETURNING run_id
"""

# The event is what says to a later attempt that it has been done: others may have remembered more since.
FORGET_ONCE: LiteralString = """
WITH holder AS (
    SELECT run_id, path FROM steps
    WHERE run_id = %(run_id)s AND path = %(path)s AND attempt = %(attempt)s AND state || '' = 'running'
    FOR SHARE
), before AS (
    SELECT (e.data ->> 'forgotten')::int AS number FROM events e JOIN holder USING (run_id, path)
    WHERE e.kind = 'step.forgotten' AND (e.data ->> 'place')::bigint = %(place)s
), gone AS (
    DELETE FROM memories m USING holder
    WHERE NOT EXISTS (SELECT FROM before) AND m.tenant = %(tenant)s
      AND CASE WHEN %(key)s::text IS NULL THEN m.id = ANY (%(ids)s::bigint[]) ELSE m.key = %(key)s END
    RETURNING m.id
), told AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, 'step.forgotten', path, jsonb_build_object('place', %(place)s::bigint, 'key', %(key)s::text,
        'message', (SELECT CASE count(*) WHEN 1 THEN '1 memory was forgotten'
                                         ELSE count(*) || ' memories were forgotten' END FROM gone),
        'forgotten', (SELECT count(*) FROM gone),
        'ids', (SELECT coalesce(jsonb_agg(id ORDER BY id), '[]') FROM (SELECT id FROM gone LIMIT 100) AS few))
    FROM holder WHERE NOT EXISTS (SELECT FROM before)
)
SELECT coalesce((SELECT number FROM before), (SELECT count(*) FROM gone)) FROM holder
"""

_HERE: LiteralString = """
tenant = %(tenant)s AND key = ANY (%(keys)s::text[]) AND (%(kind)s::text IS NULL OR kind = %(kind)s)
AND (expires_at IS NULL OR expires_at > clock_timestamp())
"""

# All words first; then any of them, the longest ones, which are the rarest, and of each no more than a few hundred
# memories. The marks of tenant and key are words of the same index.
FIND_WORDS: LiteralString = (
    r"""
WITH asked AS (
    SELECT ('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''')::tsquery AS word
    FROM unnest(to_tsvector(%(language)s::regconfig, %(query)s)) ORDER BY length(lexeme) DESC, lexeme
    LIMIT %(words)s
), wish AS (
    SELECT websearch_to_tsquery(%(language)s::regconfig, %(query)s) AS whole
), found AS (
    SELECT w.id FROM wish, LATERAL (
        SELECT id FROM memories
        WHERE numnode(whole) > 0 AND words @@ (%(marks)s::tsquery && whole) AND """
    + _HERE
    + """LIMIT %(breadth)s
    ) w
    UNION
    SELECT w.id FROM asked, LATERAL (
        SELECT id FROM memories
        WHERE %(any)s AND words @@ (%(marks)s::tsquery && word) AND """
    + _HERE
    + """LIMIT %(breadth)s
    ) w
)
SELECT m.id, (SELECT count(*) FILTER (WHERE m.words @@ word) / count(*)::float8 FROM asked) AS share
FROM found JOIN memories m ON m.id = found.id CROSS JOIN wish
ORDER BY share DESC, ts_rank_cd(m.words, whole) DESC, m.id DESC LIMIT %(most)s
"""
)

COUNT_VECTORS: LiteralString = (
    "SELECT count(*) FROM (SELECT FROM memories WHERE "
    + _HERE
    + " AND model = %(model)s LIMIT %(limit)s) AS first"
)

SELECT_MEMORIES: LiteralString = """
SELECT id, tenant, key, kind, text, data, model, run_id, path, remembered_at, expires_at FROM memories
WHERE tenant = %(tenant)s AND id = ANY (%(ids)s::bigint[])
"""

LIST_MEMORIES: LiteralString = """
SELECT id, tenant, key, kind, text, data, model, run_id, path, remembered_at, expires_at FROM memories
WHERE tenant = %(tenant)s AND (%(key)s::text IS NULL OR key = %(key)s)
ORDER BY id DESC LIMIT %(limit)s
"""

SELECT_KEYS: LiteralString = "SELECT DISTINCT key FROM memories WHERE tenant = %(tenant)s"

FORGET: LiteralString = """
DELETE FROM memories
WHERE tenant = %(tenant)s AND (%(ids)s::bigint[] IS NULL OR id = ANY (%(ids)s::bigint[]))
  AND (%(key)s::text IS NULL OR key = %(key)s)
"""

# What the events of a run name, as far as it has not been forgotten.
SELECT_TEXTS: LiteralString = """
SELECT m.id, m.text FROM memories m JOIN runs r ON r.tenant = m.tenant
WHERE r.id = %(run)s AND m.id = ANY (%(ids)s::bigint[])
"""

SELECT_EPISODES: LiteralString = """
SELECT id, workflow, state, input, error ->> 'message' AS error, started_at, finished_at FROM runs
WHERE tenant = %(tenant)s AND labels ->> 'key' = %(key)s AND state IN ('completed', 'failed', 'cancelled')
  AND parent_run IS NULL AND id <> %(run_id)s
ORDER BY created_at DESC LIMIT %(most)s
"""
