"""Waits: how they begin, how they end, and what becomes due meanwhile. Batches come as arrays.

An open wait and its step stand and fall together: the step is `waiting` if and only if it has a wait that nobody has
settled. Whoever settles a wait holds its run (shared), moves its row first, and so is the only one.
"""

from __future__ import annotations

from typing import LiteralString

# The step's clock runs to whatever comes first; it stands still while the run is paused. A run that waits has started.
INSERT_WAITS: LiteralString = """
WITH given AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(kinds)s::text[], %(keys)s::text[],
                         %(requests)s::text[], %(audiences)s::text[], %(escalate_tos)s::text[],
                         %(escalate_afters)s::float8[], %(expires)s::float8[], %(expiries)s::text[],
                         %(told)s::text[], %(helds)s::bool[])
         AS g(run_id, path, kind, key, request, audience, escalate_to, escalate_after, expires, expiry, told, held)
), moved AS (
    UPDATE steps s
    SET state = 'waiting',
        due_at = CASE WHEN NOT g.held
                 THEN clock_timestamp() + make_interval(secs => least(g.escalate_after, g.expires)) END,
        time_left = CASE WHEN g.held THEN make_interval(secs => least(g.escalate_after, g.expires)) END
    FROM given g
    WHERE s.run_id = g.run_id AND s.path = g.path AND s.state || '' IN ('open', 'waiting')
    RETURNING g.*
), asked AS (
    INSERT INTO waits (run_id, path, kind, key, request, audience, escalate_to, escalate_after, expires, expiry)
    SELECT run_id, path, kind, key, request::jsonb, ARRAY(SELECT jsonb_array_elements_text(audience::jsonb)),
           ARRAY(SELECT jsonb_array_elements_text(escalate_to::jsonb)), escalate_after, expires, expiry::jsonb
    FROM moved
    RETURNING id, run_id, path
), announced AS (
    INSERT INTO notices (kind, run_id, path, body)
    SELECT m.kind || '.asked', m.run_id, m.path,
           (m.told::jsonb - 'shown' - 'usage' - 'attempt') || jsonb_strip_nulls(jsonb_build_object(
               'wait', a.id, 'name', m.key, 'audience', m.audience::jsonb, 'expires', m.expires))
    FROM moved m JOIN asked a USING (run_id, path) WHERE m.kind IN ('approval', 'question')
), started AS (
    UPDATE runs SET state = 'running', started_at = clock_timestamp()
    WHERE state = 'queued' AND id IN (SELECT run_id FROM moved WHERE kind <> 'delay')
    RETURNING id
)
INSERT INTO events (run_id, kind, path, data)
SELECT run_id, kind, path, data FROM (
    SELECT 1 AS n, id AS run_id, 'run.started' AS kind, '' AS path, '{}'::jsonb AS data FROM started
    UNION ALL
    SELECT 2, m.run_id, 'step.waiting', m.path,
           m.told::jsonb || jsonb_strip_nulls(jsonb_build_object(
               'wait', a.id, 'kind', m.kind, 'key', m.key, 'audience', nullif(m.audience::jsonb, '[]'),
               'due_in', least(m.escalate_after, m.expires), 'held', nullif(m.held, false)))
    FROM moved m JOIN asked a USING (run_id, path)
) AS e
ORDER BY n
"""

SELECT_RUNS_OF_WAITS: LiteralString = "SELECT DISTINCT run_id FROM waits WHERE id = ANY (%(ids)s::bigint[])"

