"""The verbs that move a whole run, each with the run to itself: cancel, pause and resume."""

from __future__ import annotations

from uuid import UUID

from orchestrator.engine.advance import Advance, Join
from orchestrator.engine.child_runs import below, tell_steps
from orchestrator.engine.ground import Ground, Standing
from orchestrator.engine.patience import unentangled
from orchestrator.engine.pausing import pause_run, unpause_run
from orchestrator.engine.reopen import set_back
from orchestrator.engine.values import Ready
from orchestrator.masking.masker import discreet
from orchestrator.store import control_queries as sql
from orchestrator.store import dead_letter_queries
from orchestrator.store.connect import Conn
from schemas.errors import Conflict
from schemas.runs import RunState


class Control(Ground):
    """Moves whole runs."""

    @unentangled
    def cancel(self, run_id: UUID, reason: str = "") -> list[Ready]:
        """End a run with all that it waits for; after the commit nothing of it starts.

        If a step of another run waits for it, that step fails; what may be sent because of that.
        Raises `NotFound`, and `Conflict` for a run that is completed or cancelled already.
        """
        reason = discreet(reason) or "no reason given"
        with self.owned(run_id) as (conn, standing):
            if standing.ended:
                raise _conflict(standing, f"is {standing.state} already")
            reasons = {run_id: reason}
            reasons |= {
                one.id: f"run {run_id} was cancelled: {reason}" for one in below(conn, [(run_id, "")])
            }
            stopped = dict(conn.execute(sql.CANCEL_STEPS, {"runs": list(reasons)}).fetchall())
            keys = {"runs": list(reasons), "reasons": list(reasons.values())}
            conn.execute(sql.CANCEL_RUNS, keys | {"steps": [stopped.get(run, 0) for run in reasons]})
            advance = Advance(conn, self.plans)
            tell_steps(advance, [(standing.run, None)])
            advance.settle(wait=True)
            return advance.ready

    @unentangled
    def pause(self, run_id: UUID, reason: str = "") -> None:
        """Let nothing more of a run start; what runs may finish. Its deadlines stand still.

        Raises `NotFound`, and `Conflict` for a run that is paused already or has ended.
        """
        with self.owned(run_id) as (conn, standing):
            if not pause_run(conn, run_id, discreet(reason) or "no reason given"):
                raise _conflict(standing, f"is {standing.state}: only a run that is going on can be paused")

    @unentangled
    def resume(self, run_id: UUID) -> list[Ready]:
        """Let a paused run go on, or run the failed steps of a failed one again; what is done stays done.

        Raises `NotFound`, and `Conflict` for a run in another state or one with a step that was set aside.
        """
        with self.owned(run_id) as (conn, standing):
            match standing.state:
                case RunState.PAUSED:
                    _refuse_dead(conn, standing)
                    _refuse_below_paused(standing)
                    return unpause_run(conn, self.plans, standing.run)
                case RunState.FAILED:
                    # First the run, then its steps: they may fail at once, and end the run again.
                    timeout = standing.run.plan.workflow.timeout
                    conn.execute(sql.RESUME_RUN, {"run": run_id, "timeout": timeout})
                    advance = Advance(conn, self.plans)
                    set_back(advance, standing.run)
                    advance.settle(wait=True)
                    return advance.ready
            raise _conflict(standing, f"is {standing.state}: only a paused or failed run can be resumed")

    def settle_forgotten(self, *, most: int = 100) -> list[Ready]:
        """Go on with fan-outs whose last branch has ended and whose worker died before it saw that."""
        with self.pool.connection() as conn:
            found = conn.execute(sql.SELECT_FORGOTTEN_JOINS, {"most": most}).fetchall()
            joins = [Join(self.reference(conn, run_id), path) for run_id, path in found]
            return self.settle(conn, joins)


def _refuse_dead(conn: Conn, standing: Standing) -> None:
    dead = conn.execute(dead_letter_queries.SELECT_DEAD_STEPS, {"run": standing.run.id}).fetchone()
    if dead is not None:
        letter, path = dead
        raise Conflict(
            f"run {standing.run.id} has a step that was set aside, {path}: retry or drop that one",
            next_step=f"baton dead retry {letter}, or: baton dead drop {letter}",
        )


def _refuse_below_paused(standing: Standing) -> None:
    above = standing.paused_above
    if above is not None:
        message = f"run {standing.run.id} is paused because run {above} is, which waits for it"
        raise Conflict(message, next_step=f"baton runs resume {above}")


def _conflict(standing: Standing, what: str) -> Conflict:
    return Conflict(f"run {standing.run.id} {what}", next_step=f"baton runs show {standing.run.id}")
