"""Limits of the cluster. Whoever decides holds the rows of the limits in question, which are taken in one order.

A permit counts while its attempt runs. One whose step was cancelled or came too late counts a little longer: until its
worker has heard of it. `state || ''` keeps the planner away from the partial indexes on states.
"""

from __future__ import annotations

from typing import LiteralString

# What a claim would find that began now. The input is only looked up for limits that look into it.
SELECT_STARTABLE: LiteralString = """
SELECT s.run_id, s.path, s.limited, r.tenant, r.definition_id, s.input_ref,
       CASE WHEN NOT %(keyed)s THEN NULL
            WHEN s.input IS NOT NULL THEN s.input::text
            WHEN s.input_ref = 'run' THEN r.input::text
            WHEN s.input_ref LIKE 'in:%%' THEN (SELECT src.input::text FROM steps src WHERE src.run_id = s.run_id
                                                AND src.path = substr(s.input_ref, 4))
            ELSE (SELECT src.output::text FROM steps src WHERE src.run_id = s.run_id
                  AND src.path = substr(s.input_ref, strpos(s.input_ref, ':') + 1)) END AS input
FROM (
    SELECT w.path, runs.* FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS w(run_id, path)
    JOIN runs ON runs.id = w.run_id AND runs.state IN ('queued', 'running')
    OFFSET 0
) r JOIN steps s ON s.run_id = r.id AND s.path = r.path
WHERE s.state || '' = 'ready' AND s.ready_at IS NOT NULL AND (s.due_at IS NULL OR s.due_at <= clock_timestamp())
ORDER BY s.ready_at
"""

TAKE_LIMITS: LiteralString = """
INSERT INTO limits (key) SELECT key FROM unnest(%(keys)s::text[]) AS g(key) ORDER BY key
ON CONFLICT (key) DO UPDATE SET used_at = clock_timestamp()
"""

DROP_ENDED_PERMITS: LiteralString = """
DELETE FROM permits p
WHERE p.key = ANY (%(keys)s::text[])
  AND NOT EXISTS (SELECT FROM steps s WHERE s.run_id = p.run_id AND s.path = p.path AND s.attempt = p.attempt
                  AND (s.state || '' = 'running' OR s.state || '' IN ('cancelled', 'skipped')
                       AND s.finished_at > clock_timestamp() - make_interval(secs => %(grace)s)))
"""

# `spacing` is how soon a waiting step must be due for its turn to be the next one.
SELECT_GATES: LiteralString = """
SELECT g.key, clock_timestamp() AS now, l.free_at,
       (SELECT count(*) FROM permits p WHERE p.key = g.key) AS held,
       EXISTS (SELECT FROM steps w WHERE w.limited = g.key AND w.state = 'ready' AND w.ready_at IS NOT NULL
               AND w.due_at <= statement_timestamp() + make_interval(secs => g.spacing))
       OR EXISTS (SELECT FROM steps w WHERE w.limited = g.key AND w.state = 'ready' AND w.ready_at IS NOT NULL
                  AND w.due_at IS NULL) AS crowded,
       (SELECT max(w.due_at) FROM steps w
        WHERE w.limited = g.key AND w.state = 'ready' AND w.ready_at IS NOT NULL) AS last_due
FROM unnest(%(keys)s::text[], %(spacings)s::float8[]) AS g(key, spacing) JOIN limits l ON l.key = g.key
"""

# After the steps were claimed, so that nothing has started later than its rate says. A claim that a crash of the
# server forgot would run unseen: this one waits for the disk.
SPEND: LiteralString = """
WITH spent AS (
    UPDATE limits l
    SET free_at = greatest(l.free_at, clock_timestamp()) + make_interval(secs => g.seconds)
    FROM unnest(%(rates)s::text[], %(seconds)s::float8[]) AS g(key, seconds) WHERE l.key = g.key
), granted AS (
    INSERT INTO permits (key, run_id, path, attempt, place)
    SELECT * FROM unnest(%(keys)s::text[], %(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[],
                         %(places)s::int[])
)
SELECT set_config('synchronous_commit', 'on', true)
"""

# Told once, however often it is put off.
PUT_OFF: LiteralString = """
WITH given AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(keys)s::text[], %(due)s::timestamptz[])
         AS g(run_id, path, key, due_at)
), told AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT g.run_id, 'step.limited', g.path,
           jsonb_build_object('limit', g.key, 'due_in', extract(epoch FROM g.due_at - clock_timestamp())::float8)
    FROM given g JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
    WHERE s.state || '' = 'ready' AND s.limited IS NULL
)
UPDATE steps s SET due_at = g.due_at, limited = g.key
FROM given g WHERE s.run_id = g.run_id AND s.path = g.path AND s.state || '' = 'ready'
"""

TAKE_LIMITS_OF: LiteralString = """
SELECT key FROM limits WHERE key IN (SELECT key FROM permits WHERE run_id = %(run)s AND path = %(path)s)
ORDER BY key FOR UPDATE
"""

# The next one of those that wait for a limit of which an attempt has ended.
WAKE_NEXT: LiteralString = """
WITH next AS (
    SELECT w.run_id, w.path FROM unnest(%(keys)s::text[]) AS g(key) CROSS JOIN LATERAL (
        SELECT run_id, path FROM steps
        WHERE limited = g.key AND state = 'ready' AND ready_at IS NOT NULL AND due_at IS NOT NULL
        ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    ) w
)
UPDATE steps s SET due_at = NULL, ready_at = clock_timestamp()
FROM next WHERE s.run_id = next.run_id AND s.path = next.path
RETURNING s.run_id, s.path
"""
