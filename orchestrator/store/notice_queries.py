"""The outbox of notices: taken with SKIP LOCKED, so any number of copies may send; sent outside of any transaction."""

from __future__ import annotations

from typing import LiteralString

INSERT_NOTICES: LiteralString = """
INSERT INTO notices (kind, run_id, path, body)
SELECT g.kind, g.run_id, g.path, g.body::jsonb
FROM unnest(%(kinds)s::text[], %(runs)s::uuid[], %(paths)s::text[], %(bodies)s::text[]) AS g(kind, run_id, path, body)
"""

# Whoever takes one has it for `lease` seconds; if it dies, another copy sends it again under the same id. What has lain
# for long untried is older than the setting that would have sent it; what was decided meanwhile need not be asked.
TAKE_NOTICES: LiteralString = """
WITH due AS (
    SELECT n.id, n.tries = 0 AND n.at < now() - make_interval(secs => %(stale)s)
           OR n.kind LIKE '%%.asked' AND EXISTS (
               SELECT FROM waits w WHERE w.id = (n.body ->> 'wait')::bigint AND w.settled_at IS NOT NULL) AS is_idle
    FROM notices n WHERE n.due_at <= statement_timestamp()
    ORDER BY n.due_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE notices n
    SET tries = n.tries + 1,
        due_at = CASE WHEN NOT due.is_idle THEN clock_timestamp() + make_interval(secs => %(lease)s) END
    FROM due WHERE n.id = due.id
    RETURNING n.*
)
SELECT t.id, t.kind, t.run_id, t.path, r.workflow, t.at, t.body, t.tries, t.reached
FROM taken t JOIN runs r ON r.id = t.run_id
WHERE t.due_at IS NOT NULL
"""

# The number of the try is the fence: a copy that comes back late changes nothing.
SETTLE_NOTICE: LiteralString = """
UPDATE notices
SET reached = %(reached)s, error = %(error)s, due_at = clock_timestamp() + make_interval(secs => %(again_in)s::float8)
WHERE id = %(id)s AND tries = %(tries)s
"""
