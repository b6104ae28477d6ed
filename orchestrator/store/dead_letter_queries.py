"""Dead letters: what was set aside, and what people decide about it."""

from __future__ import annotations

from typing import LiteralString

LETTER_COLUMNS: LiteralString = (
    "d.id, d.queue, d.reason, d.at, d.run_id, d.path, r.workflow, d.settled, d.settled_at"
)

SELECT_LETTERS: LiteralString = (
    "SELECT "
    + LETTER_COLUMNS
    + """
FROM dead_letters d LEFT JOIN runs r ON r.id = d.run_id
WHERE (%(all)s::bool OR d.settled IS NULL)
ORDER BY d.id DESC LIMIT %(limit)s
"""
)

SELECT_OPEN_STEPS: LiteralString = """
SELECT id FROM dead_letters WHERE settled IS NULL AND run_id IS NOT NULL ORDER BY id
"""

SELECT_LETTER: LiteralString = (
    "SELECT "
    + LETTER_COLUMNS
    + ", d.message FROM dead_letters d LEFT JOIN runs r ON r.id = d.run_id WHERE d.id = %(id)s"
)

SELECT_DEAD_STEPS: LiteralString = """
SELECT id, path FROM dead_letters WHERE run_id = %(run)s AND settled IS NULL ORDER BY id
"""

SELECT_ATTEMPTS: LiteralString = """
SELECT a.attempt, a.state, w.name AS worker, w.pool, a.started_at, a.finished_at, a.error
FROM attempts a LEFT JOIN workers w ON w.id = a.worker_id
WHERE a.run_id = %(run)s AND a.path = %(path)s ORDER BY a.attempt
"""

# Whoever comes second waits for the first, and finds it settled.
SETTLE_LETTER: LiteralString = """
UPDATE dead_letters SET settled = %(how)s, settled_at = clock_timestamp()
WHERE id = %(id)s AND settled IS NULL
RETURNING id
"""

# It is held until its run goes on.
REVIVE_STEP: LiteralString = """
WITH revived AS (
    UPDATE steps SET state = 'ready', losses = 0, ready_at = NULL
    WHERE run_id = %(run)s AND path = %(path)s AND state = 'dead'
    RETURNING run_id, path, attempt
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.released', path, jsonb_build_object('attempt', attempt, 'by', 'hand') FROM revived
"""

FAIL_STEP: LiteralString = """
WITH failed AS (
    UPDATE steps SET state = 'failed', error = %(error)s::jsonb, finished_at = clock_timestamp()
    WHERE run_id = %(run)s AND path = %(path)s AND state = 'dead'
    RETURNING run_id, path
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.failed', path,
       jsonb_build_object('error', %(error)s::jsonb -> 'message', 'error_type', %(error)s::jsonb -> 'type',
                          'by', 'hand')
FROM failed
"""

# A letter that paused its run bears the time of the pause. A run that somebody paused by hand is theirs to resume.
MAY_GO_ON: LiteralString = """
SELECT EXISTS (SELECT FROM dead_letters d JOIN runs r ON r.id = d.run_id AND r.paused_at = d.at
               WHERE d.run_id = %(run)s)
   AND NOT EXISTS (SELECT FROM dead_letters WHERE run_id = %(run)s AND settled IS NULL)
"""
