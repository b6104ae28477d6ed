"""What was consumed, counted in every budget that it counts in, and what was set aside for it, put away.

A call is told once and counts once, by its id. When an attempt is taken back whose call nobody has told of, its worker
is dead or stopped: what the call has cost at least is booked in the transaction that puts its reservation away, and is
`unheard`. Whoever was only stopped, and tells later, corrects that.

In one transaction a reservation goes and its cost comes, so whoever looks sees one of them. All take the reservation
first, then the cost, then the counts of runs, then those of others; who puts away what is over waits for no
reservation: whoever holds one is telling of it.
"""

from __future__ import annotations

from typing import LiteralString

from orchestrator.store.budget_queries import LIVE, standing


def _counted(unless: LiteralString = "") -> LiteralString:
    """For each budget a line of what is `booked`, in the window in which it was; `unless` leaves out runs."""
    return (
        """
, spent AS (
    INSERT INTO spendings AS k (run_id, stripe, tokens, usd, model_calls, seconds)
    SELECT account, pg_backend_pid() %% 16, sum(g.tokens), sum(g.usd), sum(g.model_calls), 0
    FROM booked g JOIN runs r ON r.id = g.run_id CROSS JOIN LATERAL unnest(r.accounts) AS a(account)
"""
        + unless
        + """
    GROUP BY account ORDER BY account  -- the same order in every transaction, so that two never wait for each other
    ON CONFLICT (run_id, stripe) DO UPDATE
    SET tokens = k.tokens + excluded.tokens, usd = k.usd + excluded.usd,
        model_calls = k.model_calls + excluded.model_calls
    RETURNING 'run:' || run_id AS account
), counted AS (
    INSERT INTO budget_windows AS k (account, opens_at, stripe, tokens, usd, model_calls, seconds)
    SELECT b.account, b.opens_at, pg_backend_pid() %% 16, sum(g.tokens), sum(g.usd), sum(g.model_calls), 0
    FROM booked g JOIN runs r ON r.id = g.run_id
"""
        + standing("g.at")
        + """
    GROUP BY b.account, b.opens_at ORDER BY b.account, b.opens_at
    ON CONFLICT (account, opens_at, stripe) DO UPDATE
    SET tokens = k.tokens + excluded.tokens, usd = k.usd + excluded.usd,
        model_calls = k.model_calls + excluded.model_calls
    RETURNING account
)
"""
    )


# Each call once, however often it is told. What it counts in may have changed since it was reserved. Whoever tells it
# again had not heard of it: the accounts are those of the first time. Without `freed`: calls that were booked before.
SETTLE: LiteralString = (
    """
WITH given AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[], %(agents)s::text[],
                         %(models)s::text[], %(tokens)s::bigint[], %(outputs)s::bigint[], %(usds)s::numeric[],
                         %(calls)s::bigint[])
         AS g(id, run_id, path, attempt, agent, model, tokens, output_tokens, usd, model_calls)
), freed AS (
    DELETE FROM reservations WHERE id = ANY (%(ids)s::uuid[]) RETURNING account
), booked AS (
    INSERT INTO costs (id, run_id, path, attempt, agent, model, tokens, output_tokens, usd, model_calls)
    SELECT * FROM given WHERE (SELECT count(*) FROM freed) >= 0  -- these first
    ON CONFLICT (id) DO NOTHING
    RETURNING id, run_id, agent, at, tokens, usd, model_calls
)"""
    + _counted()
    + """
SELECT account, false AS freed FROM spent UNION SELECT account, false FROM counted
UNION
SELECT 'run:' || a.account, false
FROM given g JOIN runs r ON r.id = g.run_id CROSS JOIN LATERAL unnest(r.accounts) AS a(account)
WHERE NOT EXISTS (SELECT FROM booked)
UNION
SELECT b.account, false FROM given g JOIN runs r ON r.id = g.run_id
"""
    + standing("clock_timestamp()")
    + """
WHERE NOT EXISTS (SELECT FROM booked)
UNION ALL SELECT account, true FROM freed
UNION ALL SELECT id::text, NULL FROM given WHERE id NOT IN (SELECT id FROM booked)
"""
)

