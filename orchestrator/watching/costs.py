"""What was paid, by workflow, agent, model, tenant or user."""

from __future__ import annotations

from typing import get_args

from orchestrator.store import cost_queries as sql
from orchestrator.store.connect import Pool, surveying
from schemas.budgets import By, Cost
from schemas.errors import Fault, InputError


class Costs:
    """Adds up what calls of models have cost, and what agents told besides."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    def by(self, by: By, *, since: float | None = None) -> list[Cost]:
        """The dearest first; of the last `since` seconds, in whole days (UTC) as far as runs were pruned.

        A user is what the label `user` of a run says. Raises `InputError`.
        """
        if by not in get_args(By):
            raise InputError("by", [Fault("", f"{by!r} is none of {', '.join(get_args(By))}")])
        with self._pool.connection() as conn, surveying(conn):
            rows = conn.execute(sql.SELECT_COSTS, {"by": by, "since": since}).fetchall()
        return [
            Cost(key=key, input_tokens=given, output_tokens=made, usd=usd, model_calls=calls)
            for key, given, made, usd, calls in rows
        ]
