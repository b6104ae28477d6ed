"""A bench whose statements can go wrong, and on which everything that a cluster does to recover happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import psycopg

from orchestrator.engine import Engine, Ready, WorkerId
from orchestrator.engine.values import WorkerBeat
from orchestrator.recovery import RARELY, Recovery
from orchestrator.store.connect import Pool
from orchestrator.watching.views import RunEnd, Views
from tests.chaos.engine.faults import FaultyPool
from tests.chaos.engine.invariants import unfinished, violations
from tests.integration.engine.bench import Act, Bench, echo

ROUNDS = 40
"""Sweeps after which what has not ended is stuck."""


class Stage(Bench):
    """Two workers, the first of which meets the faults; the tables are looked at through connections of their own."""

    def __init__(self, url: str) -> None:
        self.faults = FaultyPool(url)
        super().__init__(url, pool=self.faults)
        self.sound = Pool(url, size=4)
        self.engines.append(Engine(self.sound, WorkerId(uuid4(), "worker-1")))
        self.views = Views(self.sound, self.engines[1].plans)
        self.amnesia = False
        self.act: Act = echo

    def broker_has_forgotten(self) -> bool:
        was, self.amnesia = self.amnesia, False
        return was

    def send(self, ready: Sequence[Ready]) -> bool:
        """What is sent must have been committed: any worker finds its row."""
        for one in ready:
            assert self.query("SELECT 1 FROM steps WHERE run_id = %s AND path = %s", one.run.id, one.path), (
                f"{one.path} was sent before its commit"
            )
        return super().send(ready)

    def query(self, statement: Any, *values: Any) -> list[tuple[Any, ...]]:
        with self.sound.connection() as conn:
            cursor = conn.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        super().close()
        self.sound.close()

    # --- the rest of the cluster --------------------------------------------------------------------------

    def beat(self, engine: Engine, lease: float = 3600) -> None:
        """A worker says that it lives; with a lease below zero, that it did long ago."""
        queues = tuple(f"agent.{name}" for name in "abcdj")
        engine.beat(WorkerBeat(engine.me, queues, 1_000, "threads", lease), 0)

    def pass_time(self) -> None:
        """Whatever waits for a retry, a delayed start or a decision is due."""
        self.query(
            "UPDATE steps SET due_at = clock_timestamp()"
            " WHERE state IN ('ready', 'waiting') AND due_at IS NOT NULL"
        )

    def release_orphans(self) -> None:
        """As the heart does: what stands in a worker's name, although nobody there runs it, is given back."""
        for engine in self.engines:
            self.send(engine.free(engine.holdings()))

    def sweep_thoroughly(self) -> None:
        """One sweep that looks for everything."""
        recovery = Recovery(self.engine, self, patience=0.0)  # type: ignore[arg-type]
        recovery._sweeps = RARELY - 1
        recovery.sweep()

    def survive(self) -> None:
        """Redeliver, sweep and work until every run has ended; then the tables must be sound."""
        for _ in range(ROUNDS):
            self.pass_time()
            for engine in self.engines:
                self.beat(engine)
            self.fire()
            self.release_orphans()
            self.sweep_thoroughly()
            self.drain(self.act)
            for (run,) in self.query("SELECT id FROM runs WHERE state = 'paused'"):
                self.send(self.engine.resume(run))
            if not self.query("SELECT 1 FROM runs WHERE state IN ('queued', 'running') LIMIT 1"):
                break
        with self.sound.connection() as conn:
            for found in (unfinished(conn), violations(conn)):
                assert not found, "\n".join(found)

    def clear(self) -> None:
        """Forget all runs: what is looked at afterwards is small again."""
        of_runs = ("events", "attempts", "steps", "waits", "journal", "notices", "runs", "dead_letters")
        of_events = ("incoming_events", "event_gates", "subscriptions")
        of_calls = ("limits", "permits", "reservations", "costs", "budgets", "budget_windows", "tool_fences")
        for table in (*of_runs, *of_events, *of_calls, "workers", "idempotency_keys"):
            self.query(f"DELETE FROM {table}")  # noqa: S608  a name of ours
        self.messages.clear()

    def ends(self, runs: list[UUID]) -> list[Any]:
        """How these runs ended, and their steps."""
        return [(_told(self.views.end(run)), self.states(run)) for run in runs]


def _told(end: RunEnd | None) -> object:
    """How it ended, without the ids of runs."""
    if end is None:
        return None
    partial = [(one.path, one.agent, one.output) for one in end.partial]
    return end.state, end.error, end.output, partial


FAILURES = (psycopg.Error,)
"""What a caller sees of a fault."""
