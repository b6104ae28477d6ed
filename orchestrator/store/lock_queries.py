"""Who may change a run, and when.

The verbs that create steps (submit, record) hold the run's advisory lock shared; those that move a whole run
(cancel, pause, resume, deadlines) hold it exclusively, so they see all steps and none slips in behind them. It is
taken before the statements that depend on it, since a statement's snapshot is older than the locks it waits for. A
claim needs no such lock: it moves a step that exists, and whoever moves the run moves that row too. All lock a run's
steps before the row of the run itself.
"""

from __future__ import annotations

from typing import LiteralString

# Sent together with BEGIN; the keys are integers of ours, so no value needs quoting.
SHARE_RUN: LiteralString = "SELECT pg_advisory_xact_lock_shared(7001, {key})"

OWN_RUN: LiteralString = "SELECT pg_advisory_xact_lock(7001, {key})"

# A submission holds its definition, which may be one that no run refers to yet: pruning must not take it away.
KEEP_DEFINITION: LiteralString = "SELECT pg_advisory_xact_lock_shared(7006, {key})"

# Of every lock that the transaction waits for from here on; 0 is no limit.
LIMIT_WAIT: LiteralString = "SET LOCAL lock_timeout = {milliseconds}"

TRY_OWN_RUNS: LiteralString = """
SELECT key FROM unnest(%(keys)s::int[]) AS k(key) WHERE pg_try_advisory_xact_lock(7001, key)
"""

TRY_JOINS: LiteralString = """
SELECT run_id, parent, pg_try_advisory_xact_lock(7002, hashtext(run_id::text || parent)) AS got
FROM unnest(%(runs)s::uuid[], %(parents)s::text[]) AS j(run_id, parent)
"""

WAIT_JOINS: LiteralString = """
SELECT pg_advisory_xact_lock(7002, key)
FROM (SELECT DISTINCT hashtext(run_id::text || parent) AS key
      FROM unnest(%(runs)s::uuid[], %(parents)s::text[]) AS j(run_id, parent) ORDER BY key) AS keys
"""