# What was booked unheard is what its end says. A row that is being corrected is waited for, and is not unheard then. A
# run that has failed since and goes on has its budget anew: in that the call was never counted.
CORRECT: LiteralString = (
    """
WITH given AS (
    SELECT * FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(outputs)s::bigint[], %(usds)s::numeric[],
                         %(calls)s::bigint[]) AS g(id, tokens, output_tokens, usd, model_calls)
), was AS (
    SELECT c.id, c.tokens, c.usd, c.model_calls FROM costs c
    WHERE c.id = ANY (%(ids)s::uuid[]) AND c.lost = 'unheard'
    ORDER BY c.id FOR UPDATE
), booked AS (
    UPDATE costs c
    SET tokens = g.tokens, output_tokens = g.output_tokens, usd = g.usd, model_calls = g.model_calls, lost = 'heard'
    FROM was JOIN given g USING (id) WHERE c.id = was.id
    RETURNING c.run_id, c.agent, c.at, g.tokens - was.tokens AS tokens, g.usd - was.usd AS usd,
              g.model_calls - was.model_calls AS model_calls
)"""
    + _counted(
        """
    WHERE NOT EXISTS (SELECT FROM events e WHERE e.run_id = account AND e.kind = 'run.failed' AND e.at > g.at)
"""
    )
    + """
SELECT account FROM spent UNION SELECT account FROM counted
"""
)

_LAPSED: LiteralString = (
    """
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM reservations v USING over o WHERE v.id = o.id AND v.account = o.account RETURNING v.*
), booked AS (
    INSERT INTO costs (id, run_id, path, attempt, agent, model, tokens, output_tokens, usd, model_calls, lost)
    SELECT DISTINCT ON (id) id, run_id, path, attempt, agent, model, least_tokens, 0, least_usd, least_calls, 'unheard'
    FROM gone WHERE greatest(least_tokens, least_usd, least_calls) > 0
    ON CONFLICT (id) DO NOTHING
    RETURNING id, run_id, agent, at, tokens, usd, model_calls
)"""
    + _counted()
    + """
SELECT account, true AS freed, run_id FROM gone
UNION ALL SELECT account, false, NULL FROM spent UNION ALL SELECT account, false, NULL FROM counted
"""
)

# What was set aside by attempts that are over: of these, ...
LAPSE_ATTEMPTS: LiteralString = (
    """
WITH over AS (
    SELECT id, account FROM reservations v
    WHERE (run_id, path, attempt) IN (
        SELECT * FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[])
    ) AND NOT """
    + LIVE
    + _LAPSED
)

# ... in these accounts, by whoever holds their locks, before anybody looks what is left; ...
LAPSE_ACCOUNTS: LiteralString = (
    """
WITH over AS (
    SELECT id, account FROM reservations v
    WHERE id IN (SELECT a.id FROM reservations a WHERE a.account = ANY (%(accounts)s::text[])) AND NOT """
    + LIVE
    + _LAPSED
)

# ... or all.
LAPSE_ALL: LiteralString = (
    """
WITH over AS (
    SELECT id, account FROM reservations v WHERE NOT """
    + LIVE
    + _LAPSED
)

# What attempts had set aside as a whole, in the transaction that records them.
END_HOLDS: LiteralString = """
DELETE FROM reservations v
USING unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[]) AS g(run_id, path, attempt)
WHERE v.run_id = g.run_id AND v.path = g.path AND v.attempt = g.attempt AND v.model = ''
RETURNING v.account
"""

DELETE_RESERVATIONS: LiteralString = (
    "DELETE FROM reservations WHERE id = ANY (%(ids)s::uuid[]) RETURNING id, account"
)

