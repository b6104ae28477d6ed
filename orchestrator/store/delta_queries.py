"""What agents say while they work."""

from __future__ import annotations

from typing import LiteralString

# The rows of the steps are held, so that an attempt that is being taken back has said this before that, or not at all.
# A row that somebody else holds just now is not waited for: what that attempt says is told a moment later.
INSERT_DELTAS: LiteralString = """
WITH said AS (
    SELECT * FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[], %(data)s::text[])
                  WITH ORDINALITY AS d(run_id, path, attempt, data, place)
), held AS MATERIALIZED (
    SELECT s.run_id, s.path, s.attempt FROM steps s
    WHERE (s.run_id, s.path, s.attempt) IN (SELECT run_id, path, attempt FROM said)
      AND s.state || '' = 'running' AND s.worker_id = %(worker)s
    FOR SHARE OF s SKIP LOCKED
), told AS (
    INSERT INTO events (run_id, kind, path, data)
    SELECT run_id, 'step.delta', path, data::jsonb FROM said JOIN held USING (run_id, path, attempt) ORDER BY place
)
-- What a crash of the server forgets of this is said again by the next attempt.
SELECT run_id, path, attempt, set_config('synchronous_commit', 'off', true) FROM held
"""
