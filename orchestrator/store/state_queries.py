"""State that agents share. A write holds its own step and the one value that it changes, in this order."""

from __future__ import annotations

from typing import LiteralString

# The fence: whoever no longer holds the step writes nothing, and until this write has committed nobody takes it away.
HOLD_STEP: LiteralString = """
SELECT 1 FROM steps
WHERE run_id = %(run_id)s AND path = %(path)s AND attempt = %(attempt)s AND state || '' = 'running'
FOR SHARE
"""

SELECT_WRITE: LiteralString = """
SELECT verb, result::text FROM state_writes
WHERE run_id = %(run_id)s AND path = %(path)s AND scope = %(scope)s AND owner = %(owner)s AND name = %(name)s
  AND call = %(call)s
"""

INSERT_WRITE: LiteralString = """
INSERT INTO state_writes (run_id, path, scope, owner, name, call, verb, given, result, version)
VALUES (%(run_id)s, %(path)s, %(scope)s, %(owner)s, %(name)s, %(call)s, %(verb)s, %(given)s::jsonb, %(result)s::jsonb,
        %(version)s)
"""

SELECT_STATE: LiteralString = """
SELECT value::text, version FROM states
WHERE tenant = %(tenant)s AND scope = %(scope)s AND owner = %(owner)s AND name = %(name)s
"""

SELECT_STATES: LiteralString = """
SELECT name, value::text, version FROM states
WHERE tenant = %(tenant)s AND scope = %(scope)s AND owner = %(owner)s ORDER BY name
"""

# One that nobody has written has version 0, which nobody else sees: it is written before the commit.
LOCK_STATE: LiteralString = """
INSERT INTO states AS s (tenant, scope, owner, name, value, version, run_id)
VALUES (%(tenant)s, %(scope)s, %(owner)s, %(name)s, 'null', 0, %(of_run)s)
ON CONFLICT (tenant, scope, owner, name) DO UPDATE SET version = s.version
RETURNING value::text, version
"""

WRITE_STATE: LiteralString = """
UPDATE states SET value = %(value)s::jsonb, version = version + 1, written_at = clock_timestamp()
WHERE tenant = %(tenant)s AND scope = %(scope)s AND owner = %(owner)s AND name = %(name)s
RETURNING version
"""

APPEND_MESSAGE: LiteralString = """
WITH counted AS (
    INSERT INTO sessions AS s (tenant, key, last) VALUES (%(tenant)s, %(session)s, 1)
    ON CONFLICT (tenant, key) DO UPDATE SET last = s.last + 1, touched_at = clock_timestamp()
    RETURNING last
)
INSERT INTO session_messages (tenant, session, number, message, run_id, path)
SELECT %(tenant)s, %(session)s, last, %(message)s::jsonb, %(run_id)s, %(path)s FROM counted
RETURNING number
"""

SELECT_HISTORY: LiteralString = """
SELECT number, message, run_id, path, at FROM session_messages
WHERE tenant = %(tenant)s AND session = %(session)s ORDER BY number DESC LIMIT %(last)s
"""

# Numbered anew: the run goes on from here.
COPY_WRITES: LiteralString = """
INSERT INTO state_writes (run_id, path, scope, owner, name, call, verb, given, result, version, at)
SELECT %(run)s, path, scope, %(run)s::text, name, call, verb, given, result,
       row_number() OVER (PARTITION BY name ORDER BY version), at
FROM state_writes WHERE run_id = %(origin)s AND scope = 'run' AND path = ANY (%(paths)s::text[])
RETURNING name, version, verb, given::text
"""

INSERT_STATES: LiteralString = """
INSERT INTO states (tenant, scope, owner, name, value, version, run_id)
SELECT r.tenant, 'run', r.id::text, g.name, g.value::jsonb, g.version, r.id
FROM unnest(%(names)s::text[], %(values)s::text[], %(versions)s::bigint[]) AS g(name, value, version)
JOIN runs r ON r.id = %(run)s
"""
