"""An attempt of a step: its claim, what it is given, its outcome. Batches come as arrays: any size is one statement.

A claim takes no lock on the run. That nothing starts after a run was cancelled or paused holds by the rows of its
steps, which both rewrite: a claim that began before finds the step cancelled, or held (`ready_at` is NULL), when it
comes to the row; one that began after sees the state of the run.

`state || ''` keeps the planner away from the partial indexes on states, which it takes for smaller than the primary
key and would search by run alone: all unfinished steps of the run, each time. `OFFSET 0` keeps runs and the wanted
paths together for the same reason: planned on an empty table, the join would look up steps by run only and filter
the paths afterwards, for as long as the plan is cached.
"""

from __future__ import annotations

from typing import LiteralString

NOTE_EVENTS: LiteralString = """
INSERT INTO events (run_id, kind, path, data)
SELECT g.run_id, g.kind, g.path, g.data::jsonb
FROM unnest(%(runs)s::uuid[], %(kinds)s::text[], %(paths)s::text[], %(data)s::text[]) AS g(run_id, kind, path, data)
"""

CLAIM: LiteralString = """
WITH claimed AS (
    UPDATE steps s
    SET state = 'running', attempt = s.attempt + 1, worker_id = %(worker)s, started_at = clock_timestamp(),
        due_at = NULL, limited = NULL
    FROM (
        SELECT w.path, runs.* FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS w(run_id, path)
        JOIN runs ON runs.id = w.run_id AND runs.state IN ('queued', 'running')
        WHERE runs.due_at IS NULL OR runs.due_at > clock_timestamp()
        OFFSET 0
    ) r
    WHERE s.run_id = r.id AND s.path = r.path AND s.state || '' = 'ready' AND s.ready_at IS NOT NULL
      AND (s.due_at IS NULL OR s.due_at <= clock_timestamp())
    RETURNING s.run_id, s.path, s.agent, s.attempt, s.retries, s.input, s.input_ref, r.definition_id, r.workflow,
              r.tenant, r.priority, r.labels, r.state AS run_state, r.due_at AS run_due, r.accounts,
              CASE WHEN s.input_ref = 'run' OR r.id <> ALL (%(known)s::uuid[]) THEN r.input END AS intent
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, 'step.started', path, jsonb_build_object('attempt', attempt, 'worker', %(worker_name)s::text)
    FROM claimed
), started AS (
    UPDATE runs SET state = 'running', started_at = clock_timestamp()
    WHERE state = 'queued' AND id IN (SELECT run_id FROM claimed WHERE run_state = 'queued')
    RETURNING id
), told AS (
    INSERT INTO events (run_id, kind) SELECT id, 'run.started' FROM started
)
SELECT c.run_id, c.path, c.attempt, c.retries, c.definition_id, c.workflow, c.tenant, c.priority, c.labels,
       c.intent::text AS intent,
       extract(epoch FROM c.run_due - clock_timestamp())::float8 AS run_left, c.input_ref,
       (CASE WHEN c.input IS NOT NULL THEN c.input
             WHEN c.input_ref = 'run' THEN c.intent
             WHEN c.input_ref LIKE 'in:%%' THEN (SELECT src.input FROM steps src WHERE src.run_id = c.run_id
                                                 AND src.path = substr(c.input_ref, 4))
             ELSE (SELECT src.output FROM steps src WHERE src.run_id = c.run_id
                   AND src.path = substr(c.input_ref, strpos(c.input_ref, ':') + 1)) END)::text AS input,
       -- Whether there is a budget that it counts in.
       c.accounts IS NOT NULL OR EXISTS (SELECT FROM budgets WHERE account = ANY (ARRAY[
           'hour:all:', 'day:all:', 'month:all:',
           'hour:tenant:' || c.tenant, 'day:tenant:' || c.tenant, 'month:tenant:' || c.tenant,
           'hour:agent:' || c.agent, 'day:agent:' || c.agent, 'month:agent:' || c.agent])) AS metered,
       -- A claim that a crash of the server forgets is claimed again: it need not wait for the disk.
       set_config('synchronous_commit', 'off', true)
FROM claimed c
"""

SELECT_INTENT: LiteralString = "SELECT input::text FROM runs WHERE id = %(run)s"

SELECT_STANDING: LiteralString = """
SELECT s.state, s.attempt, r.state AS run_state,
       extract(epoch FROM s.due_at - clock_timestamp())::float8 AS due_in,
       EXISTS (SELECT FROM steps n WHERE n.run_id = s.run_id AND n.path = %(next)s AND n.state = 'ready') AS next_ready
FROM steps s JOIN runs r ON r.id = s.run_id
WHERE s.run_id = %(run)s AND s.path = %(path)s
"""

# Looked up for each row that needs it, not joined: planned on an empty table, a join would compare all with all.
SELECT_RESULTS: LiteralString = """
SELECT c.path, c.state, c.error::text AS error,
       CASE WHEN c.output IS NOT NULL THEN c.output::text
            WHEN c.output_ref LIKE 'all:%%' THEN NULL
            WHEN c.output_ref = 'run' THEN (SELECT input::text FROM runs WHERE id = c.run_id)
            WHEN c.output_ref LIKE 'in:%%' THEN (SELECT input::text FROM steps src WHERE src.run_id = c.run_id
                                                AND src.path = substr(c.output_ref, 4))
            ELSE (SELECT output::text FROM steps src WHERE src.run_id = c.run_id
                  AND src.path = substr(c.output_ref, 5)) END AS output,
       c.output_ref
FROM steps c
WHERE c.run_id = %(run)s AND c.parent = %(parent)s AND c.ordinal >= 0
ORDER BY c.ordinal
"""

