"""Schedules: set, shown, and fired. A firing moves `next_at` in the transaction that creates its runs."""

from __future__ import annotations

from typing import LiteralString

# The same timetable keeps its next time, so that a program may set its schedules whenever it starts; and one that
# somebody paused stays paused.
PUT_SCHEDULE: LiteralString = """
INSERT INTO schedules AS s (name, definition_id, workflow, input, cron, every, timezone, missed, overlap, tenant,
                            priority, labels, next_at)
VALUES (%(name)s, %(definition)s, %(workflow)s, %(input)s::jsonb, %(cron)s, %(every)s, %(timezone)s, %(missed)s,
        %(overlap)s, %(tenant)s, %(priority)s, %(labels)s::jsonb, %(next_at)s)
ON CONFLICT (name) DO UPDATE
SET definition_id = excluded.definition_id, workflow = excluded.workflow, input = excluded.input,
    cron = excluded.cron, every = excluded.every, timezone = excluded.timezone, missed = excluded.missed,
    overlap = excluded.overlap, tenant = excluded.tenant, priority = excluded.priority, labels = excluded.labels,
    next_at = CASE WHEN s.cron IS NOT DISTINCT FROM excluded.cron AND s.every IS NOT DISTINCT FROM excluded.every
                        AND s.timezone = excluded.timezone THEN s.next_at ELSE excluded.next_at END
WHERE %(replace)s
RETURNING name
"""

SELECT_SCHEDULES: LiteralString = """
SELECT name, workflow, input, cron, every, timezone, missed, overlap, tenant, priority, labels, enabled, next_at,
       last_fired_at, last_run_id, left_out_at, created_at
FROM schedules WHERE %(name)s::text IS NULL OR name = %(name)s ORDER BY name
"""

SELECT_DEFINITION_OF: LiteralString = "SELECT definition_id FROM schedules WHERE name = %(name)s"

LOCK_SCHEDULE: LiteralString = """
SELECT cron, every, timezone, clock_timestamp() AS now FROM schedules WHERE name = %(name)s FOR UPDATE
"""

ENABLE_SCHEDULE: LiteralString = """
UPDATE schedules SET enabled = true, next_at = %(next_at)s WHERE name = %(name)s AND NOT enabled
"""

DISABLE_SCHEDULE: LiteralString = "UPDATE schedules SET enabled = false WHERE name = %(name)s RETURNING name"

DELETE_SCHEDULE: LiteralString = "DELETE FROM schedules WHERE name = %(name)s RETURNING name"

SELECT_DUE_DEFINITIONS: LiteralString = """
SELECT DISTINCT definition_id FROM schedules WHERE enabled AND next_at <= statement_timestamp()
"""

# `occupied`: the run that it started last goes on, and it is to have one at a time. Whoever starts one holds its row.
TAKE_DUE_SCHEDULES: LiteralString = """
SELECT name, definition_id, input::text, cron, every, timezone, missed, overlap = 'skip' AS alone, tenant, priority,
       labels, next_at, statement_timestamp() AS now,
       overlap = 'skip' AND EXISTS (SELECT FROM runs r WHERE r.id = schedules.last_run_id
                                    AND r.state IN ('queued', 'running', 'paused')) AS occupied
FROM schedules
WHERE enabled AND next_at <= statement_timestamp() AND definition_id = ANY (%(definitions)s::text[])
ORDER BY next_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
"""

MOVE_SCHEDULES: LiteralString = """
UPDATE schedules s
SET next_at = g.next_at, last_run_id = coalesce(g.run, s.last_run_id),
    last_fired_at = CASE WHEN g.run IS NULL THEN s.last_fired_at ELSE clock_timestamp() END,
    left_out_at = CASE WHEN g.occupied THEN clock_timestamp() ELSE s.left_out_at END
FROM unnest(%(names)s::text[], %(next_ats)s::timestamptz[], %(runs)s::uuid[], %(occupied)s::bool[])
     AS g(name, next_at, run, occupied)
WHERE s.name = g.name
"""

NOTE_FIRED: LiteralString = """
UPDATE schedules SET last_fired_at = clock_timestamp(), last_run_id = %(run)s WHERE name = %(name)s
"""
