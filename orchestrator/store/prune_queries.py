"""What is removed because it ended long ago. Everything of a run goes in one transaction with the run itself.

Runs are found in the order of their creation, from where the batch before ended: what is kept is passed once. Before
a run is touched its locks are tried, never waited for (see `lock_queries`): one that somebody resumes, forks, cancels
or reads just now is left for the next time.
"""

from __future__ import annotations

from typing import LiteralString

SELECT_CUTOFF: LiteralString = "SELECT clock_timestamp() - make_interval(secs => %(older_than)s::float8)"

# A statement that meets a lock gives up after a moment, so nobody queues behind it for long.
LIMIT_WAITING: LiteralString = "SELECT set_config('lock_timeout', %(milliseconds)s, false)"

_OLD_RUNS: LiteralString = """
created_at < %(cutoff)s AND finished_at < %(cutoff)s AND state = ANY (%(states)s::text[])
AND (%(workflow)s::text IS NULL OR workflow = %(workflow)s) AND (%(tenant)s::text IS NULL OR tenant = %(tenant)s)
-- A run that is resumed goes on with those it had started.
AND NOT EXISTS (SELECT FROM runs p WHERE p.id = runs.parent_run AND runs.awaited
                AND (p.finished_at IS NULL OR p.finished_at >= %(cutoff)s))
"""

SELECT_OLD_RUNS: LiteralString = (
    "SELECT id, created_at FROM runs WHERE (created_at, id) > (%(after)s, %(after_id)s::uuid) AND "
    + _OLD_RUNS
    + "ORDER BY created_at, id LIMIT %(most)s"
)

TRY_RUNS: LiteralString = """
SELECT g.id FROM unnest(%(runs)s::uuid[], %(keys)s::int[]) AS g(id, key)
WHERE pg_try_advisory_xact_lock(7001, g.key) AND pg_try_advisory_xact_lock(7003, hashtext(g.id::text))
"""

TAKE_RUNS: LiteralString = (
    "SELECT id FROM runs WHERE id = ANY (%(runs)s::uuid[]) AND " + _OLD_RUNS + "FOR UPDATE SKIP LOCKED"
)

# The task that submitted a run without a key of its own has its result under that id.
DELETE_RESULTS: LiteralString = """
DELETE FROM results WHERE id IN (
    SELECT substr(key, 6) FROM idempotency_keys WHERE run_id = ANY (%(runs)s::uuid[]) AND starts_with(key, 'task:')
)
"""

DELETE_KEYS: LiteralString = "DELETE FROM idempotency_keys WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_DEAD_LETTERS: LiteralString = "DELETE FROM dead_letters WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_WAITS: LiteralString = """
WITH gone AS (DELETE FROM waits WHERE run_id = ANY (%(runs)s::uuid[]) RETURNING id)
DELETE FROM wakes WHERE wait IN (SELECT id FROM gone)
"""

DELETE_JOURNAL: LiteralString = "DELETE FROM journal WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_PERMITS: LiteralString = "DELETE FROM permits WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_TOOL_CALLS: LiteralString = "DELETE FROM tool_calls WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_TOOL_FENCES: LiteralString = "DELETE FROM tool_fences WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_NOTICES: LiteralString = "DELETE FROM notices WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_SPENDINGS: LiteralString = "DELETE FROM spendings WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_RESERVATIONS: LiteralString = "DELETE FROM reservations WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_WARNINGS: LiteralString = """
DELETE FROM budget_warnings WHERE account = ANY (SELECT 'run:' || id FROM unnest(%(runs)s::uuid[]) AS g(id))
"""

DELETE_STATES: LiteralString = "DELETE FROM states WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_STATE_WRITES: LiteralString = "DELETE FROM state_writes WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_EVENTS: LiteralString = "DELETE FROM events WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_ATTEMPTS: LiteralString = "DELETE FROM attempts WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_STEPS: LiteralString = "DELETE FROM steps WHERE run_id = ANY (%(runs)s::uuid[])"

DELETE_RUNS: LiteralString = "DELETE FROM runs WHERE id = ANY (%(runs)s::uuid[])"

# The newest definition of a name is what the name stands for.
SELECT_OLD_DEFINITIONS: LiteralString = """
SELECT d.id FROM definitions d
WHERE d.created_at < %(cutoff)s
  AND EXISTS (SELECT FROM definitions n WHERE n.name = d.name AND n.created_at > d.created_at)
  AND NOT EXISTS (SELECT FROM runs r WHERE r.definition_id = d.id)
  AND NOT EXISTS (SELECT FROM schedules s WHERE s.definition_id = d.id)
  AND NOT EXISTS (SELECT FROM subscriptions s WHERE s.definition_id = d.id)