# The fence: only the holder of the current attempt of a running step of a live run is heard, a paused one too.
# `next_path` names the stage that the worker would run at once: it is opened and claimed here, if the run goes on.
ACCEPT: LiteralString = """
WITH given AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[], %(states)s::text[],
                         %(outputs)s::text[], %(errors)s::text[], %(usages)s::text[], %(retry_ins)s::float8[],
                         %(next_paths)s::text[], %(next_agents)s::text[], %(limits)s::text[],
                         %(rests)s::text[])
         AS g(run_id, path, attempt, state, output, error, usage, retry_in, next_path, next_agent, limited,
              rest)
), accepted AS (
    UPDATE steps s
    SET state = CASE WHEN g.retry_in IS NULL THEN g.state ELSE 'ready' END,
        output = g.output::jsonb, error = g.error::jsonb, usage = g.usage::jsonb,
        finished_at = CASE WHEN g.retry_in IS NULL AND g.state <> 'waiting' THEN clock_timestamp() END,
        due_at = clock_timestamp() + make_interval(secs => g.retry_in),
        ready_at = CASE WHEN g.retry_in IS NULL OR NOT g.paused THEN s.ready_at END,
        retries = s.retries + (g.retry_in IS NOT NULL AND g.limited IS NULL)::int, limited = g.limited
    FROM (
        SELECT given.*, runs.definition_id, runs.priority, runs.state = 'paused' AS paused, runs.accounts,
               CASE WHEN runs.state = 'running' AND coalesce(runs.due_at > clock_timestamp(), true)
                    THEN given.next_path END AS goes_to,
               extract(epoch FROM runs.due_at - clock_timestamp())::float8 AS run_left
        FROM given
        JOIN runs ON runs.id = given.run_id AND runs.state IN ('queued', 'running', 'paused')
        OFFSET 0
    ) g
    WHERE s.run_id = g.run_id AND s.path = g.path AND s.attempt = g.attempt AND s.state || '' = 'running'
      AND s.worker_id = %(worker)s
    RETURNING s.run_id, s.path, s.parent, s.attempt, s.worker_id, s.started_at, g.state, g.error, g.usage, g.retry_in,
              g.definition_id, g.priority, g.paused, g.goes_to, g.next_agent, g.run_left,
              g.accounts, g.limited, g.rest
), spent AS (
    -- What was counted call by call is not in the rest.
    INSERT INTO spendings AS k (run_id, stripe, tokens, usd, model_calls, seconds)
    SELECT account, pg_backend_pid() %% 16, sum(tokens), sum(usd), sum(model_calls), sum(seconds)
    FROM accepted CROSS JOIN LATERAL (
        SELECT coalesce((rest::jsonb ->> 'tokens')::numeric, 0) AS tokens,
               coalesce((rest::jsonb ->> 'usd')::numeric, 0) AS usd,
               coalesce((rest::jsonb ->> 'model_calls')::numeric, 0) AS model_calls,
               extract(epoch FROM clock_timestamp() - started_at) AS seconds
    ) u CROSS JOIN LATERAL unnest(accounts) AS a(account)
    GROUP BY account ORDER BY account  -- the same order in every transaction, so that two never wait for each other
    ON CONFLICT (run_id, stripe) DO UPDATE
    SET tokens = k.tokens + excluded.tokens, usd = k.usd + excluded.usd,
        model_calls = k.model_calls + excluded.model_calls, seconds = k.seconds + excluded.seconds
), tried AS (
    INSERT INTO attempts (run_id, path, attempt, worker_id, state, error, usage, started_at)
    SELECT run_id, path, attempt, worker_id, state, error::jsonb, usage::jsonb, started_at FROM accepted
), opened AS (
    INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, attempt, worker_id, input_ref, ready_at,
                       started_at)
    SELECT run_id, goes_to, parent, 0, 'agent', next_agent, 'running', 1, %(worker)s, 'out:' || path,
           clock_timestamp(), clock_timestamp()
    FROM accepted WHERE goes_to IS NOT NULL
    RETURNING run_id, path
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, CASE WHEN retry_in IS NULL OR limited IS NOT NULL THEN 'step.' || state ELSE 'step.retrying' END,
           path,
           jsonb_strip_nulls(jsonb_build_object('attempt', attempt, 'error', error::jsonb -> 'message',
                                                'error_type', error::jsonb -> 'type', 'limit', limited,
                                                'degraded',
                                                CASE WHEN state = 'done' AND error IS NOT NULL THEN true END,
                                                CASE WHEN limited IS NULL THEN 'retry_in' ELSE 'due_in' END, retry_in,
                                                'usage', usage::jsonb))
    FROM accepted WHERE state <> 'waiting'
    UNION ALL
    SELECT run_id, 'step.started', path, jsonb_build_object('attempt', 1, 'worker', %(worker_name)s::text) FROM opened
)
SELECT run_id, path, attempt, definition_id, priority, paused, goes_to, run_left, accounts,
       EXISTS (SELECT FROM budgets) AS metered
FROM accepted
"""
