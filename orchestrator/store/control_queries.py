"""Whole runs: cancel, pause and resume.

While a run is paused, the steps of it that are ready are held: their `ready_at` is NULL, which no claim and no
re-sending sweep accepts. The row of the step says it, not only that of the run, because a claim locks no run.
"""

from __future__ import annotations

from typing import LiteralString

CANCEL_STEPS: LiteralString = """
WITH withdrawn AS (
    UPDATE waits SET settled_at = clock_timestamp(), settled_by = 'cancel', decision = 'withdrawn'
    WHERE run_id = ANY (%(runs)s::uuid[]) AND settled_at IS NULL
    RETURNING id, run_id, path, kind, key, decision, settled_by
), announced AS (
    INSERT INTO notices (kind, run_id, path, body)
    SELECT kind || '.settled', run_id, path,
           jsonb_build_object('wait', id, 'name', key, 'decision', decision, 'by', settled_by)
    FROM withdrawn WHERE kind IN ('approval', 'question')
), stopped AS (
    UPDATE steps SET state = 'cancelled', finished_at = clock_timestamp(), due_at = NULL
    WHERE run_id = ANY (%(runs)s::uuid[]) AND state IN ('pending', 'ready', 'running', 'open', 'waiting', 'dead')
    RETURNING run_id
)
SELECT run_id, count(*) FROM stopped GROUP BY run_id
"""

CANCEL_RUNS: LiteralString = """
WITH cancelled AS (
    UPDATE runs r
    SET state = 'cancelled', finished_at = clock_timestamp(), due_at = NULL, paused_at = NULL, pause_reason = NULL,
        time_left = NULL,
        error = jsonb_build_object('type', 'Cancelled', 'message', g.reason, 'retryable', false)
    FROM unnest(%(runs)s::uuid[], %(reasons)s::text[], %(steps)s::int[]) AS g(id, reason, steps)
    WHERE r.id = g.id AND r.state IN ('queued', 'running', 'paused', 'failed')
    RETURNING r.id, g.reason, g.steps
), settled AS (
    UPDATE dead_letters SET settled = 'dropped', settled_at = clock_timestamp()
    WHERE run_id IN (SELECT id FROM cancelled) AND settled IS NULL
)
INSERT INTO events (run_id, kind, data)
SELECT id, 'run.cancelled', jsonb_build_object('reason', reason, 'steps', steps) FROM cancelled
RETURNING run_id
"""

HOLD_STEPS: LiteralString = """
UPDATE steps SET ready_at = NULL WHERE run_id = ANY (%(runs)s::uuid[]) AND state = 'ready'
"""

# Nothing of a paused run is ever due, so the timers need not look at paused runs, however many there are.
STOP_CLOCKS: LiteralString = """
UPDATE steps SET time_left = due_at - now(), due_at = NULL
WHERE run_id = ANY (%(runs)s::uuid[]) AND state IN ('open', 'waiting') AND (due_at IS NOT NULL OR time_left IS NOT NULL)
"""

# The time is that of the transaction, which a dead letter that pauses its run bears too.
PAUSE_RUNS: LiteralString = """
WITH paused AS (
    UPDATE runs r SET state = 'paused', paused_at = now(), pause_reason = g.reason, time_left = due_at - now(),
                      due_at = NULL
    FROM unnest(%(runs)s::uuid[], %(reasons)s::text[]) AS g(id, reason)
    WHERE r.id = g.id AND r.state IN ('queued', 'running')
    RETURNING r.id, r.pause_reason
)
INSERT INTO events (run_id, kind, data)
SELECT id, 'run.paused', jsonb_build_object('reason', pause_reason) FROM paused
RETURNING run_id
"""

