"""The deadlines of runs and fan-outs, fired once each, with the run to itself."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from orchestrator.engine.advance import Advance, Join, error_text
from orchestrator.engine.ground import Ground
from orchestrator.engine.values import Ready
from orchestrator.store import advance_queries
from orchestrator.store import timer_queries as sql
from schemas.runs import RunState


class Deadlines(Ground):
    """Ends what took too long."""

    def expire(self, *, most: int = 100) -> list[Ready]:
        """Fire the deadlines of runs and fan-outs that have passed, once each."""
        with self.pool.connection() as conn:
            runs = conn.execute(sql.SELECT_DUE_RUNS, {"most": most}).fetchall()
            joins = conn.execute(sql.SELECT_DUE_COMPOSITES, {"most": most}).fetchall()
        for (run_id,) in runs:
            self._expire_run(run_id)
        return [ready for run_id, path in joins for ready in self._expire_join(run_id, path)]

    def _expire_run(self, run_id: UUID) -> None:
        with self.owned(run_id) as (conn, standing):
            # Another sweep may have been first, and a resumed run has a new deadline.
            if not standing.is_due or standing.state not in (RunState.QUEUED, RunState.RUNNING):
                return
            limit = standing.run.plan.workflow.timeout
            error = error_text("DeadlineExceeded", f"the run took longer than its timeout of {limit:g} s")
            conn.execute(sql.SKIP_UNFINISHED, {"run": run_id, "path": "", "error": error})
            ending = {"runs": [run_id], "states": ["failed"], "output_refs": [None], "errors": [error]}
            conn.execute(advance_queries.END_RUNS, ending)

    def _expire_join(self, run_id: UUID, path: str) -> list[Ready]:
        keys = {"run": run_id, "path": path}
        with self.owned(run_id) as (conn, standing):
            if standing.run.paused or conn.execute(sql.IS_DUE, keys).fetchone() is None:
                return []
            node: Any = standing.run.plan.at(path).node
            error = error_text("Late", f"it had not ended after {node.within:g} s")
            conn.execute(sql.SKIP_UNFINISHED, keys | {"error": error})
            conn.execute(advance_queries.SETTLE_DEADLINE, keys)
            advance = Advance(conn)
            advance.look(Join(standing.run, path))
            advance.settle(wait=True)
        return advance.ready
