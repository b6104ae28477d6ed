"""Budgets: what they have left, what calls in flight may cost, and what was consumed of them.

Whoever reserves holds the lock of each account in question, taken in one order, so reservations of one account follow
one another. What is settled needs no lock: in one transaction a reservation goes and its cost comes, so whoever looks
sees one of them. A reservation counts while its attempt runs; one whose step was cancelled or came too late counts a
little longer, until its worker has heard of it. `state || ''` keeps the planner away from the partial indexes on
states, `OFFSET 0` from reading all steps where it takes reservations for many.
"""

from __future__ import annotations

from typing import LiteralString


def standing(at: LiteralString) -> LiteralString:
    """The budgets of tenants, agents and everybody that count for `g` of run `r`: looked up by key, however many there
    are. Their windows are those of this moment."""
    return (
        """
CROSS JOIN LATERAL (
    SELECT b.account, b.per, b.terms, date_trunc(b.per, """
        + at
        + """, 'UTC') AS opens_at
    FROM unnest(ARRAY['hour', 'day', 'month']) AS p(per)
    CROSS JOIN LATERAL (VALUES ('tenant:' || r.tenant), ('agent:' || g.agent), ('all:')) AS s(scope)
    JOIN budgets b ON b.account = p.per || ':' || s.scope
) b
"""
    )


_STANDING: LiteralString = standing("clock_timestamp()")

SELECT_ACCOUNTS: LiteralString = (
    """
WITH given AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(runs)s::uuid[], %(agents)s::text[]) AS g(id, run_id, agent)
)
SELECT g.id, 'run:' || b.id, b.budget
FROM given g JOIN runs r ON r.id = g.run_id CROSS JOIN unnest(r.accounts) AS a(id)
JOIN runs b ON b.id = a.id AND b.budget IS NOT NULL
UNION ALL
SELECT g.id, b.account, b.terms FROM given g JOIN runs r ON r.id = g.run_id
"""
    + _STANDING
)

TAKE_ACCOUNTS: LiteralString = """
SELECT pg_advisory_xact_lock(7017, key)
FROM (SELECT DISTINCT hashtext(account) AS key FROM unnest(%(accounts)s::text[]) AS a(account) ORDER BY key) AS keys
"""

LIVE: LiteralString = """
EXISTS (SELECT FROM steps s WHERE s.run_id = v.run_id AND s.path = v.path AND s.attempt = v.attempt
        AND (s.state || '' = 'running' OR s.state || '' IN ('cancelled', 'skipped')
             AND s.finished_at > clock_timestamp() - make_interval(secs => %(grace)s)) OFFSET 0)
"""

# Of a step that was cancelled its worker hears a little later. One that hears of it later still was stopped: nothing
# could be set aside for its call, which nobody would hold.
SELECT_OVER: LiteralString = """
SELECT g.id
FROM unnest(%(ids)s::uuid[], %(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[]) AS g(id, run_id, path, attempt)
JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
WHERE s.attempt <> g.attempt OR s.state || '' NOT IN ('running', 'cancelled', 'skipped')
   OR s.state || '' <> 'running' AND s.finished_at <= clock_timestamp() - make_interval(secs => %(grace)s)
"""

_SPENT: LiteralString = """
FROM unnest(%(accounts)s::text[]) AS a(account)
CROSS JOIN LATERAL (SELECT nullif(split_part(a.account, ':', 1), 'run') AS per) p
CROSS JOIN LATERAL (
    -- The days of UTC, not those of the session.
    SELECT o.at AS opens_at, (o.at AT TIME ZONE 'UTC' + ('1 ' || p.per)::interval) AT TIME ZONE 'UTC' AS closes_at
    FROM date_trunc(p.per, clock_timestamp(), 'UTC') AS o(at)
) o
CROSS JOIN LATERAL (
    SELECT coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(usd), 0)::float8 AS usd,
           coalesce(sum(model_calls), 0)::bigint AS model_calls, coalesce(sum(seconds), 0)::float8 AS seconds
    FROM (SELECT tokens, usd, model_calls, seconds FROM spendings
          WHERE run_id = CASE WHEN p.per IS NULL THEN substr(a.account, 5)::uuid END
          UNION ALL
          SELECT tokens, usd, model_calls, seconds FROM budget_windows
          WHERE account = a.account AND opens_at = o.opens_at) b
) k
"""

