"""From an event to what it starts. Rows are taken with SKIP LOCKED, so any number of copies may work at it.

An event is spread once, in one statement; each of its deliveries is then judged by itself, so that what is wrong with
one subscription is no concern of the others. Gates are always locked in the order of their keys.
"""

from __future__ import annotations

from typing import LiteralString

SPREAD: LiteralString = """
WITH fresh AS (
    SELECT number, tenant, type, key FROM incoming_events
    WHERE spread_at IS NULL ORDER BY number LIMIT %(most)s FOR UPDATE SKIP LOCKED
), spread AS (
    UPDATE incoming_events e SET spread_at = clock_timestamp() FROM fresh f WHERE e.number = f.number
), delivered AS (
    INSERT INTO deliveries (event, subscription, version, tenant, state)
    SELECT f.number, s.name, s.version, f.tenant, 'new'
    FROM fresh f
    JOIN subscriptions s ON s.replaced_at IS NULL AND s.enabled
         AND (s.type = f.type OR (s.type LIKE '%%.*' AND starts_with(f.type, left(s.type, -1))))
), awaited AS (
    INSERT INTO wakes (event, wait)
    SELECT f.number, w.id
    FROM fresh f
    JOIN waits w ON w.kind = 'event' AND w.key IN (f.type, f.type || ' ' || f.key) AND w.settled_at IS NULL
    JOIN runs r ON r.id = w.run_id AND r.tenant = f.tenant
)
SELECT count(*) FROM fresh
"""

SELECT_WANTED: LiteralString = """
SELECT s.name, s.version, s.body::text, s.definition_id
FROM subscriptions s
WHERE EXISTS (SELECT FROM deliveries d WHERE d.subscription = s.name AND d.version = s.version AND d.state = 'new')
ORDER BY s.name
"""

TAKE_DELIVERIES: LiteralString = """
WITH taken AS (
    SELECT event FROM deliveries
    WHERE subscription = %(name)s AND version = %(version)s AND state = 'new'
    ORDER BY event LIMIT %(most)s FOR UPDATE SKIP LOCKED
)
SELECT e.number, e.tenant, e.id, e.type, e.key, e.payload::text
FROM taken t JOIN incoming_events e ON e.number = t.event
ORDER BY e.number
"""

# Those whose condition does not hold.
DELETE_UNCONCERNED: LiteralString = """
DELETE FROM deliveries WHERE subscription = %(name)s AND event = ANY (%(events)s::bigint[])
"""

SETTLE_DELIVERIES: LiteralString = """
UPDATE deliveries d
SET state = g.state, key = coalesce(g.key, d.key), run_id = g.run_id, reason = g.reason, at = clock_timestamp()
FROM unnest(%(events)s::bigint[], %(states)s::text[], %(keys)s::text[], %(runs)s::uuid[], %(reasons)s::text[])
     AS g(event, state, key, run_id, reason)
WHERE d.subscription = %(name)s AND d.event = g.event
"""

LOCK_GATES: LiteralString = """
INSERT INTO event_gates AS g (subscription, tenant, key)
SELECT %(name)s, k.tenant, k.key FROM unnest(%(tenants)s::text[], %(keys)s::text[]) AS k(tenant, key)
ORDER BY k.tenant, k.key
ON CONFLICT (subscription, tenant, key) DO UPDATE SET held = g.held
RETURNING g.tenant, g.key, g.held, extract(epoch FROM g.opened_at)::float8, extract(epoch FROM g.due_at)::float8,
          extract(epoch FROM g.shut_until)::float8, extract(epoch FROM clock_timestamp())::float8
"""

MOVE_GATES: LiteralString = """
UPDATE event_gates g
SET held = m.held, opened_at = to_timestamp(m.opened_at), due_at = to_timestamp(m.due_at),
    shut_until = to_timestamp(m.shut_until)
FROM unnest(%(tenants)s::text[], %(keys)s::text[], %(helds)s::int[], %(opened_ats)s::float8[], %(due_ats)s::float8[],
            %(shut_untils)s::float8[]) AS m(tenant, key, held, opened_at, due_at, shut_until)
WHERE g.subscription = %(name)s AND g.tenant = m.tenant AND g.key = m.key
"""

# The version that the latest of what is held back was judged by also starts the run.
SELECT_DUE_GATES: LiteralString = """
SELECT g.subscription, g.tenant, g.key, s.version, s.body::text, s.definition_id
FROM event_gates g
CROSS JOIN LATERAL (
    SELECT version FROM deliveries d
    WHERE d.subscription = g.subscription AND d.tenant = g.tenant AND d.key = g.key AND d.state = 'held'
    ORDER BY event DESC LIMIT 1
) latest
JOIN subscriptions s ON s.name = g.subscription AND s.version = latest.version
WHERE g.due_at <= statement_timestamp()
ORDER BY g.due_at LIMIT %(most)s
"""

TAKE_DUE_GATE: LiteralString = """
SELECT extract(epoch FROM clock_timestamp())::float8 FROM event_gates
WHERE subscription = %(name)s AND tenant = %(tenant)s AND key = %(key)s AND due_at <= statement_timestamp()
FOR UPDATE SKIP LOCKED
"""

SELECT_HELD: LiteralString = """
SELECT e.number, e.tenant, e.id, e.type, e.key, e.payload::text
FROM deliveries d JOIN incoming_events e ON e.number = d.event
WHERE d.subscription = %(name)s AND d.tenant = %(tenant)s AND d.key = %(key)s AND d.state = 'held'
ORDER BY e.number
"""

OPEN_GATE: LiteralString = """
UPDATE event_gates
SET held = 0, opened_at = NULL, due_at = NULL, shut_until = clock_timestamp() + make_interval(secs => %(throttle)s)
WHERE subscription = %(name)s AND tenant = %(tenant)s AND key = %(key)s
"""