"""

# Whoever submits holds the definition shared until the run is committed.
TRY_DEFINITIONS: LiteralString = """
SELECT g.id FROM unnest(%(definitions)s::text[], %(keys)s::int[]) AS g(id, key)
WHERE pg_try_advisory_xact_lock(7006, g.key)
"""

DELETE_DEFINITIONS: LiteralString = """
DELETE FROM definitions d
WHERE d.id = ANY (%(definitions)s::text[]) AND NOT EXISTS (SELECT FROM runs r WHERE r.definition_id = d.id)
  AND NOT EXISTS (SELECT FROM schedules s WHERE s.definition_id = d.id)
  AND NOT EXISTS (SELECT FROM subscriptions s WHERE s.definition_id = d.id)
"""

DELETE_WORKERS: LiteralString = """
DELETE FROM workers WHERE id IN (
    SELECT id FROM workers WHERE stopped_at < %(cutoff)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
"""

# Messages that somebody retried or dropped; what nobody has looked at stays.
DELETE_SETTLED_LETTERS: LiteralString = """
DELETE FROM dead_letters WHERE id IN (
    SELECT id FROM dead_letters WHERE settled_at < %(cutoff)s AND run_id IS NULL
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
"""

# Events that nobody has dealt with stay, and those that a run which has not ended may still look for.
_OLD_INCOMING: LiteralString = """
spread_at < %(cutoff)s
AND at < coalesce((SELECT min(created_at) FROM runs WHERE state IN ('queued', 'running', 'paused')), 'infinity')
AND NOT EXISTS (SELECT FROM deliveries d
                WHERE d.event = incoming_events.number AND d.state IN ('new', 'held', 'failed'))
"""

DELETE_INCOMING: LiteralString = (
    "DELETE FROM incoming_events WHERE number IN (SELECT number FROM incoming_events WHERE "
    + _OLD_INCOMING
    + "ORDER BY at LIMIT %(most)s FOR UPDATE SKIP LOCKED)"
)

# A gate that is open again, and holds nothing back.
DELETE_GATES: LiteralString = """
DELETE FROM event_gates WHERE (subscription, tenant, key) IN (
    SELECT subscription, tenant, key FROM event_gates
    WHERE held = 0 AND coalesce(shut_until, '-infinity') < %(cutoff)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
"""

# A rate under which nothing has started for long, and of which nothing runs.
DELETE_LIMITS: LiteralString = """
DELETE FROM limits WHERE key IN (
    SELECT key FROM limits l
    WHERE used_at < %(cutoff)s AND free_at < clock_timestamp()
      AND NOT EXISTS (SELECT FROM permits p WHERE p.key = l.key)
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
"""

DELETE_MEMORIES: LiteralString = """
DELETE FROM memories WHERE id IN (
    SELECT id FROM memories WHERE expires_at < clock_timestamp() LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
"""

# What runs share by a key; that of a run goes with it.
DELETE_KEY_STATES: LiteralString = """
DELETE FROM states WHERE ctid IN (
    SELECT ctid FROM states WHERE scope = 'key' AND written_at < %(untouched)s
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
) AND scope = 'key' AND written_at < %(untouched)s
"""

# Whoever adds a message meanwhile waits for this, and begins the conversation anew.
DELETE_SESSIONS: LiteralString = """
WITH gone AS (
    DELETE FROM sessions WHERE (tenant, key) IN (
        SELECT tenant, key FROM sessions WHERE touched_at < %(untouched)s LIMIT %(most)s FOR UPDATE SKIP LOCKED
    ) RETURNING tenant, key
), emptied AS (
    DELETE FROM session_messages m USING gone WHERE m.tenant = gone.tenant AND m.session = gone.key
)
SELECT FROM gone
"""

# Whoever writes a result takes some away that have expired; here go those of tools that nobody calls any longer.
DELETE_TOOL_CACHE: LiteralString = """
DELETE FROM tool_cache WHERE key IN (
    SELECT key FROM tool_cache WHERE expires_at < clock_timestamp() ORDER BY expires_at
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
"""

# Windows of budgets that closed long ago.
DELETE_WINDOWS: LiteralString = """
DELETE FROM budget_windows WHERE (account, opens_at, stripe) IN (
    SELECT account, opens_at, stripe FROM budget_windows
    WHERE opens_at < %(cutoff)s::timestamptz - interval '1 month' LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
"""

DELETE_OLD_WARNINGS: LiteralString = """
DELETE FROM budget_warnings WHERE (account, opens_at, level) IN (
    SELECT account, opens_at, level FROM budget_warnings
    WHERE opens_at > 'epoch' AND opens_at < %(cutoff)s::timestamptz - interval '1 month'
    LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
"""

# The tables of the result backend have no index on time: they are passed in the order of their keys.
SELECT_NEXT_RESULT: LiteralString = """
SELECT max(id) FROM (SELECT id FROM results WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS page
"""

DELETE_OLD_RESULTS: LiteralString = """
DELETE FROM results r
WHERE r.id > %(after)s AND r.id <= %(last)s AND r.stored_at < %(cutoff)s
  AND NOT EXISTS (SELECT FROM chord_parts p WHERE p.task_id = r.id)
"""

SELECT_NEXT_GROUP: LiteralString = """
SELECT max(id) FROM (SELECT id FROM result_groups WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS page
"""

DELETE_OLD_GROUPS: LiteralString = """
DELETE FROM result_groups g
WHERE g.id > %(after)s AND g.id <= %(last)s AND g.stored_at < %(cutoff)s
  AND NOT EXISTS (SELECT FROM chords c WHERE c.id = g.id AND c.done_at IS NULL)
"""

SELECT_NEXT_CHORD: LiteralString = """
SELECT max(id) FROM (SELECT id FROM chords WHERE id > %(after)s ORDER BY id LIMIT %(most)s) AS page
"""

DELETE_OLD_CHORDS: LiteralString = """
DELETE FROM chords WHERE id > %(after)s AND id <= %(last)s AND done_at < %(cutoff)s
"""

COUNT_RUNS: LiteralString = (
    "WITH old AS MATERIALIZED (SELECT id FROM runs WHERE "
    + _OLD_RUNS
    + """)
SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM steps WHERE run_id IN (SELECT id FROM old)),
       (SELECT count(*) FROM attempts WHERE run_id IN (SELECT id FROM old)),
       (SELECT count(*) FROM events WHERE run_id IN (SELECT id FROM old)),
       (SELECT count(*) FROM idempotency_keys WHERE run_id IN (SELECT id FROM old)),
       (SELECT count(*) FROM dead_letters WHERE run_id IN (SELECT id FROM old))
"""
)

COUNT_OTHERS: LiteralString = (
    """
SELECT (SELECT count(*) FROM workers WHERE stopped_at < %(cutoff)s),
       (SELECT count(*) FROM dead_letters WHERE settled_at < %(cutoff)s AND run_id IS NULL),
       (SELECT count(*) FROM incoming_events WHERE """
    + _OLD_INCOMING
    + ")"
)

COUNT_REMEMBERED: LiteralString = """
SELECT (SELECT count(*) FROM memories WHERE expires_at < clock_timestamp()),
       (SELECT count(*) FROM states WHERE scope = 'key' AND written_at < %(untouched)s),
       (SELECT count(*) FROM sessions WHERE touched_at < %(untouched)s)
"""

COUNT_RESULTS: LiteralString = """
SELECT (SELECT count(*) FROM results r WHERE stored_at < %(cutoff)s
        AND NOT EXISTS (SELECT FROM chord_parts p WHERE p.task_id = r.id))
     + (SELECT count(*) FROM result_groups g WHERE stored_at < %(cutoff)s
        AND NOT EXISTS (SELECT FROM chords c WHERE c.id = g.id AND c.done_at IS NULL))
     + (SELECT count(*) FROM chords WHERE done_at < %(cutoff)s)
"""
