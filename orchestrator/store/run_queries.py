"""Every statement about runs and steps, one name each. Batches come as arrays, so any size is one statement.

Locks. The verbs that create steps (submit, record) hold the run's advisory lock shared; those that move a whole
run (cancel, resume, deadlines) hold it exclusively, so they see all steps and none slips in behind them. It is
taken before the statements that depend on it, since a statement's snapshot is older than the locks it waits for.
A claim needs no such lock: it moves a step that exists, and whoever moves the run moves that row too. All lock a
run's steps before the row of the run itself.

`state || ''` keeps the planner away from the partial indexes on states, which it takes for smaller than the primary
key and would search by run alone: all unfinished steps of the run, each time.
"""

from __future__ import annotations

from typing import LiteralString

# Sent together with BEGIN; the keys are integers of ours, so no value needs quoting.
SHARE_RUN: LiteralString = "SELECT pg_advisory_xact_lock_shared(7001, {key})"

OWN_RUN: LiteralString = "SELECT pg_advisory_xact_lock(7001, {key})"

TRY_JOINS: LiteralString = """
SELECT run_id, parent, pg_try_advisory_xact_lock(7002, hashtext(run_id::text || parent)) AS got
FROM unnest(%(runs)s::uuid[], %(parents)s::text[]) AS j(run_id, parent)
"""

WAIT_JOINS: LiteralString = """
SELECT pg_advisory_xact_lock(7002, key)
FROM (SELECT DISTINCT hashtext(run_id::text || parent) AS key
      FROM unnest(%(runs)s::uuid[], %(parents)s::text[]) AS j(run_id, parent) ORDER BY key) AS keys
"""

# --- submit -----------------------------------------------------------------------------------------------

INSERT_DEFINITION: LiteralString = """
INSERT INTO definitions (id, name, version, body) VALUES (%(id)s, %(name)s, %(version)s, %(body)s::json)
ON CONFLICT (id) DO NOTHING
"""

SELECT_DEFINITION: LiteralString = "SELECT body::text FROM definitions WHERE id = %(id)s"

SELECT_DEFINITION_BY_NAME: LiteralString = """
SELECT body::text FROM definitions WHERE name = %(name)s ORDER BY created_at DESC LIMIT 1
"""

SELECT_DEFINITIONS: LiteralString = """
SELECT DISTINCT ON (name) body::text FROM definitions ORDER BY name, created_at DESC
"""

TOUCH_DEFINITION: LiteralString = "UPDATE definitions SET created_at = clock_timestamp() WHERE id = %(id)s"

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

# --- open steps -------------------------------------------------------------------------------------------

INSERT_STEPS: LiteralString = """
INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, input_ref, due_at, ready_at)
SELECT g.run_id, g.path, g.parent, g.ordinal, g.kind, g.agent, g.state, g.input_ref,
       clock_timestamp() + make_interval(secs => g.due), clock_timestamp()
FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(parents)s::text[], %(ordinals)s::int[], %(kinds)s::text[],
            %(agents)s::text[], %(states)s::text[], %(input_refs)s::text[], %(dues)s::float8[])
     AS g(run_id, path, parent, ordinal, kind, agent, state, input_ref, due)
ON CONFLICT (run_id, path) DO NOTHING
RETURNING run_id, path
"""

NOTE_EVENTS: LiteralString = """
INSERT INTO events (run_id, kind, path, data)
SELECT g.run_id, g.kind, g.path, g.data::jsonb
FROM unnest(%(runs)s::uuid[], %(kinds)s::text[], %(paths)s::text[], %(data)s::text[]) AS g(run_id, kind, path, data)
"""

