"""What has become due. Rows that start something are taken with SKIP LOCKED, so any number of copies may look.

A deadline that passed while its run was paused waits for the run to be resumed, which moves it.

`statement_timestamp()`, not `clock_timestamp()`: only what stays the same through a statement can be looked up in an
index. `state || ''` keeps the planner away from the partial indexes on states, which hold all that waits.
"""

from __future__ import annotations

from typing import LiteralString

# All that an idle copy asks: what is due, when the next one will be, and this copy's place among the living workers.
SELECT_DUE: LiteralString = """
SELECT EXISTS (SELECT FROM steps WHERE due_at <= statement_timestamp()) AS steps,
       EXISTS (SELECT FROM runs WHERE due_at <= statement_timestamp() AND state IN ('queued', 'running')) AS runs,
       EXISTS (SELECT FROM schedules WHERE next_at <= statement_timestamp() AND enabled) AS schedules,
       EXISTS (SELECT FROM incoming_events WHERE spread_at IS NULL)
       OR EXISTS (SELECT FROM deliveries WHERE state = 'new')
       OR EXISTS (SELECT FROM event_gates WHERE due_at <= statement_timestamp())
       OR EXISTS (SELECT FROM waits WHERE kind = 'event' AND settled_at IS NULL AND looked_at IS NULL)
       OR EXISTS (SELECT FROM wakes) AS events,
       extract(epoch FROM least(
           (SELECT min(due_at) FROM steps WHERE due_at > statement_timestamp()),
           (SELECT min(due_at) FROM runs WHERE due_at > statement_timestamp()),
           (SELECT min(next_at) FROM schedules WHERE next_at > statement_timestamp() AND enabled),
           (SELECT min(due_at) FROM event_gates WHERE due_at > statement_timestamp())
       ) - statement_timestamp())::float8 AS next_in,
       extract(epoch FROM statement_timestamp())::float8 AS now, w.workers, w.before
FROM (SELECT count(*) AS workers, count(*) FILTER (WHERE id < %(self)s::uuid) AS before
      FROM workers WHERE stopped_at IS NULL AND lease_until > statement_timestamp()) AS w
"""

# Delayed starts and retries: from now on they are ready like any other step. One that is held, because its run is
# paused, stays so and is sent when the run is resumed; but it waits for its time no longer.
TAKE_DUE_STEPS: LiteralString = """
WITH due AS (
    SELECT run_id, path FROM steps
    WHERE due_at <= statement_timestamp() AND state || '' = 'ready'
    ORDER BY due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
), fired AS (
    UPDATE steps s SET due_at = NULL, ready_at = CASE WHEN ready_at IS NOT NULL THEN clock_timestamp() END
    FROM due WHERE s.run_id = due.run_id AND s.path = due.path
    RETURNING s.run_id, s.path, s.agent, s.attempt, s.ready_at
)
SELECT f.run_id, f.path, f.agent, f.attempt, r.definition_id, r.priority,
       -- What a crash of the server forgets is due again: it need not wait for the disk.
       set_config('synchronous_commit', 'off', true)
FROM fired f JOIN runs r ON r.id = f.run_id
WHERE f.ready_at IS NOT NULL
"""

# The deadlines of runs (an empty path) and of fan-outs that have passed, as far as anyone knows without a lock.
SELECT_LATE: LiteralString = """
(SELECT r.id, '' FROM runs r
 WHERE r.due_at <= statement_timestamp() AND r.state IN ('queued', 'running')
   -- What waits for it is late as well, and ends it.
   AND NOT EXISTS (SELECT FROM runs p WHERE p.id = r.parent_run AND r.awaited AND p.state IN ('queued', 'running')
                   AND p.due_at <= statement_timestamp())
 ORDER BY r.due_at LIMIT %(most)s)
UNION ALL
(SELECT s.run_id, s.path FROM steps s JOIN runs r ON r.id = s.run_id AND r.state IN ('queued', 'running')
 WHERE s.due_at <= statement_timestamp() AND s.state || '' = 'open' ORDER BY s.due_at LIMIT %(most)s)
"""

# Those of them that have passed still, now that their runs are ours: another copy may have been first.
CONFIRM_LATE: LiteralString = """
SELECT g.run_id, g.path, r.definition_id, r.priority
FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
JOIN runs r ON r.id = g.run_id AND r.state IN ('queued', 'running')
LEFT JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
WHERE CASE WHEN g.path = '' THEN r.due_at ELSE s.due_at END <= statement_timestamp()
  AND (g.path = '' OR s.state || '' = 'open')
"""

SKIP_LATE: LiteralString = """
WITH late AS (
    UPDATE steps s
    SET state = 'skipped', finished_at = clock_timestamp(), due_at = NULL, error = g.error::jsonb
    FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(errors)s::text[]) AS g(run_id, path, error)
    WHERE s.run_id = g.run_id AND (g.path = '' OR starts_with(s.path, g.path || '/'))
      AND s.state IN ('pending', 'ready', 'running', 'open', 'waiting', 'dead')
    RETURNING s.run_id, s.path, g.error
), withdrawn AS (
    UPDATE waits w SET settled_at = clock_timestamp(), settled_by = 'deadline', decision = 'withdrawn'
    FROM late WHERE w.run_id = late.run_id AND w.path = late.path AND w.settled_at IS NULL
    RETURNING w.id, w.run_id, w.path, w.kind, w.key, w.decision, w.settled_by
), announced AS (
    INSERT INTO notices (kind, run_id, path, body)
    SELECT kind || '.settled', run_id, path,
           jsonb_build_object('wait', id, 'name', key, 'decision', decision, 'by', settled_by)
    FROM withdrawn WHERE kind IN ('approval', 'question')
), dropped AS (
    UPDATE dead_letters d SET settled = 'dropped', settled_at = clock_timestamp()
    FROM late WHERE d.run_id = late.run_id AND d.path = late.path AND d.settled IS NULL
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.skipped', path,
       jsonb_build_object('error', error::jsonb -> 'message', 'error_type', error::jsonb -> 'type')
FROM late
"""

# What is late is dealt with once.
SETTLE_LATE: LiteralString = """
UPDATE steps s SET due_at = NULL
FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
WHERE s.run_id = g.run_id AND s.path = g.path AND s.due_at IS NOT NULL
"""