# `ids` are of those who ask, perhaps once more.
SELECT_BOOKS: LiteralString = (
    """
SELECT a.account, o.closes_at, k.tokens, k.usd, k.model_calls, k.seconds, v.tokens, v.usd, v.model_calls
"""
    + _SPENT
    + """
CROSS JOIN LATERAL (
    SELECT coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(usd), 0)::float8 AS usd,
           coalesce(sum(model_calls), 0)::bigint AS model_calls
    FROM reservations WHERE account = a.account AND id <> ALL (%(ids)s::uuid[])
) v
"""
)

# Budgets that are used up, of steps that begin: in their journals stands nothing yet. `tells` is whether the agent has
# told before what it consumed, or the budget is its own. What is counted by transactions before this one is in them.
SELECT_USED_UP: LiteralString = (
    """
WITH given AS (
    SELECT g.run_id, g.path, s.agent
    FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
    JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
    WHERE NOT EXISTS (SELECT FROM journal j WHERE j.run_id = g.run_id AND j.path = g.path)
), own AS (
    SELECT g.run_id, g.path, g.agent, 'run:' || b.id AS account, b.budget AS terms, k.*
    FROM given g JOIN runs r ON r.id = g.run_id CROSS JOIN unnest(r.accounts) AS a(id)
    JOIN runs b ON b.id = a.id
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(usd), 0)::float8 AS usd,
               coalesce(sum(model_calls), 0)::bigint AS model_calls, coalesce(sum(seconds), 0)::float8 AS seconds
        FROM spendings WHERE run_id = b.id
    ) k
)
SELECT run_id, path, account, terms, NULL::timestamptz AS closes_at,
       EXISTS (SELECT FROM costs c WHERE c.agent = own.agent AND c.model = '') AS tells,
       tokens, usd, model_calls, seconds
FROM own
WHERE tokens >= (terms ->> 'tokens')::numeric OR usd >= (terms ->> 'usd')::float8 - 1e-9
   OR model_calls >= (terms ->> 'model_calls')::numeric OR seconds >= (terms ->> 'seconds')::float8
UNION ALL
SELECT g.run_id, g.path, b.account, b.terms,
       (b.opens_at AT TIME ZONE 'UTC' + ('1 ' || b.per)::interval) AT TIME ZONE 'UTC' AS closes_at,
       starts_with(b.account, b.per || ':agent:')
       OR EXISTS (SELECT FROM costs c WHERE c.agent = g.agent AND c.model = '') AS tells,
       k.tokens, k.usd, k.model_calls, k.seconds
FROM given g JOIN runs r ON r.id = g.run_id
"""
    + _STANDING
    + """
CROSS JOIN LATERAL (
    SELECT coalesce(sum(tokens), 0)::bigint AS tokens, coalesce(sum(usd), 0)::float8 AS usd,
           coalesce(sum(model_calls), 0)::bigint AS model_calls, coalesce(sum(seconds), 0)::float8 AS seconds
    FROM budget_windows WHERE account = b.account AND opens_at = b.opens_at
) k
WHERE k.tokens >= (b.terms ->> 'tokens')::numeric OR k.usd >= (b.terms ->> 'usd')::float8 - 1e-9
   OR k.model_calls >= (b.terms ->> 'model_calls')::numeric OR k.seconds >= (b.terms ->> 'seconds')::float8
ORDER BY account
"""
)

# For people: without those that nobody has dropped yet.
SHOW_BOOKS: LiteralString = (
    """
SELECT a.account, o.opens_at, o.closes_at, k.tokens, k.usd, k.model_calls, k.seconds, v.tokens, v.usd, v.model_calls
"""
    + _SPENT
    + """
CROSS JOIN LATERAL (
    SELECT coalesce(sum(v.tokens), 0)::bigint AS tokens, coalesce(sum(v.usd), 0)::float8 AS usd,
           coalesce(sum(v.model_calls), 0)::bigint AS model_calls
    FROM reservations v WHERE v.account = a.account AND """
    + LIVE
    + """
) v
"""
)

