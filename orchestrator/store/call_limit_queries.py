"""Limits of calls inside attempts. Whoever lets calls pass holds the rows of their limits, as for attempts.

A permit names the place of its call in the journal. It is given back when the call ends; until then it counts while its
attempt runs, like any other.
"""

from __future__ import annotations

from typing import LiteralString

# Whose attempt still runs, and who has waited: the attempt before ended at this call, and nothing was done since. A try
# of ours may have committed unheard: then there are permits of it.
SELECT_CALLERS: LiteralString = """
WITH given AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[], %(places)s::int[]) WITH ORDINALITY
         AS g(run_id, path, attempt, place, n)
), own AS (
    DELETE FROM permits p USING given g
    WHERE p.run_id = g.run_id AND p.path = g.path AND p.attempt = g.attempt AND p.place = g.place
)
SELECT EXISTS (SELECT FROM steps s WHERE s.run_id = g.run_id AND s.path = g.path AND s.attempt = g.attempt
               AND s.state || '' = 'running' AND s.worker_id = %(worker)s) AS runs,
       g.attempt > 1
       AND EXISTS (SELECT FROM attempts a WHERE a.run_id = g.run_id AND a.path = g.path
                   AND a.attempt = g.attempt - 1 AND a.state = 'limited')
       AND NOT EXISTS (SELECT FROM journal j WHERE j.run_id = g.run_id AND j.path = g.path
                       AND j.attempt = g.attempt) AS waited
FROM given g ORDER BY g.n
"""

# What is given back counts no longer, and those who wait for it come next, as many as there is room for beside those
# that are on their way already. A crash of the server that forgets it leaves a permit that ends with its attempt.
GIVE_BACK: LiteralString = """
WITH gone AS (
    DELETE FROM permits p
    USING unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[], %(places)s::int[])
          AS g(run_id, path, attempt, place)
    WHERE p.run_id = g.run_id AND p.path = g.path AND p.attempt = g.attempt AND p.place = g.place
    RETURNING p.key
), next AS (
    SELECT w.run_id, w.path
    FROM unnest(%(keys)s::text[], %(most)s::int[]) AS g(key, most) CROSS JOIN LATERAL (
        SELECT run_id, path FROM steps
        WHERE limited = g.key AND state = 'ready' AND ready_at IS NOT NULL AND due_at > statement_timestamp()
        ORDER BY due_at
        LIMIT greatest(0, g.most - (SELECT count(*) FROM permits p WHERE p.key = g.key)
                          + (SELECT count(*) FROM gone WHERE gone.key = g.key)
                          - (SELECT count(*) FROM steps w WHERE w.limited = g.key AND w.state = 'ready'
                             AND w.ready_at IS NOT NULL
                             AND (w.due_at IS NULL OR w.due_at <= statement_timestamp())))
        FOR UPDATE SKIP LOCKED
    ) w
), woken AS (
    UPDATE steps s SET due_at = NULL, ready_at = clock_timestamp()
    FROM next WHERE s.run_id = next.run_id AND s.path = next.path
    RETURNING s.run_id, s.path
)
SELECT w.run_id, w.path, c.durable
FROM (SELECT set_config('synchronous_commit', %(durable)s, true) AS durable) c LEFT JOIN woken w ON true
"""
