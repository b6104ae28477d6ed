"""What follows when a step ends: steps open, composites close, runs end. Batches come as arrays.

A step that becomes ready in a paused run is held: its `ready_at` is NULL until the run is resumed.
"""

from __future__ import annotations

from typing import LiteralString

INSERT_STEPS: LiteralString = """
INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, input, input_ref, due_at, ready_at)
SELECT g.run_id, g.path, g.parent, g.ordinal, g.kind, g.agent, g.state, g.input::jsonb, g.input_ref,
       clock_timestamp() + make_interval(secs => g.due),
       CASE WHEN NOT g.held THEN clock_timestamp() END
FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(parents)s::text[], %(ordinals)s::int[], %(kinds)s::text[],
            %(agents)s::text[], %(states)s::text[], %(inputs)s::text[], %(input_refs)s::text[], %(dues)s::float8[],
            %(helds)s::bool[])
     AS g(run_id, path, parent, ordinal, kind, agent, state, input, input_ref, due, held)
ON CONFLICT (run_id, path) DO NOTHING
RETURNING run_id, path
"""

SELECT_DONE: LiteralString = """
SELECT s.run_id, s.path, coalesce(s.output_ref, 'out:' || s.path)
FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
JOIN steps s ON s.run_id = g.run_id AND s.path = g.path AND s.state = 'done'
"""

# The items of an `each`, taken out of the value that a reference names; rows beyond the window wait. A resumed or
# forked run may have them already.
INSERT_ITEMS: LiteralString = """
WITH source AS (
    SELECT CASE WHEN %(ref)s = 'run' THEN (SELECT input FROM runs WHERE id = %(run)s)
                WHEN %(ref)s LIKE 'in:%%' THEN (SELECT input FROM steps
                                                WHERE run_id = %(run)s AND path = substr(%(ref)s, 4))
                ELSE (SELECT output FROM steps WHERE run_id = %(run)s AND path = substr(%(ref)s, 5))
           END AS value
), list AS (
    SELECT CASE WHEN %(field)s::text IS NULL THEN value ELSE value -> %(field)s::text END AS value FROM source
), sound AS (
    -- AND promises no order, and the length of a text is an error.
    SELECT value FROM list
    WHERE CASE jsonb_typeof(value) WHEN 'array' THEN jsonb_array_length(value) <= %(most)s ELSE false END
), made AS (
    INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, input, due_at, ready_at)
    SELECT %(run)s, %(path)s || '/' || (i.n - 1), %(path)s, i.n - 1, %(kind)s, %(agent)s,
           CASE WHEN i.n <= %(window)s THEN %(state)s ELSE 'pending' END, i.item,
           clock_timestamp() + make_interval(secs => %(delay)s::float8),
           CASE WHEN NOT %(held)s THEN clock_timestamp() END
    FROM sound, jsonb_array_elements(sound.value) WITH ORDINALITY AS i(item, n)
    WHERE NOT EXISTS (SELECT FROM steps WHERE run_id = %(run)s AND path = %(path)s || '/0')
    RETURNING 1
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT %(run)s, 'step.opened', %(path)s,
           jsonb_build_object('items', count(*), 'started', least(count(*), %(window)s))
    FROM made HAVING count(*) > 0
)
SELECT jsonb_typeof(value) AS kind,
       CASE WHEN jsonb_typeof(value) = 'array' THEN jsonb_array_length(value) END AS items,
       (SELECT count(*) FROM made) AS made
FROM list
"""

