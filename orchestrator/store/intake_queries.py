"""Submissions become rows."""

from __future__ import annotations

from typing import LiteralString

INSERT_KEYS: LiteralString = """
INSERT INTO idempotency_keys (tenant, key, run_id, digest)
SELECT * FROM unnest(%(tenants)s::text[], %(keys)s::text[], %(runs)s::uuid[], %(digests)s::text[])
ORDER BY 1, 2  -- the same order in every transaction, so that two never wait for each other
ON CONFLICT DO NOTHING
"""

SELECT_KEYS: LiteralString = """
SELECT k.tenant, k.key, k.run_id, k.digest
FROM unnest(%(tenants)s::text[], %(keys)s::text[]) AS w(tenant, key)
JOIN idempotency_keys k ON k.tenant = w.tenant AND k.key = w.key
"""

# A run that is there already was made by an earlier try of the same submission, whose answer was lost.
INSERT_RUNS: LiteralString = """
WITH made AS (
    INSERT INTO runs (id, definition_id, workflow, tenant, priority, labels, input, state, due_at, budget,
                      accounts)
    SELECT g.id, %(definition)s, %(workflow)s, g.tenant, g.priority, g.labels::jsonb, g.input::jsonb, 'queued',
           clock_timestamp() + make_interval(secs => %(timeout)s::float8 + g.delay),
           %(budget)s::jsonb, CASE WHEN %(budget)s::text IS NOT NULL THEN ARRAY[g.id] END
    FROM unnest(%(ids)s::uuid[], %(tenants)s::text[], %(priorities)s::int[], %(labels)s::text[],
                %(inputs)s::text[], %(delays)s::float8[]) AS g(id, tenant, priority, labels, input, delay)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, workflow
), noted AS (
    INSERT INTO events (run_id, kind, data)
    SELECT id, 'run.submitted', jsonb_build_object('workflow', workflow) FROM made
)
SELECT (SELECT array_agg(id) FROM made) AS made,
       EXISTS (SELECT FROM definitions WHERE id = %(definition)s) AS is_defined
"""

# Steps whose message waits for a commit that nobody reports: the timers send them.
LEAVE_UNSENT: LiteralString = """
WITH left_over AS (
    SELECT s.run_id, s.path
    FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
    JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
    WHERE s.state || '' = 'ready' AND s.due_at IS NULL AND s.ready_at IS NOT NULL
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE steps s SET due_at = clock_timestamp()
FROM left_over o WHERE s.run_id = o.run_id AND s.path = o.path
"""

# First steps that nobody has claimed: those that are due and were left to the timers, or, `again`, all of them.
TAKE_UNSENT: LiteralString = """
WITH unsent AS (
    SELECT s.run_id, s.path, r.definition_id, r.priority
    FROM steps s JOIN runs r ON r.id = s.run_id AND r.state IN ('queued', 'running')
    WHERE s.run_id = ANY (%(runs)s::uuid[]) AND s.state = 'ready' AND s.ready_at IS NOT NULL AND s.attempt = 0
      AND (s.due_at <= clock_timestamp() OR (s.due_at IS NULL AND %(again)s::bool))
    FOR UPDATE OF s SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp(), due_at = NULL
FROM unsent u WHERE s.run_id = u.run_id AND s.path = u.path
RETURNING s.run_id, s.path, s.agent, u.definition_id, u.priority
"""
