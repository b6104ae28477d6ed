"""Which event a step waits for, and which waits an event may be for.

An event and a wait find each other whoever is first. An event that is spread sees every wait that was committed before;
a wait is looked at after its commit, and then sees every event that was committed before that.
"""

from __future__ import annotations

from typing import LiteralString

# What is to be looked into, as far as anyone knows without a lock: waits that are new (no event), and events.
SELECT_CANDIDATES: LiteralString = """
(SELECT w.id, w.run_id, r.definition_id, NULL::bigint AS event
 FROM waits w JOIN runs r ON r.id = w.run_id
 WHERE w.kind = 'event' AND w.settled_at IS NULL AND w.looked_at IS NULL
   AND r.definition_id <> ALL (%(aside)s::text[])
 ORDER BY w.id LIMIT %(most)s)
UNION ALL
(SELECT w.id, w.run_id, r.definition_id, k.event
 FROM wakes k JOIN waits w ON w.id = k.wait JOIN runs r ON r.id = w.run_id
 WHERE r.definition_id <> ALL (%(aside)s::text[])
 ORDER BY k.event, k.wait LIMIT %(most)s)
"""

_WAIT: LiteralString = """
SELECT w.id, w.run_id, w.path, w.key, r.definition_id, r.priority, r.state = 'paused', r.tenant,
       coalesce(s.input_ref, 'in:' || s.path)
"""

_FROM: LiteralString = """
FROM waits w JOIN runs r ON r.id = w.run_id
JOIN steps s ON s.run_id = w.run_id AND s.path = w.path
"""

# Nobody else looks into these until the end of the transaction.
TAKE_UNSEEN: LiteralString = (
    _WAIT
    + _FROM
    + """
WHERE w.id = ANY (%(waits)s::bigint[]) AND w.settled_at IS NULL AND w.looked_at IS NULL
ORDER BY w.id FOR UPDATE OF w SKIP LOCKED
"""
)

# With those of waits that have ended, by their time say: only what is taken here is removed.
TAKE_WAKES: LiteralString = (
    _WAIT
    + ", w.settled_at IS NULL, e.number, e.id, e.payload::text "
    + _FROM
    + """
JOIN unnest(%(events)s::bigint[], %(waits)s::bigint[]) AS g(event, wait) ON g.wait = w.id
JOIN wakes k ON k.event = g.event AND k.wait = g.wait
JOIN incoming_events e ON e.number = k.event
ORDER BY k.event, k.wait FOR UPDATE OF k SKIP LOCKED
"""
)

DELETE_WAKES: LiteralString = """
DELETE FROM wakes k USING unnest(%(events)s::bigint[], %(waits)s::bigint[]) AS g(event, wait)
WHERE k.event = g.event AND k.wait = g.wait
"""

NOTE_LOOKED: LiteralString = """
UPDATE waits SET looked_at = clock_timestamp() WHERE id = ANY (%(waits)s::bigint[])
"""

# The run, and those that it was forked from: the events that these could see, it can.
_FAMILY: LiteralString = """
WITH RECURSIVE family AS (
    SELECT id, forked_from, created_at FROM runs WHERE id = %(run)s
    UNION ALL
    SELECT r.id, r.forked_from, r.created_at FROM family f JOIN runs r ON r.id = f.forked_from
)
"""

# Where a wait of this run begins to look, and where a page before this one ended.
_EARLIER: LiteralString = (
    _FAMILY
    + """
, since AS (
    SELECT CASE WHEN %(lookback)s::float8 IS NULL THEN (SELECT min(created_at) FROM family)
                ELSE (SELECT asked_at FROM waits WHERE id = %(wait)s) - make_interval(secs => %(lookback)s::float8)
           END AS at
)
SELECT e.number, e.id, e.payload::text, e.at
FROM incoming_events e
WHERE e.tenant = %(tenant)s AND e.type = %(type)s AND e.at >= (SELECT at FROM since)
  AND (e.at, e.number) > (%(after)s::timestamptz, %(after_number)s::bigint)
"""
)

_IN_ORDER: LiteralString = "ORDER BY e.at, e.number LIMIT %(most)s"

SELECT_EARLIER: LiteralString = _EARLIER + _IN_ORDER

SELECT_EARLIER_OF_KEY: LiteralString = _EARLIER + "AND e.key = %(key)s " + _IN_ORDER

# Who had taken an event when this wait began.
SELECT_TAKEN: LiteralString = (
    _FAMILY
    + """
SELECT w.path
FROM family f JOIN waits w ON w.run_id = f.id AND w.kind = 'event' AND w.settled_by = %(by)s
WHERE w.settled_at <= (SELECT asked_at FROM waits WHERE id = %(wait)s)
"""
)
