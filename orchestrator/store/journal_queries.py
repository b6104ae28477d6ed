"""What a step has done inside: written once per place, by the attempt that runs, read by those after it."""

from __future__ import annotations

from typing import LiteralString

# What an attempt consumed is known when it ends, so that of a lost one is told by the one that goes on. An attempt goes
# through all that those before it had written: one that has ended has told it all, unless it told of nothing, being
# killed for its time or turned away. A fork pays for nothing it copied.
_TOLD: LiteralString = """
(j.attempt = 0 OR EXISTS (
    SELECT FROM attempts a WHERE a.run_id = j.run_id AND a.path = j.path AND a.attempt >= j.attempt
      AND greatest((a.usage ->> 'tokens')::numeric, (a.usage ->> 'usd')::numeric,
                   (a.usage ->> 'model_calls')::numeric) > 0))
"""

# What consumed nothing is told with whatever outcome came after it.
_NOTED: LiteralString = """
OR j.value -> 'usage' IS NULL AND EXISTS (
    SELECT FROM attempts a WHERE a.run_id = j.run_id AND a.path = j.path AND a.attempt >= j.attempt
      AND a.usage IS NOT NULL)
"""

SELECT_JOURNAL: LiteralString = (
    "SELECT j.position, j.name, j.value::text, "
    + _TOLD
    + _NOTED
    + "FROM journal j WHERE j.run_id = %(run)s AND j.path = %(path)s ORDER BY j.position"
)

# What calls have consumed that stand in a journal and that no attempt has told of, for a FROM with one run: it runs, or
# was lost, cancelled or late, and perhaps none follows.
UNTOLD: LiteralString = (
    """
SELECT j.path, j.value -> 'usage' AS usage FROM journal j
WHERE NOT starts_with(j.name, 'once ') AND NOT starts_with(j.name, 'ask ')
  AND jsonb_typeof(j.value #> '{usage,tokens}') = 'number' AND jsonb_typeof(j.value #> '{usage,usd}') = 'number'
  AND jsonb_typeof(j.value #> '{usage,model_calls}') = 'number' AND NOT """
    + _TOLD
    + " AND j.run_id = "
)

# The row of the step is held, so that an attempt that is being taken back has written before that, or not at all.
INSERT_ENTRY: LiteralString = """
INSERT INTO journal (run_id, path, position, name, value, attempt)
SELECT s.run_id, s.path, %(position)s, %(name)s, %(value)s::jsonb, s.attempt
FROM (
    SELECT run_id, path, attempt FROM steps
    WHERE run_id = %(run)s AND path = %(path)s AND attempt = %(attempt)s AND state || '' = 'running'
      AND worker_id = %(worker)s
    FOR SHARE
) s
-- Written by this very attempt, whose first try committed unheard.
ON CONFLICT (run_id, path, position) DO UPDATE SET attempt = excluded.attempt
RETURNING position
"""

# What is open in a fork goes on from where the other run is.
COPY_JOURNAL: LiteralString = """
INSERT INTO journal (run_id, path, position, name, value, attempt)
SELECT %(run)s, path, position, name, value, 0 FROM journal
WHERE run_id = %(origin)s AND path = ANY (%(paths)s::text[])
"""

# A question that nobody answered in time, and after which nothing else was done, is asked again.
FORGET_UNANSWERED: LiteralString = """
DELETE FROM journal j
WHERE j.run_id = %(run)s AND j.path = ANY (%(paths)s::text[]) AND starts_with(j.name, 'ask ')
  AND j.value ->> 'decision' = 'expired'
  AND NOT EXISTS (SELECT FROM journal n WHERE n.run_id = j.run_id AND n.path = j.path AND n.position > j.position)
"""
