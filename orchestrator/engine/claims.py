"""The claim of steps: the next attempt, in the name of this worker, with all that it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from orchestrator.engine.accounts import used_up
from orchestrator.engine.combine import Combiner
from orchestrator.engine.gather import resolve_all
from orchestrator.engine.ground import Ground
from orchestrator.engine.intents import Intents
from orchestrator.engine.patience import patiently
from orchestrator.engine.values import Claimed, Pointer, Refused, RunRef, WorkerId
from orchestrator.store import attempt_queries as sql
from orchestrator.store.connect import Conn, Pool
from schemas.runs import RunState


class Claims(Ground):
    """Begins attempts."""

    def __init__(self, pool: Pool, worker: WorkerId | None = None) -> None:
        super().__init__(pool, worker)
        self._intents = Intents()
        self.claim_all = patiently(self._claim_batch)
        """`claim_all([Pointer, ...]) -> [Claimed | Refused, ...]` in one transaction."""
        self.claim = Combiner(self.claim_all)
        """`claim(Pointer) -> Claimed | Refused`; safe from many threads, which share transactions."""

    def _claim_batch(self, pointers: Sequence[Pointer]) -> list[Claimed | Refused]:
        with self.pool.connection() as conn:
            return self._claim_on(conn, pointers)

    def _claim_on(self, conn: Conn, pointers: Sequence[Pointer]) -> list[Claimed | Refused]:
        runs, paths = [p.run_id for p in pointers], [p.path for p in pointers]
        rows = conn.execute(
            sql.CLAIM,
            {
                "runs": runs,
                "paths": paths,
                "worker": self.me.id,
                "worker_name": self.me.name,
                "known": self._intents.known(runs),
            },
        ).fetchall()
        won = {Pointer(row[0], row[1]): self._claimed(conn, row) for row in rows}
        metered = [won[Pointer(row[0], row[1])] for row in rows if row[-2]]
        if metered:
            over = used_up(conn, metered)
            for pointer in (Pointer(one.run.id, one.path) for one in metered):
                won[pointer] = replace(won[pointer], metered=True, used_up=over.get(pointer, ""))
        return [won.pop(p) if p in won else self._refused(conn, p) for p in pointers]

    def _claimed(self, conn: Conn, row: tuple[Any, ...]) -> Claimed:
        run_id, path, attempt, retries, definition, workflow, tenant, priority, *rest = row
        labels, sent, left, ref, given, *_ = rest
        intent = self._intents.of(conn, run_id, sent)
        plan = self.plans.load(definition, conn)
        if given is None:
            given = resolve_all(conn, run_id, plan, ref, plan.shape(path, ref.removeprefix("all:")))
        run = RunRef(run_id, plan, priority)
        return Claimed(run, path, attempt, retries, workflow, tenant, labels, intent, given, left)

    def _refused(self, conn: Conn, pointer: Pointer) -> Refused:
        above, _, segment = pointer.path.rpartition("/")
        following = f"{above}/{int(segment) + 1}".lstrip("/") if segment.isdecimal() else ""
        row = conn.execute(
            sql.SELECT_STANDING, {"run": pointer.run_id, "path": pointer.path, "next": following}
        ).fetchone()
        if row is None:
            return Refused("there is no such step")
        state, attempt, run_state, due_in, next_ready = row
        if run_state not in (RunState.QUEUED, RunState.RUNNING):
            return Refused(f"the run is {run_state}")
        if state == "ready" and due_in is not None:
            return Refused("it is not due yet", due_in=due_in)
        return Refused(f"the step is {state}, attempt {attempt}", done=state == "done" and next_ready)
