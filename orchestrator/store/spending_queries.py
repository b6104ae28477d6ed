"""What runs have consumed of their budgets.

A run with a budget has an account, and what a run consumes counts in all its `accounts`: its own, and those of the
runs that wait for it. Many branches write to an account at a time, so it stands in stripes that are added up when it
is looked at.
"""

from __future__ import annotations

from typing import LiteralString

# A run that has consumed too much is out of time from now on: nothing of it is claimed, and the timers end it. A
# paused one has no time left for when it is resumed.
EXHAUST: LiteralString = """
WITH spent AS (
    SELECT r.id, r.budget, sum(k.tokens) AS tokens, sum(k.usd) AS usd, sum(k.model_calls) AS model_calls,
           sum(k.seconds) AS seconds
    FROM runs r JOIN spendings k ON k.run_id = r.id
    WHERE r.id = ANY (%(runs)s::uuid[]) AND r.exhausted IS NULL AND r.state IN ('queued', 'running', 'paused')
    GROUP BY r.id, r.budget
), beyond AS (
    SELECT id, CASE
        WHEN tokens > (budget ->> 'tokens')::numeric THEN
            format('%%s tokens, more than its budget of %%s', trim_scale(tokens), budget ->> 'tokens')
        WHEN usd > (budget ->> 'usd')::numeric THEN
            format('%%s USD, more than its budget of %%s', trim_scale(round(usd, 6)), budget ->> 'usd')
        WHEN model_calls > (budget ->> 'model_calls')::numeric THEN
            format('%%s model calls, more than its budget of %%s', trim_scale(model_calls), budget ->> 'model_calls')
        WHEN seconds > (budget ->> 'seconds')::numeric THEN
            format('%%s seconds, more than its budget of %%s', trim_scale(round(seconds, 1)), budget ->> 'seconds')
        END AS reason
    FROM spent
)
UPDATE runs r
SET exhausted = format('run %%s has consumed %%s', r.id, b.reason),
    due_at = CASE WHEN r.state <> 'paused' THEN clock_timestamp() END,
    time_left = CASE WHEN r.state = 'paused' THEN interval '0' END
FROM beyond b
WHERE r.id = b.id AND b.reason IS NOT NULL AND r.exhausted IS NULL AND r.state IN ('queued', 'running', 'paused')
RETURNING r.id
"""

# The same for the runs that it waits for; it is the one that ends them.
EXHAUST_BELOW: LiteralString = """
UPDATE runs
SET due_at = CASE WHEN state <> 'paused' THEN clock_timestamp() END,
    time_left = CASE WHEN state = 'paused' THEN interval '0' END
WHERE id = ANY (%(runs)s::uuid[]) AND state IN ('queued', 'running', 'paused')
"""
