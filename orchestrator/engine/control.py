"""The verbs that move a whole run, each with the run to itself: cancel and resume."""

from __future__ import annotations

from uuid import UUID

from orchestrator.engine.advance import Join
from orchestrator.engine.ground import Ground
from orchestrator.engine.reopen import reopen
from orchestrator.engine.values import Ready
from orchestrator.store import control_queries as sql
from schemas.errors import Conflict
from schemas.runs import RunState


class Control(Ground):
    """Moves whole runs."""

    def cancel(self, run_id: UUID, reason: str = "") -> None:
        """End a run; after the commit nothing of it starts.

        Raises `NotFound`, and `Conflict` for a run that is completed or cancelled already.
        """
        with self.owned(run_id) as (conn, standing):
            stopped = 0 if standing.ended else conn.execute(sql.CANCEL_STEPS, {"run": run_id}).rowcount
            keys = {"run": run_id, "reason": reason or "no reason given", "steps": stopped}
            if conn.execute(sql.CANCEL_RUN, keys).fetchone() is None:
                message = f"run {run_id} is {standing.state} already"
                raise Conflict(message, next_step=f"baton runs show {run_id}")

    def resume(self, run_id: UUID) -> list[Ready]:
        """Run the failed steps of a failed run again; what is done stays done.

        Raises `NotFound`, and `Conflict` for a run that has not failed.
        """
        with self.owned(run_id) as (conn, standing):
            if standing.state != RunState.FAILED:
                message = f"run {run_id} is {standing.state}: only a failed run can be resumed"
                raise Conflict(message, next_step=f"baton runs show {run_id}")
            # First the run, then its steps: they may fail at once, and end the run again.
            timeout = standing.run.plan.workflow.timeout
            conn.execute(sql.RESUME_RUN, {"run": run_id, "timeout": timeout})
            return reopen(conn, standing.run)

    def settle_forgotten(self, *, most: int = 100) -> list[Ready]:
        """Go on with fan-outs whose last branch has ended and whose worker died before it saw that."""
        with self.pool.connection() as conn:
            found = conn.execute(sql.SELECT_FORGOTTEN_JOINS, {"most": most}).fetchall()
            joins = [Join(self.reference(conn, run_id), path) for run_id, path in found]
            return self.settle(conn, joins)
