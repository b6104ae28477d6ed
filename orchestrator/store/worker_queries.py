"""What stands in the name of a worker."""

from __future__ import annotations

from typing import LiteralString

SELECT_HELD: LiteralString = """
SELECT attempt, retries FROM steps
WHERE run_id = %(run)s AND path = %(path)s AND state = 'running' AND worker_id = %(worker)s
"""

INSERT_DEAD_LETTER: LiteralString = """
INSERT INTO dead_letters (queue, reason, message) VALUES (%(queue)s, %(reason)s, %(message)s::jsonb)
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

SELECT_UNWANTED: LiteralString = """
SELECT s.run_id, s.path FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
WHERE s.state || '' IN ('cancelled', 'skipped')
"""

# Which of the attempts that a worker runs are no longer its own?
SELECT_LOST_ATTEMPTS: LiteralString = """
SELECT g.run_id, g.path, g.attempt
FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[]) AS g(run_id, path, attempt)
LEFT JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
WHERE s.state IS DISTINCT FROM 'running' OR s.attempt <> g.attempt
"""
