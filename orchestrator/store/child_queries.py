"""Runs that steps of other runs start: how they begin, how their ends reach those steps, and what is below a run.

A step that waits for its child is `open` as long as the child is not at its end; both ends are in one transaction.
A run and all below it share one lock (see `orchestrator.engine.run_locks`), so nobody moves one of them meanwhile.
"""

from __future__ import annotations

from typing import LiteralString

from orchestrator.store.cost_queries import LOST
from orchestrator.store.journal_queries import UNTOLD

# Each step starts its run once: one that is there already is not made again, nor is one of a step that has ended. The
# child of a paused run is paused with it, unless nobody waits for it. A run that starts another has started itself.
INSERT_CHILDREN: LiteralString = """
WITH given AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(parents)s::uuid[], %(steps)s::text[], %(tries)s::int[],
                         %(awaited)s::bool[], %(definitions)s::text[], %(workflows)s::text[], %(refs)s::text[],
                         %(inputs)s::text[], %(timeouts)s::float8[], %(delays)s::float8[], %(budgets)s::text[])
         AS g(id, parent_run, parent_step, parent_try, awaited, definition_id, workflow, ref, input, timeout, delay,
              budget)
), placed AS (
    SELECT g.*, p.tenant, p.priority, p.labels, p.state = 'paused' AND g.awaited AS held, p.paused_at,
           CASE WHEN g.awaited THEN p.accounts END
           || CASE WHEN g.budget IS NOT NULL THEN ARRAY[g.id] END AS accounts,
           CASE WHEN g.awaited THEN p.due_at END AS due_by, CASE WHEN g.awaited THEN p.time_left END AS time_by,
           make_interval(secs => g.timeout + g.delay) AS time,
           coalesce(g.input::jsonb, CASE WHEN g.ref = 'run' THEN p.input WHEN g.ref LIKE 'in:%%' THEN src.input
                                    ELSE src.output END, 'null') AS value
    FROM given g
    JOIN runs p ON p.id = g.parent_run
    -- By row: planned on an empty table, a join would go through all steps of the run for each of them.
    CROSS JOIN LATERAL (
        SELECT FROM steps WHERE run_id = g.parent_run AND path = g.parent_step AND state || '' = 'open' OFFSET 0
    ) s
    LEFT JOIN LATERAL (
        SELECT input, output FROM steps
        WHERE run_id = g.parent_run AND path = substr(g.ref, strpos(g.ref, ':') + 1) OFFSET 0
    ) src ON true
), made AS (
    INSERT INTO runs (id, definition_id, workflow, tenant, priority, labels, input, state, paused_at, pause_reason,
                      due_at, time_left, parent_run, parent_step, parent_try, awaited, budget, accounts)
    SELECT id, definition_id, workflow, tenant, priority, labels, value,
           CASE WHEN held THEN 'paused' ELSE 'queued' END, CASE WHEN held THEN paused_at END,
           CASE WHEN held THEN format('run %%s is paused', parent_run) END,
           CASE WHEN NOT held THEN least(clock_timestamp() + time, due_by) END,
           CASE WHEN held THEN least(time, time_by) END, parent_run, parent_step, parent_try, awaited,
           budget::jsonb, accounts
    FROM placed
    ON CONFLICT (parent_run, parent_step, parent_try) WHERE parent_run IS NOT NULL DO NOTHING
    RETURNING id, workflow, definition_id, parent_run, parent_step, awaited, pause_reason
), started AS (
    UPDATE runs SET state = 'running', started_at = clock_timestamp()
    WHERE state = 'queued' AND id IN (SELECT m.parent_run FROM made m JOIN given g ON g.id = m.id AND g.delay = 0)
    RETURNING id
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, kind, path, data
    FROM (
        SELECT 0 AS n, id AS run_id, 'run.started' AS kind, '' AS path, '{}'::jsonb AS data FROM started
        UNION ALL
        SELECT 1, parent_run, 'step.child', parent_step, jsonb_build_object('run', id, 'workflow', workflow) FROM made
        UNION ALL
        SELECT 2, id, 'run.submitted', '', jsonb_build_object('workflow', workflow, 'parent_run', parent_run,
                                                              'parent_step', parent_step) FROM made
        UNION ALL
        SELECT 3, id, 'run.paused', '', jsonb_build_object('reason', pause_reason) FROM made
        WHERE pause_reason IS NOT NULL
    ) AS e ORDER BY n
)
SELECT id, EXISTS (SELECT FROM definitions d WHERE d.id = made.definition_id) AS is_defined FROM made
"""

# The latest runs of steps that had been entered before and are open again.
SELECT_CHILDREN: LiteralString = """
SELECT DISTINCT ON (c.parent_run, c.parent_step) c.parent_run, c.parent_step, c.parent_try, c.id, c.state,
       c.output_ref
FROM unnest(%(parents)s::uuid[], %(steps)s::text[]) AS g(parent_run, parent_step)
JOIN steps s ON s.run_id = g.parent_run AND s.path = g.parent_step AND s.state || '' = 'open'
JOIN runs c ON c.parent_run = g.parent_run AND c.parent_step = g.parent_step
ORDER BY c.parent_run, c.parent_step, c.parent_try DESC
"""