# As many of those that wait for each budget as calls have ended, in the order of their turns.
WAKE_WAITERS: LiteralString = """
WITH next AS (
    SELECT w.run_id, w.path
    FROM unnest(%(keys)s::text[], %(most)s::int[]) AS g(key, most) CROSS JOIN LATERAL (
        SELECT run_id, path FROM steps
        WHERE limited = g.key AND state = 'ready' AND ready_at IS NOT NULL AND due_at > statement_timestamp()
        ORDER BY due_at LIMIT g.most FOR UPDATE SKIP LOCKED
    ) w
)
UPDATE steps s SET due_at = NULL, ready_at = clock_timestamp()
FROM next WHERE s.run_id = next.run_id AND s.path = next.path
RETURNING s.run_id, s.path
"""

# Up to as many as make a difference.
COUNT_WAITERS: LiteralString = """
SELECT g.key, (SELECT count(*) FROM (
    SELECT FROM steps WHERE limited = g.key AND state = 'ready' AND ready_at IS NOT NULL LIMIT 10000
) AS waiting) FROM unnest(%(keys)s::text[]) AS g(key)
"""

# The accounts of these steps, and whether nothing is set aside in them: then nobody will end and wake who waits.
SELECT_IDLE: LiteralString = (
    """
WITH given AS (
    SELECT s.run_id, s.agent FROM unnest(%(runs)s::uuid[], %(paths)s::text[]) AS g(run_id, path)
    JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
), accounts AS (
    SELECT 'run:' || a.id AS account
    FROM given g JOIN runs r ON r.id = g.run_id CROSS JOIN LATERAL unnest(r.accounts) AS a(id)
    UNION
    SELECT b.account FROM given g JOIN runs r ON r.id = g.run_id
"""
    + standing("clock_timestamp()")
    + """
)
SELECT a.account, NOT EXISTS (SELECT FROM reservations v WHERE v.account = a.account AND """
    + LIVE
    + ") FROM accounts a"
)

# What attempts that have just been recorded told besides their calls, and how long they have run.
COUNT_THE_REST: LiteralString = (
    """
WITH given AS (
    SELECT g.*, s.agent, extract(epoch FROM t.finished_at - t.started_at) AS seconds
    FROM unnest(%(runs)s::uuid[], %(paths)s::text[], %(attempts)s::int[], %(tokens)s::bigint[], %(usds)s::numeric[],
                %(calls)s::bigint[]) AS g(run_id, path, attempt, tokens, usd, model_calls)
    JOIN steps s ON s.run_id = g.run_id AND s.path = g.path
    JOIN attempts t ON t.run_id = g.run_id AND t.path = g.path AND t.attempt = g.attempt
), booked AS (
    INSERT INTO costs (id, run_id, path, attempt, agent, model, tokens, output_tokens, usd, model_calls)
    SELECT gen_random_uuid(), run_id, path, attempt, agent, '', tokens, 0, usd, model_calls FROM given
    WHERE tokens > 0 OR usd > 0 OR model_calls > 0
), counted AS (
    INSERT INTO budget_windows AS k (account, opens_at, stripe, tokens, usd, model_calls, seconds)
    SELECT b.account, b.opens_at, pg_backend_pid() %% 16, sum(g.tokens), sum(g.usd), sum(g.model_calls), sum(g.seconds)
    FROM given g JOIN runs r ON r.id = g.run_id
"""
    + standing("clock_timestamp()")
    + """
    GROUP BY b.account, b.opens_at ORDER BY b.account, b.opens_at
    ON CONFLICT (account, opens_at, stripe) DO UPDATE
    SET tokens = k.tokens + excluded.tokens, usd = k.usd + excluded.usd,
        model_calls = k.model_calls + excluded.model_calls, seconds = k.seconds + excluded.seconds
    RETURNING account
)
SELECT DISTINCT account FROM counted
"""
)
