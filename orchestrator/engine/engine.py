"""The verbs. Each is one transaction; what it made ready is returned, to be sent after the commit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from uuid import UUID

import psycopg

from orchestrator.compile import Plan
from orchestrator.engine.advance import Advance, Join, error_text
from orchestrator.engine.combine import Combiner
from orchestrator.engine.gather import resolve_all
from orchestrator.engine.intents import Intents
from orchestrator.engine.patience import patiently
from orchestrator.engine.plans import Plans
from orchestrator.engine.reopen import reopen
from orchestrator.engine.run_locks import owning, sharing
from orchestrator.engine.values import (
    Claimed,
    Finished,
    Held,
    Pointer,
    Ready,
    Recorded,
    Refused,
    RunRef,
    Submission,
    Submitted,
    WorkerBeat,
    WorkerId,
)
from orchestrator.store import run_queries as sql
from orchestrator.store.connect import Conn, Pool
from schemas.errors import Conflict, IdempotencyConflict, NotFound
from schemas.outcomes import Done, ErrorInfo, Failed
from schemas.runs import RunState


class _Standing(NamedTuple):
    """A run as its owner finds it."""

    run: RunRef
    state: str
    is_due: bool

    @property
    def ended(self) -> bool:
        return self.state in (RunState.COMPLETED, RunState.CANCELLED)


class Engine:
    """Moves runs on. Any number of engines, in any number of processes, work on the same database.

    A worker's engine has a `worker` identity; a producer's has none and cannot claim.
    """

    def __init__(self, pool: Pool, worker: WorkerId | None = None) -> None:
        self.pool = pool
        self.worker = worker
        self.plans = Plans(pool)
        self._intents = Intents()
        self.claim_all = patiently(self._claim_batch)
        """`claim_all([Pointer, ...]) -> [Claimed | Refused, ...]` in one transaction."""
        self.record_all = patiently(self._record_batch)
        """`record_all([Finished, ...]) -> [Recorded, ...]` in one transaction."""
        self.claim = Combiner(self.claim_all)
        """`claim(Pointer) -> Claimed | Refused`; safe from many threads, which share transactions."""
        self.record = Combiner(self.record_all)
        """`record(Finished) -> Recorded`; safe from many threads, which share transactions."""

    # --- submit -------------------------------------------------------------------------------------------

    def submit(self, plan: Plan, submissions: Sequence[Submission]) -> tuple[list[Submitted], list[Ready]]:
        """Create runs of one workflow, with their first steps, in one transaction.

        Raises `IdempotencyConflict` for a key that was used before with another input; then nothing is created.
        """
        self.plans.save(plan)
        with self.pool.connection() as conn, conn.transaction():
            return self.submit_on(conn, plan, submissions)

    def submit_on(
        self, conn: Conn, plan: Plan, submissions: Sequence[Submission]
    ) -> tuple[list[Submitted], list[Ready]]:
        """The same inside the caller's own transaction; `plan` must have been saved."""
        answers = _take_keys(conn, plan, submissions)
        fresh = [s for s in submissions if s.id not in answers]
        if fresh:
            _insert_runs(conn, plan, fresh)
        advance = Advance(conn)
        for one in fresh:
            advance.start(RunRef(one.id, plan, one.priority), one.delay)
        advance.settle()
        return [answers.get(s.id, Submitted(s.id, created=True)) for s in submissions], advance.ready

    # --- claim --------------------------------------------------------------------------------------------

    def _claim_batch(self, pointers: Sequence[Pointer]) -> list[Claimed | Refused]:
        assert self.worker is not None, "only a worker claims"  # noqa: S101
        runs, paths = [p.run_id for p in pointers], [p.path for p in pointers]
        with self.pool.connection() as conn:
            rows = conn.execute(
                sql.CLAIM,
                {
                    "runs": runs,
                    "paths": paths,
                    "worker": self.worker.id,
                    "worker_name": self.worker.name,
                    "known": self._intents.known(runs),
                },
            ).fetchall()
            won = {Pointer(row[0], row[1]): self._claimed(conn, row) for row in rows}
            return [won.pop(p) if p in won else self._refused(conn, p) for p in pointers]

    def _claimed(self, conn: Conn, row: tuple[Any, ...]) -> Claimed:
        run_id, path, attempt, retries, definition, workflow, tenant, priority, *rest = row
        labels, sent, left, ref, given, _ = rest
        intent = self._intents.of(conn, run_id, sent)
        plan = self.plans.load(definition, conn)
        if given is None:
            given = resolve_all(conn, run_id, plan, ref, plan.at(path).shape)
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

    def held(self, pointer: Pointer) -> Held | None:
        """The attempt of this step that this engine's worker holds, if it does."""
        assert self.worker is not None, "only a worker holds steps"  # noqa: S101
        keys = {"run": pointer.run_id, "path": pointer.path, "worker": self.worker.id}
        with self.pool.connection() as conn:
            row = conn.execute(sql.SELECT_HELD, keys).fetchone()
        return None if row is None else Held(*pointer, *row)

    def holdings(self) -> list[tuple[UUID, str, int]]:
        """The attempts (run, path, number) that stand in the name of this engine's worker."""
        assert self.worker is not None, "only a worker holds steps"  # noqa: S101
        with self.pool.connection() as conn:
            rows = conn.execute(sql.SELECT_HELD_STEPS, {"worker": self.worker.id}).fetchall()
        return [(run_id, path, attempt) for run_id, path, attempt in rows]

    def release(self, pointer: Pointer, attempt: int | None = None) -> list[Ready]:
        """Give back a step whose process was lost; the loss is counted."""
        assert self.worker is not None, "only a worker holds steps"  # noqa: S101
        keys = {"run": pointer.run_id, "path": pointer.path, "worker": self.worker.id, "attempt": attempt}
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
        assert self.worker is not None, "only a worker ends"  # noqa: S101
        with self.pool.connection() as conn:
            conn.execute(sql.STOP_WORKER, {"id": self.worker.id})

    def set_aside(self, queue: str, reason: str, message: str) -> None:
        """Keep a message that cannot be executed (JSON text) as a dead letter."""
        message = message.replace("\\u0000", "")
        with self.pool.connection() as conn:
            conn.execute(sql.INSERT_DEAD_LETTER, {"queue": queue, "reason": reason, "message": message})

    # --- record -------------------------------------------------------------------------------------------

    def _record_batch(self, batch: Sequence[Finished]) -> list[Recorded]:
        try:
            return self._record_together(batch)
        except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded) as error:
            # One text that Postgres cannot store must not fail its neighbours.
            if len(batch) > 1:
                return [recorded for one in batch for recorded in self._record_batch([one])]
            return self._record_together([_unstorable(batch[0], error)])

    def _record_together(self, batch: Sequence[Finished]) -> list[Recorded]:
        with self.pool.connection() as conn:
            with sharing(conn, {f.run_id for f in batch}):
                accepted = self._accept(conn, batch)
                advance = Advance(conn)
                ready: dict[tuple[UUID, str, int], list[Ready]] = {}
                for one in batch:
                    key = (one.run_id, one.path, one.attempt)
                    run = accepted.get(key)
                    if run is None:
                        continue
                    before = len(advance.ready)
                    _tell(advance, run, one)
                    ready[key] = advance.ready[before:]
                before = len(advance.ready)
                advance.settle()
                late = advance.ready[before:]
            late += self._settle(conn, advance.unsettled)
        results = [_recorded(ready, (f.run_id, f.path, f.attempt)) for f in batch]
        return _with_late(results, late)

    def _accept(self, conn: Conn, batch: Sequence[Finished]) -> dict[tuple[UUID, str, int], RunRef]:
        noted = [(f.run_id, f.path, note) for f in batch for note in f.notes]
        cursor = conn.execute(sql.ACCEPT, _columns(batch))
        if noted:
            _note_progress(conn, noted)
        return {
            (run_id, path, attempt): RunRef(run_id, self.plans.load(definition, conn), priority)
            for run_id, path, attempt, definition, priority in cursor.fetchall()
        }

    def _settle(self, conn: Conn, joins: Sequence[Join]) -> list[Ready]:
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

    # --- control ------------------------------------------------------------------------------------------

    def cancel(self, run_id: UUID, reason: str = "") -> None:
        """End a run; after the commit nothing of it starts.

        Raises `NotFound`, and `Conflict` for a run that is completed or cancelled already.
        """
        with self._owned(run_id) as (conn, standing):
            stopped = 0 if standing.ended else conn.execute(sql.CANCEL_STEPS, {"run": run_id}).rowcount
            keys = {"run": run_id, "reason": reason or "no reason given", "steps": stopped}
            if conn.execute(sql.CANCEL_RUN, keys).fetchone() is None:
                message = f"run {run_id} is {standing.state} already"
                raise Conflict(message, next_step=f"baton runs show {run_id}")

    def resume(self, run_id: UUID) -> list[Ready]:
        """Run the failed steps of a failed run again; what is done stays done.

        Raises `NotFound`, and `Conflict` for a run that has not failed.
        """
        with self._owned(run_id) as (conn, standing):
            if standing.state != RunState.FAILED:
                message = f"run {run_id} is {standing.state}: only a failed run can be resumed"
                raise Conflict(message, next_step=f"baton runs show {run_id}")
            # First the run, then its steps: they may fail at once, and end the run again.
            timeout = standing.run.plan.workflow.timeout
            conn.execute(sql.RESUME_RUN, {"run": run_id, "timeout": timeout})
            return reopen(conn, standing.run)

    def expire(self, *, most: int = 100) -> list[Ready]:
        """Fire the deadlines of runs and fan-outs that have passed, once each."""
        with self.pool.connection() as conn:
            runs = conn.execute(sql.SELECT_DUE_RUNS, {"most": most}).fetchall()
            joins = conn.execute(sql.SELECT_DUE_COMPOSITES, {"most": most}).fetchall()
        for (run_id,) in runs:
            self._expire_run(run_id)
        return [ready for run_id, path in joins for ready in self._expire_join(run_id, path)]

    def _expire_run(self, run_id: UUID) -> None:
        with self._owned(run_id) as (conn, standing):
            # Another sweep may have been first, and a resumed run has a new deadline.
            if not standing.is_due or standing.state not in (RunState.QUEUED, RunState.RUNNING):
                return
            limit = standing.run.plan.workflow.timeout
            error = error_text("DeadlineExceeded", f"the run took longer than its timeout of {limit:g} s")
            conn.execute(sql.SKIP_UNFINISHED, {"run": run_id, "path": "", "error": error})
            ending = {"runs": [run_id], "states": ["failed"], "output_refs": [None], "errors": [error]}
            conn.execute(sql.END_RUNS, ending)

    def _expire_join(self, run_id: UUID, path: str) -> list[Ready]:
        keys = {"run": run_id, "path": path}
        with self._owned(run_id) as (conn, standing):
            if conn.execute(sql.IS_DUE, keys).fetchone() is None:
                return []
            node: Any = standing.run.plan.at(path).node
            error = error_text("Late", f"it had not ended after {node.within:g} s")
            conn.execute(sql.SKIP_UNFINISHED, keys | {"error": error})
            conn.execute(sql.SETTLE_DEADLINE, keys)
            advance = Advance(conn)
            advance.look(Join(standing.run, path))
            advance.settle(wait=True)
        return advance.ready

    def settle_forgotten(self, *, most: int = 100) -> list[Ready]:
        """Go on with fan-outs whose last branch has ended and whose worker died before it saw that."""
        with self.pool.connection() as conn:
            found = conn.execute(sql.SELECT_FORGOTTEN_JOINS, {"most": most}).fetchall()
            joins = [Join(self.reference(conn, run_id), path) for run_id, path in found]
            return self._settle(conn, joins)

    def reference(self, conn: Conn, run_id: UUID) -> RunRef:
        """A run that exists, with its plan."""
        row = conn.execute(sql.SELECT_RUN_STATE, {"run": run_id}).fetchone()
        assert row is not None  # noqa: S101  a step has a run
        return RunRef(run_id, self.plans.load(row[1], conn), row[2])

    @contextmanager
    def _owned(self, run_id: UUID) -> Iterator[tuple[Conn, _Standing]]:
        """A transaction that has the run to itself. Raises `NotFound`."""
        with self.pool.connection() as conn, owning(conn, run_id):
            row = conn.execute(sql.SELECT_RUN_STATE, {"run": run_id}).fetchone()
            if row is None:
                raise NotFound(f"there is no run {run_id}", next_step="baton runs ls")
            state, definition, priority, is_due = row
            run = RunRef(run_id, self.plans.load(definition, conn), priority)
            yield conn, _Standing(run, state, bool(is_due))