INSERT_RESERVATIONS: LiteralString = """
INSERT INTO reservations (id, account, run_id, path, attempt, agent, model, tokens, usd, model_calls, least_tokens,
                          least_usd, least_calls)
SELECT * FROM unnest(%(ids)s::uuid[], %(accounts)s::text[], %(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[],
                     %(agents)s::text[], %(models)s::text[], %(tokens)s::bigint[], %(usds)s::numeric[],
                     %(calls)s::bigint[], %(least_tokens)s::bigint[], %(least_usds)s::numeric[],
                     %(least_calls)s::bigint[])
ON CONFLICT DO NOTHING
"""


# What an operator has set stands, whatever the code of an agent says. When a part of another amount is used up, that is
# news again.
PUT_BUDGET: LiteralString = """
WITH was AS (
    SELECT terms FROM budgets WHERE account = %(per)s || ':' || %(scope)s || ':' || %(name)s
), put AS (
    INSERT INTO budgets AS b (account, scope, name, per, terms, origin)
    VALUES (%(per)s || ':' || %(scope)s || ':' || %(name)s, %(scope)s, %(name)s, %(per)s, %(terms)s::jsonb, %(origin)s)
    ON CONFLICT (account) DO UPDATE SET terms = excluded.terms, origin = excluded.origin
    WHERE excluded.origin = 'operator' OR b.origin = 'code' AND b.terms <> excluded.terms
    RETURNING account, terms, xmax = 0 AS is_new
), untold AS (
    DELETE FROM budget_warnings n USING put
    WHERE n.account = put.account AND NOT EXISTS (SELECT FROM was WHERE was.terms = put.terms)
)
SELECT is_new FROM put
"""

# Nothing is paid for between the look at what was and the commit of what counts from then on.
HOLD_COSTS: LiteralString = "LOCK TABLE costs IN SHARE MODE"

# What its window has cost before there was this budget, as far as that has not been counted for an earlier one. Costs
# of runs that were pruned are known by day, and seconds of work by nobody.
COUNT_BEFORE: LiteralString = """
INSERT INTO budget_windows AS w (account, opens_at, stripe, tokens, usd, model_calls, seconds)
SELECT b.account, o.at, 16, greatest(0, p.tokens - k.tokens), greatest(0, p.usd - k.usd),
       greatest(0, p.model_calls - k.model_calls), 0
FROM budgets b CROSS JOIN LATERAL date_trunc(b.per, clock_timestamp(), 'UTC') AS o(at)
CROSS JOIN LATERAL (
    SELECT coalesce(sum(tokens), 0) AS tokens, coalesce(sum(usd), 0) AS usd,
           coalesce(sum(model_calls), 0) AS model_calls
    FROM (
        SELECT c.tokens, c.usd, c.model_calls FROM costs c JOIN runs r ON r.id = c.run_id
        WHERE c.at >= o.at AND CASE b.scope WHEN 'tenant' THEN r.tenant WHEN 'agent' THEN c.agent ELSE '' END = b.name
        UNION ALL
        SELECT d.tokens, d.usd, d.model_calls FROM cost_days d
        WHERE b.per <> 'hour' AND d.day >= (o.at AT TIME ZONE 'UTC')::date
          AND CASE b.scope WHEN 'tenant' THEN d.tenant WHEN 'agent' THEN d.agent ELSE '' END = b.name
    ) paid
) p
CROSS JOIN LATERAL (
    SELECT coalesce(sum(tokens), 0) AS tokens, coalesce(sum(usd), 0) AS usd,
           coalesce(sum(model_calls), 0) AS model_calls
    FROM budget_windows WHERE account = b.account AND opens_at = o.at
) k
WHERE b.account = %(account)s
ON CONFLICT (account, opens_at, stripe) DO UPDATE
SET tokens = w.tokens + excluded.tokens, usd = w.usd + excluded.usd, model_calls = w.model_calls + excluded.model_calls
"""

# Of every workflow that was ever submitted here.
SELECT_AGENTS: LiteralString = """
SELECT DISTINCT a.name FROM definitions d CROSS JOIN LATERAL json_object_keys(d.body -> 'agents') AS a(name)
"""

DELETE_BUDGET: LiteralString = "DELETE FROM budgets WHERE account = %(account)s RETURNING account"

SELECT_BUDGETS: LiteralString = """
SELECT account, scope, name, per, terms, origin FROM budgets
WHERE %(account)s::text IS NULL OR account = %(account)s
ORDER BY scope, name, per
"""