# Of these runs, those that somebody waits for and that have ended: what they produced, or why they failed, becomes
# that of their steps. `outputs` are the results of fan-outs, which only a plan can tell.
CLOSE_STEPS_OF: LiteralString = (
    """
WITH ended AS (
    SELECT c.id, c.workflow, c.state, c.error, c.degraded, c.parent_run, c.parent_step,
           CASE WHEN c.state = 'completed' THEN coalesce(
               g.output::jsonb, CASE WHEN c.output_ref = 'run' THEN c.input
                                     WHEN c.output_ref LIKE 'in:%%' THEN src.input ELSE src.output END, 'null') END
               AS output,
           CASE WHEN c.state <> 'completed' THEN jsonb_build_object(
               'type', 'ChildFailed', 'retryable', false, 'message', format('run %%s of %%s %%s: %%s', c.id, c.workflow,
               CASE c.state WHEN 'failed' THEN 'failed' ELSE 'was cancelled' END, c.error ->> 'message')) END AS failure
    FROM unnest(%(runs)s::uuid[], %(outputs)s::text[]) AS g(id, output)
    JOIN runs c ON c.id = g.id AND c.awaited AND c.state IN ('completed', 'failed', 'cancelled')
    LEFT JOIN steps src ON src.run_id = c.id AND src.path = substr(c.output_ref, strpos(c.output_ref, ':') + 1)
), closed AS (
    UPDATE steps s
    SET state = CASE e.state WHEN 'completed' THEN 'done' ELSE 'failed' END, output = e.output, error = e.failure,
        finished_at = clock_timestamp(),
        usage = (SELECT jsonb_build_object('tokens', coalesce(sum((u.usage ->> 'tokens')::numeric), 0),
                                           'usd', coalesce(sum((u.usage ->> 'usd')::float8), 0),
                                           'model_calls', coalesce(sum((u.usage ->> 'model_calls')::numeric), 0))
                 FROM (SELECT a.usage FROM attempts a WHERE a.run_id = e.id  -- a step has only that of its last attempt
                       UNION ALL SELECT t.usage FROM steps t WHERE t.run_id = e.id AND t.kind = 'child'
                       UNION ALL SELECT n.usage FROM ("""
    + UNTOLD
    + """e.id) n
                       UNION ALL SELECT l.usage FROM ("""
    + LOST
    + """e.id) l) u)
    FROM (SELECT * FROM ended OFFSET 0) e
    WHERE s.run_id = e.parent_run AND s.path = e.parent_step AND s.state || '' = 'open'
    RETURNING s.run_id, s.path, s.state, s.usage, e.id, e.degraded, e.failure
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, 'step.' || state, path,
           jsonb_strip_nulls(jsonb_build_object(
               'run', id, 'usage', usage, 'degraded', nullif(degraded AND failure IS NULL, false),
               'error', failure -> 'message', 'error_type', failure -> 'type'))
    FROM closed
)
SELECT c.run_id, c.path, c.failure::text, p.definition_id, p.priority, p.state = 'paused' AS paused
FROM closed c JOIN runs p ON p.id = c.run_id
"""
)

# The runs below these that go on and are waited for; with a path, only those that steps below that one started.
SELECT_BELOW: LiteralString = """
WITH RECURSIVE below AS (
    SELECT c.id, c.definition_id, c.priority, c.paused_at, g.run_id AS root, g.path
    FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
    JOIN runs c ON c.parent_run = g.run_id AND c.awaited AND c.state IN ('queued', 'running', 'paused')
      AND (g.path = '' OR starts_with(c.parent_step, g.path || '/'))
    UNION ALL
    SELECT c.id, c.definition_id, c.priority, c.paused_at, b.root, b.path
    FROM below b
    JOIN runs c ON c.parent_run = b.id AND c.awaited AND c.state IN ('queued', 'running', 'paused')
)
SELECT b.id, b.definition_id, b.priority, b.root, b.path,
       b.paused_at IS NOT NULL AND b.paused_at = r.paused_at AS paused_together
FROM below b JOIN runs r ON r.id = b.root
"""

# From now on these are paused as long as the run is that waits for the first of them.
PAUSE_WITH_PARENT: LiteralString = """
WITH held AS (
    SELECT p.paused_at, format('run %%s is paused', p.id) AS reason
    FROM runs c JOIN runs p ON p.id = c.parent_run AND p.state = 'paused' WHERE c.id = %(run)s
), paused AS (
    UPDATE runs r
    SET state = 'paused', paused_at = h.paused_at, pause_reason = h.reason, due_at = NULL,
        time_left = coalesce(r.time_left, r.due_at - now())
    FROM held h WHERE r.id = ANY (%(runs)s::uuid[]) AND r.state IN ('queued', 'running', 'paused')
    RETURNING r.id, h.reason
)
INSERT INTO events (run_id, kind, data)
SELECT id, 'run.paused', jsonb_build_object('reason', reason) FROM paused
"""