# The items of an `each`, taken out of the value that a reference names; rows beyond the window wait.
INSERT_ITEMS: LiteralString = """
WITH source AS (
    SELECT CASE WHEN %(ref)s = 'run' THEN (SELECT input FROM runs WHERE id = %(run)s)
                WHEN %(ref)s LIKE 'in:%%' THEN (SELECT input FROM steps
                                                WHERE run_id = %(run)s AND path = substr(%(ref)s, 4))
                ELSE (SELECT output FROM steps WHERE run_id = %(run)s AND path = substr(%(ref)s, 5))
           END AS value
), list AS (
    SELECT CASE WHEN %(field)s::text IS NULL THEN value ELSE value -> %(field)s::text END AS value FROM source
), sound AS (
    -- AND promises no order, and the length of a text is an error.
    SELECT value FROM list
    WHERE CASE jsonb_typeof(value) WHEN 'array' THEN jsonb_array_length(value) <= %(most)s ELSE false END
), made AS (
    INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, input, due_at, ready_at)
    SELECT %(run)s, %(path)s || '/' || (i.n - 1), %(path)s, i.n - 1, %(kind)s, %(agent)s,
           CASE WHEN i.n <= %(window)s THEN %(state)s ELSE 'pending' END, i.item,
           clock_timestamp() + make_interval(secs => %(delay)s::float8), clock_timestamp()
    FROM sound, jsonb_array_elements(sound.value) WITH ORDINALITY AS i(item, n)
    RETURNING 1
)
SELECT jsonb_typeof(value) AS kind,
       CASE WHEN jsonb_typeof(value) = 'array' THEN jsonb_array_length(value) END AS items,
       (SELECT count(*) FROM made) AS made
FROM list
"""

INSERT_GIVEN_ITEMS: LiteralString = """
INSERT INTO steps (run_id, path, parent, ordinal, kind, agent, state, input, due_at, ready_at)
SELECT %(run)s, %(path)s || '/' || (i.n - 1), %(path)s, i.n - 1, %(kind)s, %(agent)s,
       CASE WHEN i.n <= %(window)s THEN %(state)s ELSE 'pending' END, i.item::jsonb,
       clock_timestamp() + make_interval(secs => %(delay)s::float8), clock_timestamp()
FROM unnest(%(items)s::text[]) WITH ORDINALITY AS i(item, n)
"""

PROMOTE: LiteralString = """
UPDATE steps SET state = CASE kind WHEN 'agent' THEN 'ready' ELSE 'open' END, ready_at = clock_timestamp()
WHERE (run_id, path) IN (
    SELECT run_id, path FROM steps
    WHERE run_id = %(run)s AND parent = %(parent)s AND state = 'pending'
    ORDER BY ordinal LIMIT %(count)s FOR UPDATE SKIP LOCKED
)
RETURNING path, input_ref
"""

# --- claim ------------------------------------------------------------------------------------------------

CLAIM: LiteralString = """
WITH claimed AS (
    UPDATE steps s
    SET state = 'running', attempt = s.attempt + 1, worker_id = %(worker)s, started_at = clock_timestamp(),
        due_at = NULL
    FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS w(run_id, path), runs r
    WHERE s.run_id = w.run_id AND s.path = w.path AND s.state || '' = 'ready'
      AND (s.due_at IS NULL OR s.due_at <= clock_timestamp() + interval '20 milliseconds')
      AND r.id = w.run_id AND r.state IN ('queued', 'running')
    RETURNING s.run_id, s.path, s.attempt, s.retries, s.input, s.input_ref, r.definition_id, r.workflow, r.tenant,
              r.priority, r.labels, r.state AS run_state, r.due_at AS run_due,
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
             WHEN c.input_ref LIKE 'in:%%' THEN src.input
             ELSE src.output END)::text AS input,
       -- A claim that a crash of the server forgets is claimed again: it need not wait for the disk.
       set_config('synchronous_commit', 'off', true)
FROM claimed c
LEFT JOIN steps src ON src.run_id = c.run_id AND src.path = substr(c.input_ref, strpos(c.input_ref, ':') + 1)
"""

SELECT_INTENT: LiteralString = "SELECT input::text FROM runs WHERE id = %(run)s"

SELECT_STANDING: LiteralString = """
SELECT s.state, s.attempt, r.state AS run_state,
       extract(epoch FROM s.due_at - clock_timestamp())::float8 AS due_in,
       EXISTS (SELECT FROM steps n WHERE n.run_id = s.run_id AND n.path = %(next)s AND n.state = 'ready') AS next_ready
FROM steps s JOIN runs r ON r.id = s.run_id
WHERE s.run_id = %(run)s AND s.path = %(path)s
"""

