"""Whole runs: cancel and resume."""

from __future__ import annotations

from typing import LiteralString

CANCEL_STEPS: LiteralString = """
UPDATE steps SET state = 'cancelled', finished_at = clock_timestamp(), due_at = NULL
WHERE run_id = %(run)s AND state IN ('pending', 'ready', 'running', 'open', 'waiting', 'dead')
"""

CANCEL_RUN: LiteralString = """
WITH cancelled AS (
    UPDATE runs
    SET state = 'cancelled', finished_at = clock_timestamp(), due_at = NULL,
        error = jsonb_build_object('type', 'Cancelled', 'message', %(reason)s::text, 'retryable', false)
    WHERE id = %(run)s AND state IN ('queued', 'running', 'failed')
    RETURNING id
)
INSERT INTO events (run_id, kind, data)
SELECT id, 'run.cancelled', jsonb_build_object('reason', %(reason)s::text, 'steps', %(steps)s::int) FROM cancelled
RETURNING run_id
"""

SELECT_RUN_STATE: LiteralString = """
SELECT state, definition_id, priority, due_at <= clock_timestamp() AS is_due FROM runs WHERE id = %(run)s
"""

SELECT_UNDONE: LiteralString = """
SELECT path, parent, state FROM steps WHERE run_id = %(run)s AND state <> 'done'
"""

REOPEN_STEPS: LiteralString = """
UPDATE steps
SET state = 'pending', error = NULL, finished_at = NULL, ready_at = clock_timestamp(), retries = 0, due_at = NULL
WHERE run_id = %(run)s AND path = ANY (%(paths)s::text[]) AND state IN ('failed', 'skipped')
"""

RESUME_RUN: LiteralString = """
WITH resumed AS (
    UPDATE runs SET state = 'running', finished_at = NULL, error = NULL, degraded = false,
                    due_at = clock_timestamp() + make_interval(secs => %(timeout)s::float8)
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
