"""What becomes of steps whose worker is gone: others get them, unless they have cost too many workers already.

What they had set aside of budgets is put away in the same transaction, and what their calls have cost at least booked.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from itertools import islice
from typing import Any

from orchestrator.engine.patience import unentangled
from orchestrator.engine.pausing import pause_run
from orchestrator.engine.run_locks import sharing
from orchestrator.engine.settling import Settling, lapse
from orchestrator.engine.values import Holding, Pointer, Ready
from orchestrator.store import loss_queries as sql
from orchestrator.store import settling_queries
from schemas.agents import queue_of
from schemas.settings import settings

log = logging.getLogger(__name__)

TOGETHER = 200
"""Steps that are freed in one transaction; it holds the runs of all of them."""


class Losses(Settling):
    """Takes steps from workers that no longer run them.

    Each verb returns what may be sent, and with it what has waited for budgets until then.
    """

    def release(self, pointer: Pointer, attempt: int | None = None, *, lost: bool = True) -> list[Ready]:
        """Take back one step of this engine's worker, whose process died over it unless `lost` is False."""
        keys = {"run": pointer.run_id, "path": pointer.path, "worker": self.me.id, "attempt": attempt}
        with self.pool.connection() as conn:
            rows = conn.execute(sql.SELECT_HELD_STEP, keys).fetchall()
        return self.free([Holding(*row) for row in rows], lost=lost)

    def hand_back(self) -> list[Ready]:
        """Give back all that stands in the name of this engine's worker, which ends in order: no loss is counted."""
        return self.free(self.holdings(), lost=False)

    def holdings(self) -> list[Holding]:
        """What stands in the name of this engine's worker."""
        with self.pool.connection() as conn:
            rows = conn.execute(sql.SELECT_HELD_STEPS, {"worker": self.me.id}).fetchall()
        return [Holding(*row) for row in rows]

    def free_of_the_dead(self, *, grace: float, most: int) -> list[Ready]:
        """Take back what workers held when they were buried, or hold although they have been so for `grace` seconds."""
        with self.pool.connection() as conn:
            rows = conn.execute(sql.SELECT_HELD_BY_DEAD, {"grace": grace, "most": most}).fetchall()
        return self.free([Holding(*row) for row in rows])

    def free(self, holdings: Collection[Holding], *, lost: bool = True) -> list[Ready]:
        """Take back these attempts, those of them that still run. With `lost`, that is counted against the step.

        A step that lost as many workers as `BATON_LOSS_LIMIT` says is set aside instead, and its run paused.
        """
        limit = settings().loss_limit
        doomed = {one for one in holdings if lost and one.losses + 1 >= limit}
        ready = self._make_ready([one for one in holdings if one not in doomed], lost)
        for one in doomed:
            ready += self._set_aside(one)
        return ready

    def _make_ready(self, holdings: Collection[Holding], lost: bool) -> list[Ready]:
        ready: list[Ready] = []
        rest = iter(holdings)
        while batch := list(islice(rest, TOGETHER)):
            ready += self._freed(batch, lost)
        return ready

    @unentangled
    def _freed(self, batch: Sequence[Holding], lost: bool) -> list[Ready]:
        keys = _columns(batch)
        with self.pool.connection() as conn:
            # Shared, so that none becomes ready behind the back of whoever pauses the run.
            with sharing(conn, {one.run_id for one in batch}):
                freed = conn.execute(sql.FREE_STEPS, keys | {"lost": lost}).fetchall()
                lapsed = lapse(conn, settling_queries.LAPSE_ATTEMPTS, keys)
            runs = {run_id: self.reference(conn, run_id) for run_id in {row[0] for row in freed}}
            woken = self._after(conn, lapsed)
        return [Ready(runs[run_id], path, agent, again=True) for run_id, path, agent in freed] + woken

    @unentangled
    def _set_aside(self, one: Holding) -> list[Ready]:
        """Make a dead letter of a step that costs one worker after the other, and pause its run."""
        with self.owned(one.run_id) as (conn, standing):
            plan = standing.run.plan
            leaf: Any = plan.at(one.path).node
            keys = {
                "run": one.run_id,
                "path": one.path,
                "attempt": one.attempt,
                "queue": queue_of(leaf.agent),
                "workflow": plan.workflow.name,
            }
            row = conn.execute(sql.SET_ASIDE, keys).fetchone()
            if row is None:
                return []
            lapsed = lapse(conn, settling_queries.LAPSE_ATTEMPTS, _columns([one]))
            letter, losses = row
            reason = f"step {one.path} lost its worker {losses} times; see: baton dead show {letter}"
            if not standing.run.paused:  # else its clocks stand still already
                pause_run(conn, one.run_id, reason)
        log.error("run %s: %s", one.run_id, reason)
        with self.pool.connection() as conn:
            return self._after(conn, lapsed)


def _columns(holdings: Sequence[Holding]) -> dict[str, list[Any]]:
    return {
        "runs": [one.run_id for one in holdings],
        "paths": [one.path for one in holdings],
        "attempts": [one.attempt for one in holdings],
    }
