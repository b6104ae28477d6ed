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

# A worker says that it lives, and hears what stands in its name.
BEAT: LiteralString = """
WITH beat AS (
    INSERT INTO workers (id, name, queues, throttled, concurrency, pool, held, lease_until)
    VALUES (%(id)s, %(name)s, %(queues)s, %(throttled)s, %(concurrency)s, %(pool)s, %(held)s,
            clock_timestamp() + make_interval(secs => %(lease)s))
    ON CONFLICT (id) DO UPDATE
    SET seen_at = clock_timestamp(), lease_until = excluded.lease_until, stopped_at = NULL,
        queues = excluded.queues, throttled = excluded.throttled, concurrency = excluded.concurrency,
        held = excluded.held
)
SELECT run_id, path, attempt, losses FROM steps WHERE worker_id = %(id)s AND state = 'running'
"""

STOP_WORKER: LiteralString = "UPDATE workers SET stopped_at = clock_timestamp() WHERE id = %(id)s"

SELECT_UNWANTED: LiteralString = """
SELECT s.run_id, s.path FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
WHERE s.state || '' IN ('cancelled', 'skipped')
"""

# A crash of the server forgets the latest claims, which do not wait for the disk; their messages are gone as well.
TAKE_FORGOTTEN: LiteralString = """
UPDATE steps s SET ready_at = clock_timestamp()
FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[]) AS g(run_id, path, attempt)
WHERE s.run_id = g.run_id AND s.path = g.path AND s.attempt < g.attempt AND s.state || '' = 'ready'
  AND s.due_at IS NULL AND s.ready_at IS NOT NULL
RETURNING s.run_id, s.path
"""
