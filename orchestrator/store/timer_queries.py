"""What has become due: deadlines of runs and of fan-outs."""

from __future__ import annotations

from typing import LiteralString

SELECT_DUE_RUNS: LiteralString = """
SELECT id FROM runs WHERE due_at <= clock_timestamp() AND state IN ('queued', 'running') LIMIT %(most)s
"""

SELECT_DUE_COMPOSITES: LiteralString = """
SELECT s.run_id, s.path FROM steps s JOIN runs r ON r.id = s.run_id AND r.state IN ('queued', 'running')
WHERE s.due_at <= clock_timestamp() AND s.state = 'open' LIMIT %(most)s
"""

IS_DUE: LiteralString = """
SELECT FROM steps WHERE run_id = %(run)s AND path = %(path)s AND due_at <= clock_timestamp() AND state = 'open'
"""

SKIP_UNFINISHED: LiteralString = """
WITH late AS (
    UPDATE steps
    SET state = 'skipped', finished_at = clock_timestamp(), due_at = NULL, error = %(error)s::jsonb
    WHERE run_id = %(run)s AND (%(path)s = '' OR starts_with(path, %(path)s || '/'))
      AND state IN ('pending', 'ready', 'running', 'open', 'waiting', 'dead')
    RETURNING run_id, path
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.skipped', path, jsonb_build_object('error', %(error)s::jsonb -> 'message') FROM late
"""
