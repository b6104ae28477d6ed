"""The statements that show runs, events, pools and workers to people and programs."""

from __future__ import annotations

from typing import LiteralString

from orchestrator.store.cost_queries import LOST
from orchestrator.store.journal_queries import UNTOLD

RUN_COLUMNS: LiteralString = """
r.id, r.workflow, r.state, r.tenant, r.labels, r.priority, r.degraded, r.created_at, r.started_at, r.finished_at,
r.paused_at, r.pause_reason, r.error, r.forked_from, r.forked_at, r.parent_run, r.parent_step, r.awaited
"""

SELECT_RUN_IDS: LiteralString = """
SELECT id FROM runs
WHERE state = ANY (%(states)s::text[])
  AND (%(workflow)s::text IS NULL OR workflow = %(workflow)s)
  AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
  AND (%(labels)s::jsonb IS NULL OR labels @> %(labels)s::jsonb)
  -- What happens to a run happens to what it waits for.
  AND NOT (coalesce(awaited, false) AND EXISTS (
      SELECT FROM runs p WHERE p.id = runs.parent_run AND p.state = ANY (%(states)s::text[])
        AND (%(workflow)s::text IS NULL OR p.workflow = %(workflow)s)))
ORDER BY created_at, id
"""

SELECT_RUNS: LiteralString = (
    "SELECT "
    + RUN_COLUMNS
    + """
FROM runs r
WHERE (%(state)s::text IS NULL OR r.state = %(state)s)
  AND (%(workflow)s::text IS NULL OR r.workflow = %(workflow)s)
  AND (%(tenant)s::text IS NULL OR r.tenant = %(tenant)s)
  AND (%(labels)s::jsonb IS NULL OR r.labels @> %(labels)s::jsonb)
  AND (%(children)s::bool OR r.parent_run IS NULL)
ORDER BY r.created_at DESC, r.id DESC LIMIT %(limit)s
"""
)

SELECT_RUN: LiteralString = (
    "SELECT " + RUN_COLUMNS + ", r.input, r.output_ref, r.definition_id FROM runs r WHERE r.id = %(run)s"
)

SELECT_CHILDREN: LiteralString = (
    "SELECT "
    + RUN_COLUMNS
    + "FROM runs r WHERE r.parent_run = %(run)s ORDER BY r.created_at DESC, r.id DESC LIMIT %(limit)s"
)

SELECT_FORKS: LiteralString = "SELECT id FROM runs WHERE forked_from = %(run)s ORDER BY created_at, id"

SELECT_DEFINITION: LiteralString = "SELECT definition_id FROM runs WHERE id = %(run)s"

# How far each step has come, and where its output is.
SELECT_CHECKPOINTS: LiteralString = """
SELECT s.path, s.parent, s.kind, s.agent, s.state, s.ordinal, s.output_ref, c.id
FROM steps s LEFT JOIN LATERAL (
    SELECT id FROM runs WHERE s.kind = 'child' AND parent_run = s.run_id AND parent_step = s.path
    ORDER BY parent_try DESC LIMIT 1
) c ON true
WHERE s.run_id = %(run)s
"""

# An output never changes once its step is done.
SELECT_OUTPUTS: LiteralString = """
SELECT path, output::text FROM steps
WHERE run_id = %(run)s AND path = ANY (%(paths)s::text[]) AND output IS NOT NULL
"""

SELECT_FIGURES: LiteralString = (
    """
SELECT r.id, r.state, r.degraded, r.started_at, r.finished_at, r.error,
       jsonb_build_object('tokens', u.tokens, 'usd', u.usd, 'model_calls', u.model_calls) AS usage
FROM runs r CROSS JOIN LATERAL (
    SELECT coalesce(sum((a.usage ->> 'tokens')::bigint), 0) AS tokens,
           coalesce(sum((a.usage ->> 'usd')::float8), 0) AS usd,
           coalesce(sum((a.usage ->> 'model_calls')::bigint), 0) AS model_calls
    FROM (SELECT t.usage FROM attempts t WHERE t.run_id = r.id
          UNION ALL SELECT c.usage FROM steps c WHERE c.run_id = r.id AND c.kind = 'child'
          UNION ALL SELECT n.usage FROM ("""
    + UNTOLD
    + """r.id) n
          UNION ALL SELECT l.usage FROM ("""
    + LOST
    + """r.id) l) a
) u
WHERE r.id = ANY (%(runs)s::uuid[])
"""
)

SELECT_RUN_END: LiteralString = """
SELECT state, error, output_ref, definition_id FROM runs WHERE id = %(run)s
"""

SELECT_OUTPUT: LiteralString = """
SELECT (CASE WHEN %(ref)s = 'run' THEN (SELECT input FROM runs WHERE id = %(run)s)
             WHEN %(ref)s LIKE 'in:%%' THEN (SELECT input FROM steps
                                             WHERE run_id = %(run)s AND path = substr(%(ref)s, 4))
             ELSE (SELECT output FROM steps WHERE run_id = %(run)s AND path = substr(%(ref)s, 5)) END)::text
"""

