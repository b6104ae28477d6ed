"""Finds what a crash left undone and has it sent again. It never executes anything.

Any number of sweeps may run at the same time: each takes its rows with `SKIP LOCKED`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from orchestrator.compile import Plan
from orchestrator.dispatch import Dispatcher
from orchestrator.engine import Engine, Ready
from orchestrator.engine.values import RunRef
from orchestrator.store import run_queries as sql
from orchestrator.store.connect import Conn

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds that a sent step may lie unclaimed, with idle workers on its queue, before it is sent once more."""

MOST = 1_000
"""Steps that one sweep re-sends."""


class Recovery:
    """One sweep after the other; stateless but for what it logs."""

    def __init__(self, engine: Engine, dispatcher: Dispatcher, *, patience: float = PATIENCE) -> None:
        self._engine = engine
        self._dispatcher = dispatcher
        self._patience = patience

    def sweep(self) -> int:
        """Bury dead workers, free what they held, fire deadlines, re-send what lies; how many steps were sent."""
        with self._engine.pool.connection() as conn:
            self._bury(conn)
            freed = self._free(conn)
            stranded = self._stranded(conn)
        ready = [*freed, *stranded, *self._engine.expire()]
        self._dispatcher.send(ready)
        return len(ready)

    def _bury(self, conn: Conn) -> None:
        for _, name in conn.execute(sql.BURY_WORKERS).fetchall():
            log.warning("worker %s stopped beating: its steps go to others", name)

    def _free(self, conn: Conn) -> list[Ready]:
        rows = conn.execute(sql.RELEASE_HELD, {"most": MOST}).fetchall()
        return self._located(conn, rows)

    def _stranded(self, conn: Conn) -> list[Ready]:
        rows = conn.execute(sql.TAKE_STRANDED, {"patience": self._patience, "most": MOST}).fetchall()
        return self._located(conn, [(run_id, path) for run_id, path, *_ in rows])

    def _located(self, conn: Conn, rows: Sequence[tuple[Any, ...]]) -> list[Ready]:
        """The rows of steps as what the dispatcher takes."""
        plans: dict[UUID, tuple[Plan, int]] = {}
        ready = []
        for run_id, path in rows:
            if run_id not in plans:
                found = conn.execute(sql.SELECT_RUN_STATE, {"run": run_id}).fetchone()
                assert found is not None  # noqa: S101  a step has a run
                plans[run_id] = (self._engine.plans.load(found[1], conn), found[2])
            plan, priority = plans[run_id]
            leaf: Any = plan.at(path).node
            ready.append(Ready(RunRef(run_id, plan, priority), path, leaf.agent))
        return ready