SELECT_RESULTS: LiteralString = """
SELECT c.path, c.state, c.error::text AS error,
       CASE WHEN c.output_ref LIKE 'all:%%' THEN NULL
            WHEN c.output_ref LIKE 'in:%%' THEN src.input::text
            ELSE coalesce(c.output, src.output)::text END AS output,
       c.output_ref
FROM steps c
LEFT JOIN steps src ON src.run_id = c.run_id AND src.path = substr(c.output_ref, strpos(c.output_ref, ':') + 1)
WHERE c.run_id = %(run)s AND c.parent = %(parent)s AND c.ordinal >= 0
ORDER BY c.ordinal
"""

# --- record -----------------------------------------------------------------------------------------------

# The fence: only the holder of the current attempt of a running step of a live run is heard.
ACCEPT: LiteralString = """
WITH given AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[], %(states)s::text[],
                         %(outputs)s::text[], %(errors)s::text[], %(usages)s::text[], %(retry_ins)s::float8[])
         AS g(run_id, path, attempt, state, output, error, usage, retry_in)
), accepted AS (
    UPDATE steps s
    SET state = CASE WHEN g.retry_in IS NULL THEN g.state ELSE 'ready' END,
        output = g.output::jsonb, error = g.error::jsonb, usage = g.usage::jsonb,
        finished_at = CASE WHEN g.retry_in IS NULL THEN clock_timestamp() END,
        due_at = clock_timestamp() + make_interval(secs => g.retry_in),
        retries = s.retries + (g.retry_in IS NOT NULL)::int
    FROM given g, runs r
    WHERE s.run_id = g.run_id AND s.path = g.path AND s.attempt = g.attempt AND s.state || '' = 'running'
      AND r.id = g.run_id AND r.state IN ('queued', 'running')
    RETURNING s.run_id, s.path, s.attempt, s.worker_id, s.started_at, g.state, g.error, g.usage, g.retry_in,
              r.definition_id, r.priority
), tried AS (
    INSERT INTO attempts (run_id, path, attempt, worker_id, state, error, usage, started_at)
    SELECT run_id, path, attempt, worker_id, state, error::jsonb, usage::jsonb, started_at FROM accepted
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, CASE WHEN retry_in IS NULL THEN 'step.' || state ELSE 'step.retrying' END, path,
           jsonb_strip_nulls(jsonb_build_object('attempt', attempt, 'error', error::jsonb -> 'message',
                                                'retry_in', retry_in, 'usage', usage::jsonb))
    FROM accepted
)
SELECT run_id, path, attempt, definition_id, priority FROM accepted
"""

CLOSE_STEPS: LiteralString = """
WITH closed AS (
    UPDATE steps s
    SET state = g.state, output_ref = g.output_ref, error = g.error::jsonb, finished_at = clock_timestamp(),
        due_at = NULL
    FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(states)s::text[], %(output_refs)s::text[],
                %(errors)s::text[]) AS g(run_id, path, state, output_ref, error)
    WHERE s.run_id = g.run_id AND s.path = g.path AND s.state || '' = 'open'
    RETURNING s.run_id, s.path, s.state, g.error
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, 'step.' || state, path,
           jsonb_strip_nulls(jsonb_build_object('error', error::jsonb -> 'message'))
    FROM closed
)
SELECT run_id, path FROM closed
"""

# Children of a fan-out: is any left, and how did the others end? `left` stops at the first one found.
SELECT_LEFT: LiteralString = """
SELECT j.run_id, j.parent,
       EXISTS (SELECT FROM steps c WHERE c.run_id = j.run_id AND c.parent = j.parent
               AND c.state IN ('pending', 'ready', 'running', 'open')) AS is_left
FROM unnest(%(runs)s::uuid[], %(parents)s::text[]) AS j(run_id, parent)
"""

TALLY: LiteralString = """
SELECT count(*) AS branches, count(*) FILTER (WHERE state = 'done') AS done,
       (array_agg(error::text ORDER BY ordinal) FILTER (WHERE state <> 'done'))[1] AS error,
       (array_agg(path ORDER BY ordinal) FILTER (WHERE state <> 'done'))[1] AS failed
FROM steps WHERE run_id = %(run)s AND parent = %(parent)s AND ordinal >= 0
"""