SELECT_STEPS: LiteralString = """
SELECT s.path, s.parent, s.kind, s.agent, s.state, s.attempt, s.losses, w.name AS worker, s.ready_at,
       s.started_at, s.finished_at, s.due_at, s.error, s.usage, s.ordinal, c.id AS child,
       CASE WHEN s.state = 'ready' THEN s.limited END AS limited
FROM steps s LEFT JOIN workers w ON w.id = s.worker_id
LEFT JOIN LATERAL (
    SELECT id FROM runs WHERE s.kind = 'child' AND parent_run = s.run_id AND parent_step = s.path
    ORDER BY parent_try DESC LIMIT 1
) c ON true
WHERE s.run_id = %(run)s
"""

SELECT_SPENT: LiteralString = (
    """
SELECT path, count(*) FILTER (WHERE ended),
       jsonb_build_object('tokens', coalesce(sum((usage ->> 'tokens')::bigint), 0),
                          'usd', coalesce(sum((usage ->> 'usd')::float8), 0),
                          'model_calls', coalesce(sum((usage ->> 'model_calls')::bigint), 0)),
       coalesce(sum(extract(epoch FROM finished_at - started_at)), 0)::float8, min(started_at)
FROM (
    SELECT path, usage, started_at, finished_at, true AS ended FROM attempts WHERE run_id = %(run)s
    UNION ALL
    SELECT n.path, n.usage, s.started_at, NULL, false
    FROM ("""
    + UNTOLD
    + "%(run)s UNION ALL "
    + LOST
    + """%(run)s) n JOIN steps s ON s.run_id = %(run)s AND s.path = n.path
) u GROUP BY path
"""
)

# Events get their numbers when they are first read, in the order of their ids: the writers of a run's events
# share no row, and a reader that follows by number misses nothing, however late a transaction commits.
LOCK_NUMBERING: LiteralString = "SELECT pg_advisory_xact_lock(7003, hashtext(%(run)s::text))"

NUMBER_EVENTS: LiteralString = """
UPDATE events e SET number = f.number
FROM (
    SELECT id, row_number() OVER (ORDER BY id)
               + (SELECT coalesce(max(number), 0) FROM events WHERE run_id = %(run)s) AS number
    FROM events WHERE run_id = %(run)s AND number IS NULL
) f
WHERE e.id = f.id
"""

SELECT_EVENTS: LiteralString = """
SELECT run_id, number, kind, path, at, data FROM events
WHERE run_id = %(run)s AND number > %(after)s ORDER BY number LIMIT %(limit)s
"""

SELECT_UNNUMBERED: LiteralString = """
SELECT EXISTS (SELECT FROM events WHERE run_id = %(run)s AND number IS NULL)
"""

SELECT_POOLS: LiteralString = """
WITH live AS (
    SELECT unnest(queues) AS queue, concurrency FROM workers
    WHERE stopped_at IS NULL AND lease_until > clock_timestamp()
), pools AS (
    SELECT queue, count(*) AS workers, sum(concurrency) AS concurrency FROM live
    WHERE starts_with(queue, 'agent.') GROUP BY queue
), work AS (
    SELECT 'agent.' || s.agent AS queue, count(*) FILTER (WHERE s.state = 'ready' AND s.due_at IS NULL) AS ready,
           count(*) FILTER (WHERE s.state = 'running') AS running
    FROM steps s JOIN runs r ON r.id = s.run_id AND r.state IN ('queued', 'running', 'paused')
    WHERE s.state = 'running' OR (s.state = 'ready' AND s.ready_at IS NOT NULL) GROUP BY 1
)
SELECT queue, coalesce(p.workers, 0) AS workers, coalesce(p.concurrency, 0) AS concurrency,
       coalesce(k.ready, 0) AS ready, coalesce(k.running, 0) AS running
FROM pools p FULL JOIN work k USING (queue) ORDER BY queue
"""

SELECT_WORKERS: LiteralString = """
SELECT id, name, queues, concurrency, pool, started_at, seen_at,
       stopped_at IS NULL AND lease_until > clock_timestamp() AS alive
FROM workers WHERE stopped_at IS NULL OR %(all)s::bool ORDER BY alive DESC, name, started_at DESC LIMIT %(limit)s
"""

SELECT_SERVED: LiteralString = """
SELECT DISTINCT unnest(queues) FROM workers WHERE stopped_at IS NULL AND lease_until > clock_timestamp()
"""

SELECT_STEP_RESULT: LiteralString = """
SELECT s.state, coalesce(s.output, src.output) AS output, s.error
FROM steps s
LEFT JOIN steps src ON src.run_id = s.run_id AND src.path = substr(s.output_ref, strpos(s.output_ref, ':') + 1)
WHERE s.run_id = %(run)s AND s.path = %(path)s
"""