def _take_keys(conn: Conn, plan: Plan, submissions: Sequence[Submission]) -> dict[UUID, Submitted]:
    """Claim the idempotency keys; the answers of those that were used before, by submission id."""
    keyed = [s for s in submissions if s.idempotency_key is not None]
    if not keyed:
        return {}
    digests = {s.id: _digest(plan, s) for s in keyed}
    keys = {"tenants": [s.tenant for s in keyed], "keys": [s.idempotency_key for s in keyed]}
    conn.execute(
        sql.INSERT_KEYS, keys | {"runs": [s.id for s in keyed], "digests": [digests[s.id] for s in keyed]}
    )
    owners = {(t, k): (run, digest) for t, k, run, digest in conn.execute(sql.SELECT_KEYS, keys).fetchall()}
    answers = {}
    for one in keyed:
        run_id, digest = owners[one.tenant, one.idempotency_key]
        if digest != digests[one.id]:
            raise IdempotencyConflict(
                f"idempotency key {one.idempotency_key!r} belongs to run {run_id}, which has another input",
                next_step=f"baton runs show {run_id}",
            )
        if run_id != one.id:
            answers[one.id] = Submitted(run_id, created=False)
    return answers


def _digest(plan: Plan, submission: Submission) -> str:
    import hashlib

    text = f"{plan.workflow.name}\n{submission.input}"
    return hashlib.sha256(text.encode()).hexdigest()