ARM_DEADLINE: LiteralString = """
UPDATE steps SET due_at = clock_timestamp() + make_interval(secs => %(within)s)
WHERE run_id = %(run)s AND path = %(path)s AND state = 'open'
"""

SETTLE_DEADLINE: LiteralString = """
UPDATE steps SET due_at = NULL WHERE run_id = %(run)s AND path = %(path)s AND due_at IS NOT NULL
"""

END_RUNS: LiteralString = """
WITH ended AS (
    UPDATE runs r
    SET state = g.state, output_ref = g.output_ref, error = g.error::jsonb, finished_at = clock_timestamp(),
        due_at = NULL,
        degraded = degraded OR EXISTS (
            SELECT FROM steps s WHERE s.run_id = r.id AND s.ordinal >= 0 AND s.state IN ('failed', 'skipped'))
    FROM unnest(%(runs)s::uuid[], %(states)s::text[], %(output_refs)s::text[], %(errors)s::text[])
         AS g(run_id, state, output_ref, error)
    WHERE r.id = g.run_id AND r.state IN ('queued', 'running')
    RETURNING r.id, r.state, g.error
)
INSERT INTO events (run_id, kind, data)
SELECT id, 'run.' || state, jsonb_strip_nulls(jsonb_build_object('error', error::jsonb -> 'message')) FROM ended
"""

# --- control ----------------------------------------------------------------------------------------------

CANCEL_STEPS: LiteralString = """
UPDATE steps SET state = 'cancelled', finished_at = clock_timestamp(), due_at = NULL
WHERE run_id = %(run)s AND state IN ('pending', 'ready', 'running', 'open')
"""

CANCEL_RUN: LiteralString = """
WITH cancelled AS (
    UPDATE runs
    SET state = 'cancelled', finished_at = clock_timestamp(), due_at = NULL,
        error = jsonb_build_object('type', 'Cancelled', 'message', %(reason)s::text, 'retryable', false)
    WHERE id = %(run)s AND state IN ('queued', 'running', 'failed')
    RETURNING id
)
INSERT INTO events (run_id, kind, data)
SELECT id, 'run.cancelled', jsonb_build_object('reason', %(reason)s::text, 'steps', %(steps)s::int) FROM cancelled
RETURNING run_id
"""

SELECT_RUN_STATE: LiteralString = """
SELECT state, definition_id, priority, due_at <= clock_timestamp() AS is_due FROM runs WHERE id = %(run)s
"""

SELECT_UNDONE: LiteralString = """
SELECT path, parent, state, input_ref,
       EXISTS (SELECT FROM steps c WHERE c.run_id = s.run_id AND c.parent = s.path) AS has_children
FROM steps s WHERE run_id = %(run)s AND state <> 'done' ORDER BY parent, ordinal
"""

REOPEN_STEPS: LiteralString = """
UPDATE steps s
SET state = g.state, error = NULL, finished_at = NULL, ready_at = clock_timestamp(), retries = 0,
    due_at = clock_timestamp() + make_interval(secs => g.due)
FROM unnest(%(paths)s::text[], %(states)s::text[], %(dues)s::float8[]) AS g(path, state, due)
WHERE s.run_id = %(run)s AND s.path = g.path AND s.state IN ('failed', 'skipped')
"""

RESUME_RUN: LiteralString = """
WITH resumed AS (
    UPDATE runs SET state = 'running', finished_at = NULL, error = NULL, degraded = false,
                    due_at = clock_timestamp() + make_interval(secs => %(timeout)s::float8)
    WHERE id = %(run)s AND state = 'failed' RETURNING id
)
INSERT INTO events (run_id, kind) SELECT id, 'run.resumed' FROM resumed
"""

SELECT_DUE_RUNS: LiteralString = """
SELECT id FROM runs WHERE due_at <= clock_timestamp() AND state IN ('queued', 'running') LIMIT %(most)s
"""

