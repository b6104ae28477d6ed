"""What stands in the name of a worker."""

from __future__ import annotations

from typing import LiteralString

RELEASE_ATTEMPT: LiteralString = """
WITH freed AS (
    UPDATE steps SET state = 'ready', losses = losses + 1, ready_at = clock_timestamp()
    WHERE run_id = %(run)s AND path = %(path)s AND state = 'running' AND worker_id = %(worker)s
      AND (%(attempt)s::int IS NULL OR attempt = %(attempt)s)
    RETURNING run_id, path, attempt, worker_id, started_at
), tried AS (
    INSERT INTO attempts (run_id, path, attempt, worker_id, state, started_at)
    SELECT run_id, path, attempt, worker_id, 'lost', started_at FROM freed ON CONFLICT DO NOTHING
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.lost', path, jsonb_build_object('attempt', attempt) FROM freed
RETURNING run_id, path
"""

SELECT_HELD: LiteralString = """
SELECT attempt, retries FROM steps
WHERE run_id = %(run)s AND path = %(path)s AND state = 'running' AND worker_id = %(worker)s
"""

INSERT_DEAD_LETTER: LiteralString = """
INSERT INTO dead_letters (queue, reason, message) VALUES (%(queue)s, %(reason)s, %(message)s::jsonb)
"""

# Steps that a living worker holds in its name but does not run: its claim was committed, and it never heard.
SELECT_HELD_STEPS: LiteralString = """
SELECT run_id, path, attempt FROM steps WHERE worker_id = %(worker)s AND state = 'running'
"""

BEAT: LiteralString = """
INSERT INTO workers (id, name, queues, concurrency, pool, held, lease_until)
VALUES (%(id)s, %(name)s, %(queues)s, %(concurrency)s, %(pool)s, %(held)s,
        clock_timestamp() + make_interval(secs => %(lease)s))
ON CONFLICT (id) DO UPDATE
SET seen_at = clock_timestamp(), lease_until = excluded.lease_until, stopped_at = NULL,
    queues = excluded.queues, concurrency = excluded.concurrency, held = excluded.held
"""

STOP_WORKER: LiteralString = "UPDATE workers SET stopped_at = clock_timestamp() WHERE id = %(id)s"

# Which of the attempts that a worker runs are no longer its own?
SELECT_LOST_ATTEMPTS: LiteralString = """
SELECT g.run_id, g.path, g.attempt
FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[]) AS g(run_id, path, attempt)
LEFT JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
WHERE s.state IS DISTINCT FROM 'running' OR s.attempt <> g.attempt
"""