def _insert_runs(conn: Conn, plan: Plan, fresh: Sequence[Submission]) -> None:
    import json

    conn.execute(
        sql.INSERT_RUNS,
        {
            "definition": plan.id,
            "workflow": plan.workflow.name,
            "timeout": plan.workflow.timeout,
            "ids": [s.id for s in fresh],
            "tenants": [s.tenant for s in fresh],
            "priorities": [s.priority for s in fresh],
            "labels": [json.dumps(dict(s.labels or {})) for s in fresh],
            "inputs": [s.input for s in fresh],
            "delays": [s.delay or 0.0 for s in fresh],
        },
    )


def _columns(batch: Sequence[Finished]) -> dict[str, list[Any]]:
    failures = [f.outcome if isinstance(f.outcome, Failed) else None for f in batch]
    return {
        "runs": [f.run_id for f in batch],
        "paths": [f.path for f in batch],
        "attempts": [f.attempt for f in batch],
        "states": [f.outcome.state for f in batch],
        "outputs": [f.output for f in batch],
        "errors": [f.error.model_dump_json() if f is not None else None for f in failures],
        "usages": [f.outcome.usage.model_dump_json() for f in batch],
        "retry_ins": [f.retry_in if f is not None else None for f in failures],
    }


def _note_progress(conn: Conn, noted: Sequence[tuple[UUID, str, Any]]) -> None:
    import json

    conn.execute(
        sql.NOTE_EVENTS,
        {
            "runs": [run for run, _, _ in noted],
            "kinds": ["step.progress"] * len(noted),
            "paths": [path for _, path, _ in noted],
            "data": [json.dumps(note, default=str) for _, _, note in noted],
        },
    )


