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

# Queues with a step that has been ready for a while although their workers have room. Where messages wait in workers
# for their rate, that takes longer: as long as Redis takes to deliver such a message again, too.
SELECT_IDLE_QUEUES: LiteralString = """
WITH room AS (
    SELECT q.queue,
           CASE WHEN bool_or(q.queue = ANY (w.throttled)) THEN %(redelivery)s ELSE %(patience)s END AS patience
    FROM workers w, unnest(w.queues) AS q(queue)
    WHERE w.stopped_at IS NULL AND w.lease_until > clock_timestamp() AND q.queue LIKE 'agent.%%'
    GROUP BY q.queue HAVING sum(w.concurrency) > sum(w.held)
)
SELECT queue, patience FROM room
WHERE EXISTS (SELECT FROM steps s WHERE s.state = 'ready' AND s.agent = substr(queue, 7) AND s.due_at IS NULL
              AND s.ready_at < statement_timestamp() - make_interval(secs => patience))
"""

# Moving `ready_at` makes the next look wait, so that nothing is sent again and again.
TAKE_STRANDED: LiteralString = """
WITH lost AS (
    SELECT c.run_id, c.path
    FROM steps c JOIN runs r ON r.id = c.run_id AND r.state IN ('queued', 'running')
    WHERE c.state = 'ready' AND c.agent = ANY (%(agents)s::text[])
      AND c.due_at IS NULL AND c.ready_at < statement_timestamp() - make_interval(secs => %(patience)s)
    ORDER BY c.ready_at LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp()
FROM lost WHERE s.run_id = lost.run_id AND s.path = lost.path
RETURNING s.run_id, s.path
"""

# A queue goes by age: where a worker has begun a step that became ready long after another one of the same priority,
# the message of that other one is lost, or waits in a busy worker. Not evidence are steps that were begun before (they
# return to the head of the queue) or went on without a message, and queues whose messages wait for their rate.
TAKE_OVERTAKEN: LiteralString = """
WITH passed AS (
    SELECT s.agent, r.priority, max(s.ready_at) - make_interval(secs => %(patience)s) AS upto
    FROM steps s JOIN runs r ON r.id = s.run_id
    WHERE s.worker_id = %(worker)s AND s.state = 'running' AND s.attempt = 1
      AND s.ready_at < s.started_at - interval '1 millisecond'
      AND NOT EXISTS (SELECT FROM workers w WHERE w.stopped_at IS NULL AND 'agent.' || s.agent = ANY (w.throttled))
    GROUP BY s.agent, r.priority
), oldest AS (
    SELECT c.run_id, c.path, p.priority
    FROM passed p CROSS JOIN LATERAL (
        SELECT run_id, path FROM steps
        WHERE state = 'ready' AND agent = p.agent AND due_at IS NULL AND ready_at < p.upto
        ORDER BY ready_at LIMIT %(most)s
    ) c
), lost AS (
    SELECT c.run_id, c.path
    FROM oldest o JOIN runs r ON r.id = o.run_id AND r.priority = o.priority AND r.state IN ('queued', 'running')
    JOIN steps c ON c.run_id = o.run_id AND c.path = o.path AND c.state || '' = 'ready'
    FOR UPDATE OF c SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp()
FROM lost WHERE s.run_id = lost.run_id AND s.path = lost.path
RETURNING s.run_id, s.path
"""

# Everything that was ready before the broker lost its memory, queue by queue, the oldest first.
TAKE_ALL_READY: LiteralString = """
WITH lost AS (
    SELECT c.run_id, c.path
    FROM steps c JOIN runs r ON r.id = c.run_id AND r.state IN ('queued', 'running')
    WHERE c.state = 'ready' AND c.ready_at < %(before)s AND c.due_at IS NULL
    ORDER BY c.agent, c.ready_at LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp()
FROM lost WHERE s.run_id = lost.run_id AND s.path = lost.path
RETURNING s.run_id, s.path
"""

SELECT_NOW: LiteralString = "SELECT clock_timestamp()"
