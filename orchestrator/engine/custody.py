"""The verbs of a worker that are not about one outcome: it lives, what it holds, what it cannot use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from orchestrator.engine.ground import Ground
from orchestrator.engine.values import Held, Pointer, Ready, WorkerBeat
from orchestrator.store import worker_queries as sql


class Custody(Ground):
    """What stands in the name of a worker."""

    def held(self, pointer: Pointer) -> Held | None:
        """The attempt of this step that this engine's worker holds, if it does."""
        keys = {"run": pointer.run_id, "path": pointer.path, "worker": self.me.id}
        with self.pool.connection() as conn:
            row = conn.execute(sql.SELECT_HELD, keys).fetchone()
        return None if row is None else Held(*pointer, *row)

    def holdings(self) -> list[tuple[UUID, str, int]]:
        """The attempts (run, path, number) that stand in the name of this engine's worker."""
        with self.pool.connection() as conn:
            rows = conn.execute(sql.SELECT_HELD_STEPS, {"worker": self.me.id}).fetchall()
        return [(run_id, path, attempt) for run_id, path, attempt in rows]

    def release(self, pointer: Pointer, attempt: int | None = None) -> list[Ready]:
        """Give back a step whose process was lost; the loss is counted."""
        keys = {"run": pointer.run_id, "path": pointer.path, "worker": self.me.id, "attempt": attempt}
        with self.pool.connection() as conn:
            if conn.execute(sql.RELEASE_ATTEMPT, keys).fetchone() is None:
                return []
            run = self.reference(conn, pointer.run_id)
        leaf: Any = run.plan.at(pointer.path).node
        return [Ready(run, pointer.path, leaf.agent)]

    def beat(
        self, beat: WorkerBeat, held: int, running: Sequence[tuple[UUID, str, int]]
    ) -> list[tuple[UUID, str, int]]:
        """Say that a worker lives and has `held` messages; of the attempts it runs, those no longer its own."""
        with self.pool.connection() as conn:
            conn.execute(
                sql.BEAT,
                {
                    "id": beat.worker.id,
                    "name": beat.worker.name,
                    "queues": list(beat.queues),
                    "concurrency": beat.concurrency,
                    "pool": beat.pool,
                    "held": held,
                    "lease": beat.lease,
                },
            )
            if not running:
                return []
            runs, paths, attempts = (list(column) for column in zip(*running, strict=True))
            keys = {"runs": runs, "paths": paths, "attempts": attempts}
            return [(r, p, a) for r, p, a in conn.execute(sql.SELECT_LOST_ATTEMPTS, keys).fetchall()]

    def stop_worker(self) -> None:
        """Say that this engine's worker has ended."""
        with self.pool.connection() as conn:
            conn.execute(sql.STOP_WORKER, {"id": self.me.id})

    def set_aside(self, queue: str, reason: str, message: str) -> None:
        """Keep a message that cannot be executed (JSON text) as a dead letter."""
        message = message.replace("\\u0000", "")
        with self.pool.connection() as conn:
            conn.execute(sql.INSERT_DEAD_LETTER, {"queue": queue, "reason": reason, "message": message})