# What an agent had asked goes into its journal, where its next attempt finds it.
SETTLE_WAITS: LiteralString = """
WITH given AS (
    SELECT * FROM unnest(%(ids)s::bigint[], %(decisions)s::text[], %(bys)s::text[], %(reasons)s::text[],
                         %(states)s::text[], %(outputs)s::text[], %(errors)s::text[], %(told)s::text[])
         AS g(id, decision, by, reason, state, output, error, told)
), settled AS (
    UPDATE waits w
    SET settled_at = clock_timestamp(), decision = g.decision, settled_by = g.by, reason = g.reason,
        answer = g.output::jsonb
    FROM given g WHERE w.id = g.id AND w.settled_at IS NULL
    RETURNING w.id, w.run_id, w.path, w.kind, w.key, w.request, g.decision, g.by, g.reason, g.state, g.output,
              g.error, g.told
), moved AS (
    UPDATE steps s
    SET state = g.state, due_at = NULL, time_left = NULL, error = g.error::jsonb,
        output = CASE g.state WHEN 'done' THEN g.output::jsonb END,
        output_ref = CASE WHEN g.state = 'done' AND g.output IS NULL THEN coalesce(s.input_ref, 'in:' || s.path) END,
        finished_at = CASE WHEN g.state IN ('done', 'failed') THEN clock_timestamp() END,
        ready_at = CASE WHEN g.state = 'ready' AND g.paused THEN NULL ELSE clock_timestamp() END
    FROM (
        SELECT settled.*, r.definition_id, r.priority, r.state = 'paused' AS paused
        FROM settled JOIN runs r ON r.id = settled.run_id OFFSET 0
    ) g
    WHERE s.run_id = g.run_id AND s.path = g.path AND s.state || '' = 'waiting'
    RETURNING g.*, s.parent, s.agent, s.attempt, coalesce(s.output_ref, 'out:' || s.path) AS ref,
              coalesce(s.input_ref, 'in:' || s.path) AS given_ref
), kept AS (
    INSERT INTO journal (run_id, path, position, name, value, attempt)
    SELECT run_id, path, (request ->> 'position')::int, request ->> 'name', output::jsonb, attempt
    FROM moved WHERE state = 'ready'
), announced AS (
    INSERT INTO notices (kind, run_id, path, body)
    SELECT kind || '.settled', run_id, path,
           jsonb_build_object('wait', id, 'name', key, 'decision', decision, 'by', by, 'reason', reason)
    FROM settled WHERE kind IN ('approval', 'question')
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT m.run_id, e.kind, e.path, e.data
    FROM moved m CROSS JOIN LATERAL (
        SELECT 1 AS n, 'step.decided' AS kind, m.path,
               jsonb_strip_nulls(jsonb_build_object('wait', m.id, 'digest', m.request -> 'digest',
                                                    'question', m.request -> 'question')) || m.told::jsonb AS data
        WHERE m.told IS NOT NULL
        UNION ALL
        SELECT 2, 'step.opened', m.parent, jsonb_build_object('steps', jsonb_build_object(m.path, m.state))
        WHERE m.state = 'open'
        UNION ALL
        SELECT 2, CASE m.state WHEN 'ready' THEN 'step.answered' ELSE 'step.' || m.state END, m.path,
               jsonb_strip_nulls(jsonb_build_object('error', m.error::jsonb -> 'message',
                                                    'error_type', m.error::jsonb -> 'type'))
        WHERE m.state <> 'open'
    ) AS e
    ORDER BY m.id, e.n
)
SELECT id, run_id, path, state, ref, given_ref, error, agent, definition_id, priority, paused FROM moved
"""

# Without a lock, as far as anyone knows: escalations and expiries that have come.
SELECT_DUE_WAITS: LiteralString = """
SELECT w.id, w.run_id
FROM steps s JOIN runs r ON r.id = s.run_id AND r.state IN ('queued', 'running')
JOIN waits w ON w.run_id = s.run_id AND w.path = s.path AND w.settled_at IS NULL
WHERE s.due_at <= statement_timestamp() AND s.state || '' = 'waiting' ORDER BY s.due_at LIMIT %(most)s
"""

