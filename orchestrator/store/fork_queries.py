"""A new run that begins with the checkpoints of another. Nothing of the other is locked or changed: what is done, and
what a done step has used, stays as it is.
"""

from __future__ import annotations

from typing import LiteralString

SELECT_ORIGIN: LiteralString = "SELECT definition_id, priority FROM runs WHERE id = %(origin)s"

INSERT_FORK: LiteralString = """
WITH made AS (
    INSERT INTO runs (id, definition_id, workflow, tenant, priority, labels, input, state, due_at,
                      budget, accounts, forked_from, forked_at)
    SELECT %(run)s, definition_id, workflow, tenant, priority, labels, input, 'queued',
           clock_timestamp() + make_interval(secs => %(timeout)s::float8),
           budget, CASE WHEN budget IS NOT NULL THEN ARRAY[%(run)s::uuid] END, id, %(step)s
    FROM runs WHERE id = %(origin)s
    RETURNING id, workflow, forked_from
)
INSERT INTO events (run_id, kind, data)
SELECT id, 'run.submitted', jsonb_build_object('workflow', workflow, 'forked_from', forked_from) FROM made
RETURNING run_id
"""

SELECT_ORIGIN_STEPS: LiteralString = """
SELECT path, state, input_ref FROM steps WHERE run_id = %(origin)s
"""

# Steps without a given state are kept: their rows are the new run's checkpoints. That no attempt stands against them,
# no worker and no usage, says that this run has not executed them, nor paid for them.
COPY_STEPS: LiteralString = """
WITH copied AS (
    INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, input, input_ref, output, output_ref, error,
                       ready_at, started_at, finished_at)
    SELECT %(run)s, o.path, o.parent, o.ordinal, o.kind, o.agent, coalesce(g.state, o.state),
           CASE WHEN i.is_new THEN %(input)s::jsonb ELSE o.input END, CASE WHEN NOT i.is_new THEN o.input_ref END,
           k.output, k.output_ref, k.error, clock_timestamp(), k.started_at, k.finished_at
    FROM unnest(%(paths)s::text[], %(states)s::text[]) AS g(path, state)
    JOIN steps o ON o.run_id = %(origin)s AND o.path = g.path
    LEFT JOIN steps k ON k.run_id = o.run_id AND k.path = o.path AND g.state IS NULL
    CROSS JOIN LATERAL (SELECT o.path = %(step)s AND %(input)s::text IS NOT NULL AS is_new) AS i
    RETURNING path, state, error, kind
), told AS (
    SELECT 1 AS part, 'step.copied' AS kind,
           jsonb_build_object('steps', jsonb_object_agg(path, state), 'errors', coalesce(jsonb_object_agg(
               path, jsonb_build_object('error', error -> 'message', 'error_type', error -> 'type')
           ) FILTER (WHERE error IS NOT NULL), '{}')) AS data
    FROM (SELECT *, row_number() OVER () / 1000 AS batch FROM copied WHERE path <> %(step)s) AS c GROUP BY batch
    UNION ALL
    SELECT 2, 'run.forked',
           jsonb_build_object('from', %(origin)s::uuid, 'step', %(step)s::text,
                              'kept', count(*) FILTER (WHERE state = 'done' AND kind = 'agent'))
    FROM copied
), noted AS (
    INSERT INTO events (run_id, kind, data) SELECT %(run)s, kind, data FROM told ORDER BY part
)
SELECT count(*) FROM copied
"""
