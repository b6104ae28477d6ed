"""Budgets of runs: what is consumed counts with the outcome that tells it, and nothing starts once it is too much."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from orchestrator.engine.child_runs import below
from orchestrator.store import spending_queries as sql
from orchestrator.store.connect import Conn


def check(conn: Conn, accounts: Collection[UUID]) -> None:
    """Let the runs that have consumed more than their budgets be out of time, with all that they wait for.

    Branches that end together do not see what the others count: so look within the transaction, for nothing to start
    after it, and once more after the commit, when the last of them sees all.
    """
    if not accounts:
        return
    beyond = conn.execute(sql.EXHAUST, {"runs": sorted(accounts)}).fetchall()
    if beyond:
        inner = below(conn, [(run_id, "") for (run_id,) in beyond])
        conn.execute(sql.EXHAUST_BELOW, {"runs": [one.id for one in inner]})