INSERT_GIVEN_ITEMS: LiteralString = """
WITH made AS (
    INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, input, due_at, ready_at)
    SELECT %(run)s, %(path)s || '/' || (i.n - 1), %(path)s, i.n - 1, %(kind)s, %(agent)s,
           CASE WHEN i.n <= %(window)s THEN %(state)s ELSE 'pending' END, i.item::jsonb,
           clock_timestamp() + make_interval(secs => %(delay)s::float8),
           CASE WHEN NOT %(held)s THEN clock_timestamp() END
    FROM unnest(%(items)s::text[]) WITH ORDINALITY AS i(item, n)
    WHERE NOT EXISTS (SELECT FROM steps WHERE run_id = %(run)s AND path = %(path)s || '/0')
    RETURNING 1
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT %(run)s, 'step.opened', %(path)s,
           jsonb_build_object('items', count(*), 'started', least(count(*), %(window)s))
    FROM made HAVING count(*) > 0
)
SELECT count(*) FROM made
"""

# Parts that wait for their turn. One that has parts itself was at work before its run was resumed or forked. They are
# chosen once: `IN (SELECT ... LIMIT)` may be planned to look for them anew for each row, and finds others each time.
PROMOTE: LiteralString = """
WITH next AS MATERIALIZED (
    SELECT run_id, path FROM steps
    WHERE run_id = %(run)s AND parent = %(parent)s AND state = 'pending'
    ORDER BY ordinal LIMIT %(count)s FOR UPDATE SKIP LOCKED
), promoted AS (
    UPDATE steps s SET state = CASE kind WHEN 'agent' THEN 'ready' ELSE 'open' END,
                       ready_at = CASE WHEN NOT (%(paused)s AND kind = 'agent') THEN clock_timestamp() END
    FROM next WHERE s.run_id = next.run_id AND s.path = next.path
    RETURNING s.path, input_ref, state,
              kind <> 'agent' AND EXISTS (SELECT FROM steps c WHERE c.run_id = s.run_id AND c.parent = s.path
                                          AND c.state = 'pending') AS has_parts
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT %(run)s, 'step.opened', %(parent)s, jsonb_build_object('steps', jsonb_object_agg(path, state))
    FROM promoted HAVING count(*) > 0
)
SELECT path, input_ref, has_parts FROM promoted
"""

# A join is not subject to the time of its branches.
OPEN_JOINS: LiteralString = """
WITH opened AS (
    INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, input_ref, ready_at)
    SELECT g.run_id, g.parent || '/join', g.parent, -1, 'agent', g.agent, 'ready', 'all:' || g.parent,
           CASE WHEN NOT g.held THEN clock_timestamp() END
    FROM unnest(%(runs)s::uuid[], %(parents)s::text[], %(agents)s::text[], %(helds)s::bool[])
         AS g(run_id, parent, agent, held)
    ON CONFLICT (run_id, path) DO NOTHING
    RETURNING run_id, path, parent, state
), settled AS (
    UPDATE steps s SET due_at = NULL, time_left = NULL FROM opened o
    WHERE s.run_id = o.run_id AND s.path = o.parent AND (s.due_at IS NOT NULL OR s.time_left IS NOT NULL)
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.opened', parent, jsonb_build_object('steps', jsonb_build_object(path, state)) FROM opened
"""

CLOSE_STEPS: LiteralString = """
WITH closed AS (
    UPDATE steps s
    SET state = g.state, output = g.output::jsonb, output_ref = g.output_ref, error = g.error::jsonb,
        finished_at = clock_timestamp(), due_at = NULL
    FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(states)s::text[], %(outputs)s::text[],
                %(output_refs)s::text[], %(errors)s::text[]) AS g(run_id, path, state, output, output_ref, error)
    WHERE s.run_id = g.run_id AND s.path = g.path AND s.state || '' = 'open'
    RETURNING s.run_id, s.path, s.state, g.error
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, 'step.' || state, path,
           jsonb_strip_nulls(jsonb_build_object('error', error::jsonb -> 'message',
                                                'error_type', error::jsonb -> 'type',
                                                'degraded',
                                                CASE WHEN state = 'done' AND error IS NOT NULL THEN true END))
    FROM closed
)
SELECT run_id, path FROM closed
"""

