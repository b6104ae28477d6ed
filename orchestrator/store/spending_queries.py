"""Who is told that little of a budget is left, or nothing: once, at 80 % and at 100 %.

A run's own budget is told of in its own story, that of others in the story of a run that consumes of it. A run that
has ended is told nothing.
"""

from __future__ import annotations

from typing import LiteralString

# Budgets of which much is used up, and nobody was told of that part. In one order, so that two never wait for each
# other.
SELECT_NEARLY_SPENT: LiteralString = """
SELECT a.account, t.opens_at, t.closes_at, t.terms, u.used, l.level, t.tokens, t.usd, t.model_calls, t.seconds
FROM unnest(%(accounts)s::text[]) AS a(account)
CROSS JOIN LATERAL (
    SELECT 'epoch'::timestamptz AS opens_at, NULL::timestamptz AS closes_at, r.budget AS terms,
           sum(k.tokens)::bigint AS tokens, sum(k.usd)::float8 AS usd, sum(k.model_calls)::bigint AS model_calls,
           sum(k.seconds)::float8 AS seconds
    FROM runs r JOIN spendings k ON k.run_id = r.id
    WHERE starts_with(a.account, 'run:') AND r.id = CASE WHEN starts_with(a.account, 'run:') THEN
          substr(a.account, 5)::uuid END
    GROUP BY r.id
    UNION ALL
    SELECT w.opens_at, (w.opens_at AT TIME ZONE 'UTC' + ('1 ' || b.per)::interval) AT TIME ZONE 'UTC', b.terms,
           sum(w.tokens)::bigint, sum(w.usd)::float8, sum(w.model_calls)::bigint, sum(w.seconds)::float8
    FROM budgets b JOIN budget_windows w ON w.account = b.account
    WHERE b.account = a.account AND w.opens_at = date_trunc(b.per, clock_timestamp(), 'UTC')
    GROUP BY b.account, w.opens_at
) t
CROSS JOIN LATERAL (
    -- A budget of next to nothing must not take the quotient beyond all figures.
    SELECT greatest(t.tokens / (t.terms ->> 'tokens')::float8,
                    (t.usd + 1e-9) / ((t.terms ->> 'usd')::float8 + 1e-12),
                    t.model_calls / (t.terms ->> 'model_calls')::float8,
                    (t.seconds + 1e-9) / ((t.terms ->> 'seconds')::float8 + 1e-12)) AS used
) u
CROSS JOIN LATERAL (SELECT CASE WHEN u.used >= 1 THEN 100 ELSE 80 END AS level) l
WHERE u.used >= 0.8
  AND NOT EXISTS (SELECT FROM budget_warnings n
                  WHERE n.account = a.account AND n.opens_at = t.opens_at AND n.level = l.level)
ORDER BY a.account
"""

# One run for each that counts in it. It is held as whoever ends it holds it: who comes second finds that it has ended.
WARN: LiteralString = """
WITH told AS (
    SELECT g.*, c.id AS run_id
    FROM unnest(%(accounts)s::text[], %(opens)s::timestamptz[], %(levels)s::int[], %(used)s::float8[],
                %(messages)s::text[]) AS g(account, opens_at, level, used, message)
    CROSS JOIN LATERAL (SELECT split_part(g.account, ':', 1) AS per, split_part(g.account, ':', 2) AS scope) a
    CROSS JOIN LATERAL (
        SELECT r.id FROM runs r
        WHERE r.id = ANY (%(runs)s::uuid[]) AND r.state IN ('queued', 'running', 'paused')
          AND CASE WHEN a.per = 'run' THEN r.id::text = a.scope
                   WHEN a.scope = 'tenant' THEN g.account = a.per || ':tenant:' || r.tenant
                   -- One that summarises for others has no step, but costs.
                   WHEN a.scope = 'agent' THEN EXISTS (SELECT FROM steps s WHERE s.run_id = r.id
                                                       AND g.account = a.per || ':agent:' || s.agent)
                        OR EXISTS (SELECT FROM costs c WHERE c.run_id = r.id
                                   AND g.account = a.per || ':agent:' || c.agent)
                   ELSE true END
        LIMIT 1 FOR NO KEY UPDATE
    ) c
), warned AS (
    INSERT INTO budget_warnings (account, opens_at, level) SELECT account, opens_at, level FROM told
    ON CONFLICT DO NOTHING
    RETURNING account
)
INSERT INTO events (run_id, kind, data)
SELECT t.run_id, CASE t.level WHEN 100 THEN 'run.budget_exhausted' ELSE 'run.budget_warning' END,
       jsonb_build_object('message', t.message, 'budget', t.account, 'used', round(t.used::numeric, 4))
FROM told t JOIN warned USING (account)
RETURNING data ->> 'message'
"""