SELECT_DUE_COMPOSITES: LiteralString = """
SELECT run_id, path FROM steps WHERE due_at <= clock_timestamp() AND state = 'open' LIMIT %(most)s
"""

IS_DUE: LiteralString = """
SELECT FROM steps WHERE run_id = %(run)s AND path = %(path)s AND due_at <= clock_timestamp() AND state = 'open'
"""

# Fan-outs whose last branch committed while nobody was left to see it: its worker died before it looked again.
SELECT_FORGOTTEN_JOINS: LiteralString = """
SELECT s.run_id, s.path FROM steps s JOIN runs r ON r.id = s.run_id AND r.state IN ('queued', 'running')
WHERE s.state = 'open' AND s.kind IN ('fan_out', 'each')
  AND NOT EXISTS (SELECT FROM steps c WHERE c.run_id = s.run_id AND c.parent = s.path
                  AND c.state IN ('pending', 'ready', 'running', 'open'))
LIMIT %(most)s
"""

SKIP_UNFINISHED: LiteralString = """
WITH late AS (
    UPDATE steps
    SET state = 'skipped', finished_at = clock_timestamp(), due_at = NULL, error = %(error)s::jsonb
    WHERE run_id = %(run)s AND (%(path)s = '' OR starts_with(path, %(path)s || '/'))
      AND state IN ('pending', 'ready', 'running', 'open')
    RETURNING run_id, path
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.skipped', path, jsonb_build_object('error', %(error)s::jsonb -> 'message') FROM late
"""

# --- recovery ---------------------------------------------------------------------------------------------

BURY_WORKERS: LiteralString = """
UPDATE workers SET stopped_at = clock_timestamp()
WHERE id IN (SELECT id FROM workers WHERE stopped_at IS NULL AND lease_until < clock_timestamp()
             AND id IS DISTINCT FROM %(self)s::uuid FOR UPDATE SKIP LOCKED)
RETURNING id, name, queues, held
"""

RELEASE_HELD: LiteralString = """
WITH freed AS (
    UPDATE steps s SET state = 'ready', losses = losses + 1, ready_at = clock_timestamp()
    FROM (
        SELECT h.run_id, h.path FROM steps h LEFT JOIN workers w ON w.id = h.worker_id
        WHERE h.state = 'running' AND (w.id IS NULL OR w.stopped_at IS NOT NULL)
        LIMIT %(most)s FOR UPDATE OF h SKIP LOCKED
    ) lost
    WHERE s.run_id = lost.run_id AND s.path = lost.path AND s.state = 'running'
    RETURNING s.run_id, s.path, s.attempt, s.worker_id, s.started_at
), tried AS (
    INSERT INTO attempts (run_id, path, attempt, worker_id, state, started_at)
    SELECT run_id, path, attempt, worker_id, 'lost', started_at FROM freed ON CONFLICT DO NOTHING
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.lost', path, jsonb_build_object('attempt', attempt) FROM freed
RETURNING run_id, path
"""

RELEASE_ATTEMPT: LiteralString = """
WITH freed AS (
    UPDATE steps SET state = 'ready', losses = losses + 1, ready_at = clock_timestamp()
    WHERE run_id = %(run)s AND path = %(path)s AND state = 'running' AND worker_id = %(worker)s
      AND (%(attempt)s::int IS NULL OR attempt = %(attempt)s)
    RETURNING run_id, path, attempt, worker_id, started_at
), tried AS (
    INSERT INTO attempts (run_id, path, attempt, worker_id, state, started_at)
    SELECT run_id, path, attempt, worker_id, 'lost', started_at FROM freed ON CONFLICT DO NOTHING
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, 'step.lost', path, jsonb_build_object('attempt', attempt) FROM freed
RETURNING run_id, path
"""

SELECT_HELD: LiteralString = """
SELECT attempt, retries FROM steps
WHERE run_id = %(run)s AND path = %(path)s AND state = 'running' AND worker_id = %(worker)s
"""

INSERT_DEAD_LETTER: LiteralString = """
INSERT INTO dead_letters (queue, reason, message) VALUES (%(queue)s, %(reason)s, %(message)s::jsonb)
"""