# Children of a fan-out: is any left, and how did the others end? `left` stops at the first one found.
SELECT_LEFT: LiteralString = """
SELECT j.run_id, j.parent,
       (SELECT 1 FROM steps c WHERE c.run_id = j.run_id AND c.parent = j.parent
        AND c.state IN ('pending', 'ready', 'running', 'open', 'waiting', 'dead')
        ORDER BY - c.ordinal LIMIT 1) IS NOT NULL AS is_left
FROM unnest(%(runs)s::uuid[], %(parents)s::text[]) AS j(run_id, parent)
"""

TALLY: LiteralString = """
SELECT j.run_id, j.parent, t.branches, t.done, t.error, t.failed
FROM unnest(%(runs)s::uuid[], %(parents)s::text[]) AS j(run_id, parent)
CROSS JOIN LATERAL (
    SELECT count(*) AS branches, count(*) FILTER (WHERE state = 'done') AS done,
           (array_agg(error::text ORDER BY ordinal) FILTER (WHERE state <> 'done'))[1] AS error,
           (array_agg(path ORDER BY ordinal) FILTER (WHERE state <> 'done'))[1] AS failed
    FROM steps s WHERE s.run_id = j.run_id AND s.parent = j.parent AND s.ordinal >= 0
) t
"""

ARM_DEADLINE: LiteralString = """
UPDATE steps SET due_at = clock_timestamp() + make_interval(secs => %(within)s)
WHERE run_id = %(run)s AND path = %(path)s AND state = 'open'
"""

END_RUNS: LiteralString = """
WITH ended AS (
    UPDATE runs r
    SET state = g.state, output_ref = g.output_ref, error = g.error::jsonb, finished_at = clock_timestamp(),
        due_at = NULL, paused_at = NULL, pause_reason = NULL, time_left = NULL,
        degraded = degraded OR EXISTS (
            SELECT FROM steps s WHERE s.run_id = r.id
            AND (s.ordinal >= 0 AND s.state IN ('failed', 'skipped') OR s.state = 'done' AND s.error IS NOT NULL)
        ) OR EXISTS (
            SELECT FROM runs c WHERE c.parent_run = r.id AND c.awaited AND c.state = 'completed' AND c.degraded)
    FROM unnest(%(runs)s::uuid[], %(states)s::text[], %(output_refs)s::text[], %(errors)s::text[])
         AS g(run_id, state, output_ref, error)
    WHERE r.id = g.run_id AND r.state IN ('queued', 'running', 'paused')
    RETURNING r.id, r.state, g.error, r.awaited
), noted AS (
    INSERT INTO events (run_id, kind, data)
    SELECT id, 'run.' || state, jsonb_strip_nulls(jsonb_build_object('error', error::jsonb -> 'message',
                                                                     'error_type', error::jsonb -> 'type'))
    FROM ended
)
SELECT id FROM ended WHERE awaited
"""

# --- what a pattern asks before it goes on ---

SELECT_VALUE: LiteralString = """
SELECT (CASE WHEN %(ref)s = 'run' THEN (SELECT input FROM runs WHERE id = %(run)s)
             WHEN %(ref)s LIKE 'in:%%' THEN (SELECT input FROM steps
                                             WHERE run_id = %(run)s AND path = substr(%(ref)s, 4))
             ELSE (SELECT output FROM steps WHERE run_id = %(run)s AND path = substr(%(ref)s, 5)) END)::text
"""

SELECT_INPUT_REF: LiteralString = "SELECT input_ref FROM steps WHERE run_id = %(run)s AND path = %(path)s"

SELECT_PART_OUTPUTS: LiteralString = """
SELECT ordinal, coalesce(output_ref, 'out:' || path) FROM steps
WHERE run_id = %(run)s AND parent = %(parent)s AND state = 'done' ORDER BY ordinal
"""

# Only of runs that have a budget.
SELECT_SPENT: LiteralString = """
SELECT coalesce(sum(tokens), 0)::bigint, coalesce(sum(usd), 0)::float8, coalesce(sum(model_calls), 0)::bigint,
       coalesce(sum(seconds), 0)::float8
FROM spendings WHERE run_id = %(run)s
"""