# A fan-out that opened while its run was paused has all of its time before it.
START_CLOCKS: LiteralString = """
UPDATE steps
SET due_at = clock_timestamp() + coalesce(time_left, due_at - ready_at), time_left = NULL
WHERE run_id = ANY (%(runs)s::uuid[]) AND state IN ('open', 'waiting') AND (due_at IS NOT NULL OR time_left IS NOT NULL)
"""

# Delayed starts and retries wait for a time of day, so what became due meanwhile starts now.
FREE_STEPS: LiteralString = """
UPDATE steps SET ready_at = clock_timestamp(), due_at = CASE WHEN due_at > clock_timestamp() THEN due_at END
WHERE run_id = ANY (%(runs)s::uuid[]) AND state = 'ready'
RETURNING run_id, path, agent, due_at IS NULL AS is_due
"""

UNPAUSE_RUNS: LiteralString = """
WITH resumed AS (
    UPDATE runs SET state = CASE WHEN started_at IS NULL THEN 'queued' ELSE 'running' END,
                    due_at = clock_timestamp() + time_left, time_left = NULL, paused_at = NULL, pause_reason = NULL
    WHERE id = ANY (%(runs)s::uuid[]) AND state = 'paused' RETURNING id
)
INSERT INTO events (run_id, kind) SELECT id, 'run.resumed' FROM resumed
"""

SELECT_RUN_STATE: LiteralString = """
SELECT state, definition_id, priority, due_at <= clock_timestamp() AS is_due,
       CASE WHEN awaited THEN (
           SELECT p.id FROM runs p WHERE p.id = runs.parent_run AND p.state = 'paused') END AS paused_above
FROM runs WHERE id = %(run)s
"""

SELECT_UNDONE: LiteralString = """
SELECT path, parent, state FROM steps WHERE run_id = %(run)s AND state <> 'done'
"""

REOPEN_STEPS: LiteralString = """
WITH reopened AS (
    UPDATE steps
    SET state = 'pending', error = NULL, finished_at = NULL, ready_at = clock_timestamp(), retries = 0,
        losses = 0, due_at = NULL
    WHERE run_id = %(run)s AND path = ANY (%(paths)s::text[]) AND state IN ('failed', 'skipped')
    RETURNING path, state
)
INSERT INTO events (run_id, kind, data)
SELECT %(run)s, 'step.opened', jsonb_build_object('steps', jsonb_object_agg(path, state))
FROM (SELECT path, state, row_number() OVER () / 1000 AS batch FROM reopened) AS r GROUP BY batch
"""

# It has its time and its budget before it again.
RESUME_RUN: LiteralString = """
WITH forgiven AS (
    DELETE FROM spendings WHERE run_id = %(run)s
), warned_again AS (
    DELETE FROM budget_warnings WHERE account = 'run:' || %(run)s::text
), resumed AS (
    UPDATE runs r
    SET state = CASE WHEN started_at IS NULL THEN 'queued' ELSE 'running' END,
        finished_at = NULL, error = NULL, degraded = false,
        due_at = least(clock_timestamp() + make_interval(secs => %(timeout)s::float8), (
            SELECT p.due_at FROM runs p WHERE p.id = r.parent_run AND r.awaited AND p.state IN ('queued', 'running')))
    WHERE id = %(run)s AND state = 'failed' RETURNING id
)
INSERT INTO events (run_id, kind) SELECT id, 'run.resumed' FROM resumed
"""

# Fan-outs whose last branch committed while nobody was left to see it: its worker died before it looked again.
SELECT_FORGOTTEN_JOINS: LiteralString = """
SELECT s.run_id, s.path FROM steps s JOIN runs r ON r.id = s.run_id AND r.state IN ('queued', 'running')
WHERE s.state = 'open' AND s.kind IN ('fan_out', 'each')
  AND NOT EXISTS (SELECT FROM steps c WHERE c.run_id = s.run_id AND c.parent = s.path
                  AND c.state IN ('pending', 'ready', 'running', 'open', 'waiting', 'dead'))
LIMIT %(most)s
"""