# Queues with a step that has been ready for a while although their workers have room.
SELECT_IDLE_QUEUES: LiteralString = """
WITH room AS (
    SELECT q.queue FROM workers w, unnest(w.queues) AS q(queue)
    WHERE w.stopped_at IS NULL AND w.lease_until > clock_timestamp()
    GROUP BY q.queue HAVING sum(w.concurrency) > sum(w.held)
)
SELECT queue FROM room
WHERE EXISTS (SELECT FROM steps s WHERE s.state = 'ready' AND 'agent.' || s.agent = queue
              AND s.ready_at < clock_timestamp() - make_interval(secs => %(patience)s))
"""

# Moving `ready_at` makes the next look wait, so that nothing is sent again and again.
TAKE_STRANDED: LiteralString = """
WITH lost AS (
    SELECT c.run_id, c.path
    FROM steps c JOIN runs r ON r.id = c.run_id AND r.state IN ('queued', 'running')
    WHERE c.state = 'ready' AND 'agent.' || c.agent = ANY (%(queues)s::text[])
      AND coalesce(c.due_at, c.ready_at) < clock_timestamp() - make_interval(secs => %(patience)s)
      AND c.ready_at < clock_timestamp() - make_interval(secs => %(patience)s)
    ORDER BY c.ready_at LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp(), due_at = NULL
FROM lost WHERE s.run_id = lost.run_id AND s.path = lost.path
RETURNING s.run_id, s.path
"""

# Delayed starts that have become due: their messages were never sent.
TAKE_DUE: LiteralString = """
WITH due AS (
    SELECT c.run_id, c.path
    FROM steps c JOIN runs r ON r.id = c.run_id AND r.state IN ('queued', 'running')
    WHERE c.state = 'ready' AND c.attempt = 0 AND c.due_at <= clock_timestamp()
    ORDER BY c.due_at LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp(), due_at = NULL
FROM due WHERE s.run_id = due.run_id AND s.path = due.path
RETURNING s.run_id, s.path
"""

# Everything that was ready before the broker lost its memory, oldest first.
TAKE_ALL_READY: LiteralString = """
WITH lost AS (
    SELECT c.run_id, c.path
    FROM steps c JOIN runs r ON r.id = c.run_id AND r.state IN ('queued', 'running')
    WHERE c.state = 'ready' AND c.ready_at < %(before)s AND (c.due_at IS NULL OR c.attempt > 0)
    ORDER BY c.ready_at LIMIT %(most)s FOR UPDATE OF c SKIP LOCKED
)
UPDATE steps s SET ready_at = clock_timestamp(), due_at = NULL
FROM lost WHERE s.run_id = lost.run_id AND s.path = lost.path
RETURNING s.run_id, s.path
"""

SELECT_NOW: LiteralString = "SELECT clock_timestamp()"

# Steps that a living worker holds in its name but does not run: its claim was committed, and it never heard.
SELECT_HELD_STEPS: LiteralString = """
SELECT run_id, path, attempt FROM steps WHERE worker_id = %(worker)s AND state = 'running'
"""

# --- workers ----------------------------------------------------------------------------------------------

BEAT: LiteralString = """
INSERT INTO workers (id, name, queues, concurrency, pool, held, lease_until)
VALUES (%(id)s, %(name)s, %(queues)s, %(concurrency)s, %(pool)s, %(held)s,
        clock_timestamp() + make_interval(secs => %(lease)s))
ON CONFLICT (id) DO UPDATE
SET seen_at = clock_timestamp(), lease_until = excluded.lease_until, stopped_at = NULL,
    queues = excluded.queues, concurrency = excluded.concurrency, held = excluded.held
"""

STOP_WORKER: LiteralString = "UPDATE workers SET stopped_at = clock_timestamp() WHERE id = %(id)s"

# Which of the attempts that a worker runs are no longer its own?
SELECT_LOST_ATTEMPTS: LiteralString = """
SELECT g.run_id, g.path, g.attempt
FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[]) AS g(run_id, path, attempt)
LEFT JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
WHERE s.state IS DISTINCT FROM 'running' OR s.attempt <> g.attempt
"""
