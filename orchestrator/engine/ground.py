"""What all verbs stand on: a database, an identity, the compiled definitions."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

from orchestrator.engine.advance import Advance, Join
from orchestrator.engine.moves import Place
from orchestrator.engine.patience import UNSTORABLE
from orchestrator.engine.plans import Plans
from orchestrator.engine.run_locks import owning, sharing
from orchestrator.engine.values import Pointer, Ready, RunRef, WorkerId, error_text, reason_of
from orchestrator.store import control_queries as sql
from orchestrator.store.connect import Conn, Pool
from schemas.errors import NotFound
from schemas.runs import RunState

log = logging.getLogger(__name__)


class Standing(NamedTuple):
    """A run as its owner finds it."""

    run: RunRef
    state: str
    is_due: bool
    paused_above: UUID | None
    """The run that waits for it, if that is paused."""

    @property
    def ended(self) -> bool:
        return self.state in (RunState.COMPLETED, RunState.CANCELLED)


class Ground:
    """Shared by the kinds of verbs, which together are the `Engine`."""

    def __init__(self, pool: Pool, worker: WorkerId | None = None) -> None:
        self.pool = pool
        self.worker = worker
        self.plans = Plans(pool)

    @property
    def me(self) -> WorkerId:
        """The identity of the worker whose engine this is; a producer's has none, and asking is a mistake."""
        assert self.worker is not None, "only a worker has an identity"  # noqa: S101
        return self.worker

    def reference(self, conn: Conn, run_id: UUID) -> RunRef:
        """A run that exists, with its plan."""
        row = conn.execute(sql.SELECT_RUN_STATE, {"run": run_id}).fetchone()
        assert row is not None  # noqa: S101  a step has a run
        return RunRef(run_id, self.plans.load(row[1], conn), row[2], row[0] == RunState.PAUSED)

    def located(self, conn: Conn, rows: Iterable[tuple[Any, ...]]) -> list[Ready]:
        """Steps (run, path) that exist, as what the dispatcher takes."""
        found = [Pointer(*row) for row in rows]
        runs = {run_id: self.reference(conn, run_id) for run_id in {one.run_id for one in found}}
        leaves: list[Any] = [runs[one.run_id].plan.at(one.path).node for one in found]
        return [
            Ready(runs[one.run_id], one.path, leaf.agent) for one, leaf in zip(found, leaves, strict=True)
        ]

    def settle(self, conn: Conn, joins: Sequence[Join]) -> list[Ready]:
        """Look again at the joins that another transaction was looking at, now that ours has committed.

        One run at a time: within a run, waiting goes from inner joins to outer ones, so there is no circle.
        """
        ready: list[Ready] = []
        by_run: defaultdict[UUID, list[Join]] = defaultdict(list)
        for join in joins:
            by_run[join.run.id].append(join)
        for run_id, mine in by_run.items():
            try:
                ready += self._settle(conn, run_id, mine)
            except UNSTORABLE as cause:
                ready += self._give_up(conn, run_id, mine, cause)
        return ready

    def _settle(self, conn: Conn, run_id: UUID, joins: Sequence[Join]) -> list[Ready]:
        with sharing(conn, [run_id]):
            run = self.reference(conn, run_id)  # it may have been paused since
            advance = Advance(conn, self.plans)
            for join in joins:
                advance.look(Join(run, join.path))
            advance.settle(wait=True)
        return advance.ready

    def _give_up(self, conn: Conn, run_id: UUID, joins: Sequence[Join], cause: Exception) -> list[Ready]:
        """Fail the joins of a run after which nothing can be stored: they would be looked at without end."""
        error = error_text("Unstorable", f"what follows its branches cannot be stored: {reason_of(cause)}")
        try:
            with sharing(conn, [run_id]):
                run = self.reference(conn, run_id)
                advance = Advance(conn, self.plans)
                for join in joins:
                    advance.close(Place(run, join.path), None, error)
                advance.settle(wait=True)
        except UNSTORABLE:
            log.exception("the joins of run %s can neither go on nor fail", run_id)
            return []
        return advance.ready

    @contextmanager
    def owned(self, run_id: UUID) -> Iterator[tuple[Conn, Standing]]:
        """A transaction that has the run to itself. Raises `NotFound`."""
        with self.pool.connection() as conn, owning(conn, run_id):
            row = conn.execute(sql.SELECT_RUN_STATE, {"run": run_id}).fetchone()
            if row is None:
                raise NotFound(f"there is no run {run_id}", next_step="baton runs ls")
            state, definition, priority, is_due, paused_above = row
            run = RunRef(run_id, self.plans.load(definition, conn), priority, state == RunState.PAUSED)
            yield conn, Standing(run, state, bool(is_due), paused_above)