def _tell(advance: Advance, run: RunRef, finished: Finished) -> None:
    match finished.outcome:
        case Done():
            advance.finished(run, finished.path, f"out:{finished.path}")
        case Failed(retry_in=None, error=error):
            advance.finished(run, finished.path, None, error.model_dump_json())


def _recorded(ready: dict[tuple[UUID, str, int], list[Ready]], key: tuple[UUID, str, int]) -> Recorded:
    found = ready.pop(key, None)
    return Recorded(accepted=found is not None, ready=tuple(found or ()))


def _with_late(results: list[Recorded], late: list[Ready]) -> list[Recorded]:
    """Give what the batch made ready as a whole (joins, promoted branches) to one of those that caused it."""
    if late:
        index = next(i for i, one in enumerate(results) if one.accepted)
        results[index] = Recorded(accepted=True, ready=(*results[index].ready, *late))
    return results


def _unstorable(finished: Finished, cause: psycopg.Error) -> Finished:
    message = f"its output cannot be stored: {cause.diag.message_primary or cause}"
    if "\\u0000" in (finished.output or ""):
        message += " (it holds a NUL character, \\u0000, which Postgres cannot store)"
    error = ErrorInfo(type="InvalidOutput", message=message, retryable=False)
    return Finished(finished.run_id, finished.path, finished.attempt, Failed(error=error))
