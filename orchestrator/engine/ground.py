"""What all verbs stand on: a database, an identity, the compiled definitions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from orchestrator.engine.advance import Advance, Join
from orchestrator.engine.plans import Plans
from orchestrator.engine.run_locks import sharing
from orchestrator.engine.values import Ready, RunRef, WorkerId
from orchestrator.store import control_queries as sql
from orchestrator.store.connect import Conn, Pool


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
        return RunRef(run_id, self.plans.load(row[1], conn), row[2])

    def settle(self, conn: Conn, joins: Sequence[Join]) -> list[Ready]:
        """Look again at the joins that another transaction was looking at, now that ours has committed.

        One run at a time: within a run, waiting goes from inner joins to outer ones, so there is no circle.
        """
        ready: list[Ready] = []
        by_run: defaultdict[UUID, list[Join]] = defaultdict(list)
        for join in joins:
            by_run[join.run.id].append(join)
        for run_id, mine in by_run.items():
            with sharing(conn, [run_id]):
                advance = Advance(conn)
                for join in mine:
                    advance.look(join)
                advance.settle(wait=True)
            ready += advance.ready
        return ready