# Now that their runs are held, so that nobody pauses them: those that have come still. Whoever escalates one moves
# its clock on to its end.
TAKE_DUE_WAITS: LiteralString = """
WITH due AS (
    SELECT w.id, w.run_id, w.path, w.kind, w.expiry, w.escalate_to, w.key, w.expires - w.escalate_after AS left_then,
           w.escalate_after < w.expires IS NOT false AND w.escalate_after IS NOT NULL
           AND w.escalated_at IS NULL AS escalates
    FROM waits w JOIN steps s ON s.run_id = w.run_id AND s.path = w.path AND s.state || '' = 'waiting'
    JOIN runs r ON r.id = w.run_id AND r.state IN ('queued', 'running')
    WHERE w.id = ANY (%(ids)s::bigint[]) AND w.settled_at IS NULL AND s.due_at <= statement_timestamp()
    ORDER BY w.id FOR UPDATE OF w SKIP LOCKED
), escalated AS (
    UPDATE waits w
    SET escalated_at = clock_timestamp(),
        audience = CASE WHEN w.audience = '{}' THEN w.audience ELSE w.audience || w.escalate_to END
    FROM due WHERE w.id = due.id AND due.escalates
), clocks AS (
    UPDATE steps s SET due_at = s.due_at + make_interval(secs => due.left_then)
    FROM due WHERE s.run_id = due.run_id AND s.path = due.path AND due.escalates
), announced AS (
    INSERT INTO notices (kind, run_id, path, body)
    SELECT kind || '.escalated', run_id, path,
           jsonb_strip_nulls(jsonb_build_object('wait', id, 'name', key, 'audience', escalate_to,
                                                'expires', left_then))
    FROM due WHERE escalates
), noted AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, 'step.escalated', path,
           jsonb_strip_nulls(jsonb_build_object('wait', id, 'audience', escalate_to, 'due_in', left_then))
    FROM due WHERE escalates
)
SELECT id, expiry::text FROM due WHERE NOT escalates AND expiry IS NOT NULL
"""

# When it ends by itself: the step's clock, and what comes after the escalation that it may run to.
_WAIT_COLUMNS: LiteralString = """
w.id, w.run_id, w.path, r.workflow, w.kind, w.key, w.request, w.audience, w.asked_at, w.escalated_at,
CASE WHEN w.expires IS NOT NULL THEN s.due_at + make_interval(secs => CASE
    WHEN w.escalated_at IS NULL AND w.escalate_after < w.expires THEN w.expires - w.escalate_after ELSE 0 END) END
    AS expires_at,
w.settled_at, w.settled_by, w.decision, w.reason,
CASE w.kind WHEN 'question' THEN w.answer -> 'answer' ELSE w.answer END AS answer
"""

_WAITS: LiteralString = """
FROM waits w JOIN runs r ON r.id = w.run_id
LEFT JOIN steps s ON s.run_id = w.run_id AND s.path = w.path AND w.settled_at IS NULL
"""

# What people may decide: the other kinds end without them.
SELECT_WAITS: LiteralString = (
    "SELECT "
    + _WAIT_COLUMNS
    + _WAITS
    + """
WHERE w.kind IN ('approval', 'question') AND (%(all)s::bool OR w.settled_at IS NULL)
  AND (%(run)s::uuid IS NULL OR w.run_id = %(run)s)
  AND (%(person)s::text IS NULL OR w.audience = '{}' OR %(person)s = ANY (w.audience))
ORDER BY w.id DESC LIMIT %(limit)s
"""
)

SELECT_WAIT: LiteralString = (
    "SELECT "
    + _WAIT_COLUMNS
    + ", r.definition_id, coalesce(p.input_ref, 'in:' || p.path) AS ref"
    + _WAITS
    + "JOIN steps p ON p.run_id = w.run_id AND p.path = w.path WHERE w.id = %(id)s"
)

SELECT_ASKED: LiteralString = """
SELECT id, path, kind, key, audience FROM waits
WHERE run_id = %(run)s AND settled_at IS NULL AND kind IN ('approval', 'question', 'event') ORDER BY id
"""
