"""The verbs that move a whole run, each with the run to itself: cancel, resume, deadlines."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine.advance import Advance, Join, error_text
from orchestrator.engine.ground import Ground
from orchestrator.engine.reopen import reopen
from orchestrator.engine.run_locks import owning
from orchestrator.engine.values import Ready, RunRef
from orchestrator.store import advance_queries
from orchestrator.store import control_queries as sql
from orchestrator.store.connect import Conn
from schemas.errors import Conflict, NotFound
from schemas.runs import RunState


class _Standing(NamedTuple):
    """A run as its owner finds it."""

    run: RunRef
    state: str
    is_due: bool

    @property
    def ended(self) -> bool:
        return self.state in (RunState.COMPLETED, RunState.CANCELLED)


class Control(Ground):
    """Moves whole runs."""

    def cancel(self, run_id: UUID, reason: str = "") -> None:
        """End a run; after the commit nothing of it starts.

        Raises `NotFound`, and `Conflict` for a run that is completed or cancelled already.
        """
        with self._owned(run_id) as (conn, standing):
            stopped = 0 if standing.ended else conn.execute(sql.CANCEL_STEPS, {"run": run_id}).rowcount
            keys = {"run": run_id, "reason": reason or "no reason given", "steps": stopped}
            if conn.execute(sql.CANCEL_RUN, keys).fetchone() is None:
                message = f"run {run_id} is {standing.state} already"
                raise Conflict(message, next_step=f"baton runs show {run_id}")

    def resume(self, run_id: UUID) -> list[Ready]:
        """Run the failed steps of a failed run again; what is done stays done.

        Raises `NotFound`, and `Conflict` for a run that has not failed.
        """
        with self._owned(run_id) as (conn, standing):
            if standing.state != RunState.FAILED:
                message = f"run {run_id} is {standing.state}: only a failed run can be resumed"
                raise Conflict(message, next_step=f"baton runs show {run_id}")
            # First the run, then its steps: they may fail at once, and end the run again.
            timeout = standing.run.plan.workflow.timeout
            conn.execute(sql.RESUME_RUN, {"run": run_id, "timeout": timeout})
            return reopen(conn, standing.run)

    def expire(self, *, most: int = 100) -> list[Ready]:
        """Fire the deadlines of runs and fan-outs that have passed, once each."""
        with self.pool.connection() as conn:
            runs = conn.execute(sql.SELECT_DUE_RUNS, {"most": most}).fetchall()
            joins = conn.execute(sql.SELECT_DUE_COMPOSITES, {"most": most}).fetchall()
        for (run_id,) in runs:
            self._expire_run(run_id)
        return [ready for run_id, path in joins for ready in self._expire_join(run_id, path)]

    def _expire_run(self, run_id: UUID) -> None:
        with self._owned(run_id) as (conn, standing):
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
        with self._owned(run_id) as (conn, standing):
            if conn.execute(sql.IS_DUE, keys).fetchone() is None:
                return []
            node: Any = standing.run.plan.at(path).node
            error = error_text("Late", f"it had not ended after {node.within:g} s")
            conn.execute(sql.SKIP_UNFINISHED, keys | {"error": error})
            conn.execute(advance_queries.SETTLE_DEADLINE, keys)
            advance = Advance(conn)
            advance.look(Join(standing.run, path))
            advance.settle(wait=True)
        return advance.ready

    def settle_forgotten(self, *, most: int = 100) -> list[Ready]:
        """Go on with fan-outs whose last branch has ended and whose worker died before it saw that."""
        with self.pool.connection() as conn:
            found = conn.execute(sql.SELECT_FORGOTTEN_JOINS, {"most": most}).fetchall()
            joins = [Join(self.reference(conn, run_id), path) for run_id, path in found]
            return self.settle(conn, joins)

    @contextmanager
    def _owned(self, run_id: UUID) -> Iterator[tuple[Conn, _Standing]]:
        """A transaction that has the run to itself. Raises `NotFound`."""
        with self.pool.connection() as conn, owning(conn, run_id):
            row = conn.execute(sql.SELECT_RUN_STATE, {"run": run_id}).fetchone()
            if row is None:
                raise NotFound(f"there is no run {run_id}", next_step="baton runs ls")
            state, definition, priority, is_due = row
            run = RunRef(run_id, self.plans.load(definition, conn), priority)
            yield conn, _Standing(run, state, bool(is_due))
