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

INSERT_RUNS: LiteralString = """
WITH made AS (
    INSERT INTO runs (id, definition_id, workflow, tenant, priority, labels, input, state, due_at)
    SELECT g.id, %(definition)s, %(workflow)s, g.tenant, g.priority, g.labels::jsonb, g.input::jsonb, 'queued',
           clock_timestamp() + make_interval(secs => %(timeout)s::float8 + g.delay)
    FROM unnest(%(ids)s::uuid[], %(tenants)s::text[], %(priorities)s::int[], %(labels)s::text[],
                %(inputs)s::text[], %(delays)s::float8[]) AS g(id, tenant, priority, labels, input, delay)
    RETURNING id, workflow
)
INSERT INTO events (run_id, kind, data)
SELECT id, 'run.submitted', jsonb_build_object('workflow', workflow) FROM made
"""
