"""What people decide about steps that were set aside: try them again, or go on without them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from orchestrator.engine.advance import Advance
from orchestrator.engine.ground import Ground, Standing
from orchestrator.engine.patience import unentangled
from orchestrator.engine.pausing import join_pause, unpause_run
from orchestrator.engine.values import Pointer, Ready, error_text
from orchestrator.store import dead_letter_queries as sql
from orchestrator.store.connect import Conn
from schemas.dead_letters import Settled
from schemas.errors import Conflict


class DeadSteps(Ground):
    """Settles dead letters, each once: of two people who decide at the same time, the second gets a `Conflict`."""

    @unentangled
    def retry_step(self, letter: int, step: Pointer) -> list[Ready]:
        """Make a step ready again, its losses forgotten; with the last of its run's, the run goes on."""
        with self.owned(step.run_id) as (conn, standing):
            _settle(conn, letter, Settled.RETRIED)
            conn.execute(sql.REVIVE_STEP, {"run": step.run_id, "path": step.path})
            return unpause_run(conn, self.plans, standing.run) if _may_go_on(conn, standing) else []

    @unentangled
    def drop_step(self, letter: int, step: Pointer) -> list[Ready]:
        """Let a step have failed for good; with the last of its run's, the run goes on as its definition says."""
        with self.owned(step.run_id) as (conn, standing):
            _settle(conn, letter, Settled.DROPPED)
            error = error_text("Dropped", "it cost one worker after the other, and was dropped by hand")
            conn.execute(sql.FAIL_STEP, {"run": step.run_id, "path": step.path, "error": error})
            is_live = _may_go_on(conn, standing)
            ready = unpause_run(conn, self.plans, standing.run) if is_live else []
            advance = Advance(conn, self.plans)
            advance.finished(replace(standing.run, paused=not is_live), step.path, None, error)
            advance.settle(wait=True)
            return ready + advance.ready

    @contextmanager
    def settling(self, letter: int, how: Settled) -> Iterator[None]:
        """Settle the letter of a message, together with what is done meanwhile: if that fails, nothing is settled."""
        with self.pool.connection() as conn, conn.transaction():
            _settle(conn, letter, how)
            yield


def _settle(conn: Conn, letter: int, how: Settled) -> None:
    if conn.execute(sql.SETTLE_LETTER, {"id": letter, "how": how}).fetchone() is None:
        raise Conflict(f"dead letter {letter} was settled meanwhile", next_step=f"baton dead show {letter}")


def _may_go_on(conn: Conn, standing: Standing) -> bool:
    """Whether the run is paused because of steps that were set aside, and none of those is left.

    If the run that waits for it is paused by now, it goes on together with that one.
    """
    row = conn.execute(sql.MAY_GO_ON, {"run": standing.run.id}).fetchone()
    if not standing.run.paused or row is None or not row[0]:
        return False
    if standing.paused_above is None:
        return True
    join_pause(conn, standing.run.id)
    return False
