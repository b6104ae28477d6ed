"""What a crash left undone. Rows are taken with SKIP LOCKED, so any number of sweeps may run.

Steps of a paused run are held, and left alone: their `ready_at` is NULL. A ready step with a `due_at` is
left to the timers, which clear it when they send the step.
"""

from __future__ import annotations

from typing import LiteralString

# Nobody could beat while the server was away: after its start it waits for them.
BURY_WORKERS: LiteralString = """
UPDATE workers SET stopped_at = clock_timestamp()
WHERE id IN (SELECT id FROM workers WHERE stopped_at IS NULL AND lease_until < clock_timestamp()
             AND id IS DISTINCT FROM %(self)s::uuid FOR UPDATE SKIP LOCKED)
  AND pg_postmaster_start_time() < clock_timestamp() - make_interval(secs => %(grace)s)
RETURNING id, name, queues, held
"""

# Queues with a step that has been ready for a while although their workers have room.
SELECT_IDLE_QUEUES: LiteralString = """
WITH room AS (
    SELECT q.queue FROM workers w, unnest(w.queues) AS q(queue)
    WHERE w.stopped_at IS NULL AND w.lease_until > clock_timestamp()
    GROUP BY q.queue HAVING sum(w.concurrency) > sum(w.held)
)
SELECT queue FROM room
WHERE EXISTS (SELECT FROM steps s WHERE s.state = 'ready' AND 'agent.' || s.agent = queue
              AND s.due_at IS NULL AND s.ready_at < clock_timestamp() - make_interval(secs => %(patience)s))
"""

# Moving `ready_at` makes the next look wait, so that nothing is sent again and again.
TAKE_STRANDED: LiteralString = """
WITH lost AS (
    SELECT c.run_id, c.path
    FROM steps c JOIN runs r ON r.id = c.run_id AND r.state IN ('queued', 'running')
    WHERE c.state = 'ready' AND 'agent.' || c.agent = ANY (%(queues)s::text[])
      AND c.due_at IS NULL AND c.ready_at < clock_timestamp() - make_interval(secs => %(patience)s)
    ORDER BY c.ready_at LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp()
FROM lost WHERE s.run_id = lost.run_id AND s.path = lost.path
RETURNING s.run_id, s.path
"""

# Everything that was ready before the broker lost its memory, oldest first.
TAKE_ALL_READY: LiteralString = """
WITH lost AS (
    SELECT c.run_id, c.path
    FROM steps c JOIN runs r ON r.id = c.run_id AND r.state IN ('queued', 'running')
    WHERE c.state = 'ready' AND c.ready_at < %(before)s AND c.due_at IS NULL
    ORDER BY c.ready_at LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp()
FROM lost WHERE s.run_id = lost.run_id AND s.path = lost.path
RETURNING s.run_id, s.path
"""

SELECT_NOW: LiteralString = "SELECT clock_timestamp()"
