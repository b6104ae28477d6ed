"""What was paid, and for what: of runs that are there call by call, of others by day."""

from __future__ import annotations

from typing import LiteralString

# `by` is one of the columns of `paid`.
SELECT_COSTS: LiteralString = """
SELECT key, sum(tokens - output_tokens)::bigint, sum(output_tokens)::bigint, sum(usd)::float8, sum(model_calls)::bigint
FROM (
    SELECT c.tokens, c.output_tokens, c.usd, c.model_calls,
           CASE %(by)s WHEN 'workflow' THEN r.workflow WHEN 'agent' THEN c.agent WHEN 'model' THEN c.model
                       WHEN 'tenant' THEN r.tenant ELSE coalesce(r.labels ->> 'user', '') END AS key
    FROM costs c JOIN runs r ON r.id = c.run_id
    WHERE %(since)s::float8 IS NULL OR c.at >= clock_timestamp() - make_interval(secs => %(since)s::float8)
    UNION ALL
    SELECT d.tokens, d.output_tokens, d.usd, d.model_calls,
           CASE %(by)s WHEN 'workflow' THEN d.workflow WHEN 'agent' THEN d.agent WHEN 'model' THEN d.model
                       WHEN 'tenant' THEN d.tenant ELSE d."user" END
    FROM cost_days d
    WHERE %(since)s::float8 IS NULL
       OR d.day >= ((clock_timestamp() - make_interval(secs => %(since)s::float8)) AT TIME ZONE 'UTC')::date
) paid
GROUP BY key ORDER BY 4 DESC, 5 DESC, key
"""

# What was booked of calls whose attempt was over before anybody had told of them, for a FROM with one run: no attempt
# tells of it, and no journal.
LOST: LiteralString = """
SELECT k.path, jsonb_build_object('tokens', k.tokens, 'usd', k.usd, 'model_calls', k.model_calls) AS usage
FROM costs k WHERE k.lost IS NOT NULL AND k.run_id = """

# What pruned runs have cost is kept by day. In one order: two who prune at a time never wait for each other.
ROLL_UP: LiteralString = """
WITH gone AS (
    DELETE FROM costs WHERE run_id = ANY (%(runs)s::uuid[]) RETURNING *
)
INSERT INTO cost_days AS d (day, workflow, agent, model, tenant, "user", tokens, output_tokens, usd, model_calls)
SELECT (c.at AT TIME ZONE 'UTC')::date, r.workflow, c.agent, c.model, r.tenant, coalesce(r.labels ->> 'user', ''),
       sum(c.tokens), sum(c.output_tokens), sum(c.usd), sum(c.model_calls)
FROM gone c JOIN runs r ON r.id = c.run_id
GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
ON CONFLICT (day, workflow, agent, model, tenant, "user") DO UPDATE
SET tokens = d.tokens + excluded.tokens, output_tokens = d.output_tokens + excluded.output_tokens,
    usd = d.usd + excluded.usd, model_calls = d.model_calls + excluded.model_calls
"""
