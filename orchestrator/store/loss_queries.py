"""Attempts that were lost or given back. A fence of their own: only the attempt that is named, and only while it runs.

A lost worker is counted against the step (`losses`); one that hands its steps back in order is not. In a paused run
a step that comes back is held: its `ready_at` is NULL.
"""

from __future__ import annotations

from typing import LiteralString

# Who was buried and lives (it was frozen, say) may have claimed since: that stands, and its next beat says so.
SELECT_HELD_BY_DEAD: LiteralString = """
SELECT s.run_id, s.path, s.attempt, s.losses FROM steps s LEFT JOIN workers w ON w.id = s.worker_id
WHERE s.state = 'running'
  AND (w.id IS NULL OR s.started_at < w.stopped_at
       OR w.stopped_at < clock_timestamp() - make_interval(secs => %(grace)s))
LIMIT %(most)s
"""

SELECT_HELD_STEPS: LiteralString = """
SELECT run_id, path, attempt, losses FROM steps WHERE worker_id = %(worker)s AND state = 'running'
"""

SELECT_HELD_STEP: LiteralString = """
SELECT run_id, path, attempt, losses FROM steps
WHERE run_id = %(run)s AND path = %(path)s AND state || '' = 'running' AND worker_id = %(worker)s
  AND (%(attempt)s::int IS NULL OR attempt = %(attempt)s)
"""

# Rows that somebody else is busy with are ending there, or being freed there.
FREE_STEPS: LiteralString = """
WITH freed AS (
    UPDATE steps s
    SET state = 'ready', losses = s.losses + %(lost)s::bool::int,
        ready_at = CASE WHEN r.state <> 'paused' THEN clock_timestamp() END
    FROM (
        SELECT h.run_id, h.path, h.attempt
        FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[]) AS g(run_id, path, attempt)
        JOIN steps h ON h.run_id = g.run_id AND h.path = g.path AND h.attempt = g.attempt
                    AND h.state || '' = 'running'
        FOR UPDATE OF h SKIP LOCKED
    ) held, runs r
    WHERE s.run_id = held.run_id AND s.path = held.path AND s.state || '' = 'running' AND s.attempt = held.attempt
      AND r.id = s.run_id
    RETURNING s.run_id, s.path, s.agent, s.attempt, s.worker_id, s.started_at, r.state = 'paused' AS held
), tried AS (
    INSERT INTO attempts (run_id, path, attempt, worker_id, state, started_at)
    SELECT run_id, path, attempt, worker_id, CASE WHEN %(lost)s::bool THEN 'lost' ELSE 'released' END, started_at
    FROM freed ON CONFLICT DO NOTHING
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, CASE WHEN %(lost)s::bool THEN 'step.lost' ELSE 'step.released' END, path,
           jsonb_build_object('attempt', attempt)
    FROM freed
)
SELECT run_id, path, agent FROM freed WHERE NOT held
"""

# The letter bears the time of the transaction, as does the run that it pauses: so it is known who paused it.
SET_ASIDE: LiteralString = """
WITH dead AS (
    UPDATE steps SET state = 'dead', losses = losses + 1
    WHERE run_id = %(run)s AND path = %(path)s AND attempt = %(attempt)s AND state || '' = 'running'
    RETURNING run_id, path, agent, attempt, losses, worker_id, started_at
), tried AS (
    INSERT INTO attempts (run_id, path, attempt, worker_id, state, started_at)
    SELECT run_id, path, attempt, worker_id, 'lost', started_at FROM dead ON CONFLICT DO NOTHING
), letter AS (
    INSERT INTO dead_letters (queue, reason, message, at, run_id, path)
    SELECT %(queue)s, 'it lost its worker ' || losses || ' times',
           jsonb_build_object('workflow', %(workflow)s::text, 'agent', agent, 'step', path, 'attempt', attempt,
                              'losses', losses),
           now(), run_id, path
    FROM dead
    RETURNING id, run_id
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT d.run_id, e.kind, d.path, e.data
    FROM dead d JOIN letter USING (run_id) CROSS JOIN LATERAL (
        VALUES (1, 'step.lost', jsonb_build_object('attempt', d.attempt, 'last', true)),
               (2, 'step.dead', jsonb_build_object('attempt', d.attempt, 'losses', d.losses, 'letter', letter.id))
    ) AS e(n, kind, data)
    ORDER BY e.n
)
SELECT letter.id, dead.losses FROM dead JOIN letter USING (run_id)
"""
