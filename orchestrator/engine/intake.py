"""How submissions become runs: idempotency keys first, then runs, then their first steps; all or nothing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from orchestrator.definitions.plan import Plan
from orchestrator.engine.advance import Advance
from orchestrator.engine.ground import Ground
from orchestrator.engine.patience import once_more
from orchestrator.engine.run_locks import keep, keeping
from orchestrator.engine.values import Pointer, Ready, RunRef, Submission, Submitted
from orchestrator.store import intake_queries as sql
from orchestrator.store.connect import AnyConn, Conn
from schemas.errors import IdempotencyConflict


class Intake(Ground):
    """Creates runs."""

    @once_more
    def submit(self, plan: Plan, submissions: Sequence[Submission]) -> tuple[list[Submitted], list[Ready]]:
        """Create runs of one workflow, with their first steps, in one transaction.

        Raises `IdempotencyConflict` for a key that was used before with another input; then nothing is created.
        If the connection is lost it is done once more: the ids tell what had been committed.
        """
        self.plans.save(plan)
        with self.pool.connection() as conn, keeping(conn, plan.id):
            answers, advance, known = self._create(conn, plan, submissions, at_once=True)
            ready = advance.ready + (self._take_unsent(conn, known, again=True) if known else [])
        return answers, ready

    def submit_on(self, conn: AnyConn, plan: Plan, submissions: Sequence[Submission]) -> list[Submitted]:
        """The same inside somebody else's transaction, on whose commit nobody calls us.

        So the first steps are left as due and unsent: the timers of any worker, or `unsent`, find them.
        """
        # On a connection of ours: the definition must be there whatever becomes of that transaction.
        self.plans.save(plan)
        keep(conn, plan.id)
        answers, advance, _ = self._create(conn, plan, submissions, at_once=False)
        _leave_unsent(conn, [Pointer(one.run.id, one.path) for one in advance.ready])
        return answers

    def leave_unsent(self, steps: Collection[Pointer]) -> None:
        """Leave to the timers what could not be sent; what somebody has claimed meanwhile is left alone."""
        with self.pool.connection() as conn:
            _leave_unsent(conn, steps)

    def unsent(self, runs: Sequence[UUID]) -> list[Ready]:
        """The first steps of these runs that are due and were never sent, to be sent now; once each."""
        with self.pool.connection() as conn:
            return self._take_unsent(conn, runs, again=False)

    def _create(
        self, conn: AnyConn, plan: Plan, submissions: Sequence[Submission], *, at_once: bool
    ) -> tuple[list[Submitted], Advance, list[UUID]]:
        """The answers, what follows, and the runs that an earlier try of these submissions had made."""
        answers = take_keys(conn, plan, submissions)
        fresh = [s for s in submissions if s.id not in answers]
        made = self._insert_runs(conn, plan, fresh) if fresh else set()
        advance = Advance(conn, self.plans)
        for one in fresh:
            if one.id in made:
                delay = one.delay if at_once else one.delay or 0.0
                advance.start(RunRef(one.id, plan, one.priority), delay)
        advance.settle()
        known = [s.id for s in fresh if s.id not in made]
        return [answers.get(s.id, Submitted(s.id, created=True)) for s in submissions], advance, known

    def _insert_runs(self, conn: AnyConn, plan: Plan, fresh: Sequence[Submission]) -> set[UUID]:
        """The ids of the runs that were not there before."""
        row = conn.execute(sql.INSERT_RUNS, _columns(plan, fresh)).fetchone()
        made, is_defined = row if row is not None else (None, False)
        if not is_defined:
            # It was pruned after this process had stored it. Now it is held, so it stays.
            self.plans.forget(plan.id)
            self.plans.save(plan)
        return set(made or ())

    def _take_unsent(self, conn: Conn, runs: Sequence[UUID], *, again: bool) -> list[Ready]:
        rows = conn.execute(sql.TAKE_UNSENT, {"runs": list(runs), "again": again}).fetchall()
        return [
            Ready(RunRef(run_id, self.plans.load(definition, conn), priority), path, agent)
            for run_id, path, agent, definition, priority in rows
        ]


def take_keys(conn: AnyConn, plan: Plan, submissions: Sequence[Submission]) -> dict[UUID, Submitted]:
    """Claim the idempotency keys; the answers of those that were used before, by submission id."""
    keyed = [s for s in submissions if s.idempotency_key is not None]
    if not keyed:
        return {}
    digests = {s.id: _digest(plan, s) for s in keyed}
    owners = _owners(conn, keyed, digests)
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


def _owners(
    conn: AnyConn, keyed: Sequence[Submission], digests: Mapping[UUID, str]
) -> dict[tuple[str, str | None], tuple[UUID, str]]:
    """The run and the digest that each key of a tenant stands for, now that it is taken."""
    keys = {"tenants": [s.tenant for s in keyed], "keys": [s.idempotency_key for s in keyed]}
    taken = keys | {"runs": [s.id for s in keyed], "digests": [digests[s.id] for s in keyed]}
    while True:
        conn.execute(sql.INSERT_KEYS, taken)
        rows = conn.execute(sql.SELECT_KEYS, keys).fetchall()
        owners = {(tenant, key): (run_id, digest) for tenant, key, run_id, digest in rows}
        if all((s.tenant, s.idempotency_key) in owners for s in keyed):
            return owners
        # A key that was there for the first statement was pruned before the second: take it now.


def _digest(plan: Plan, submission: Submission) -> str:
    """What a key stands for: the workflow's name and the input."""
    text = f"{plan.workflow.name}\n{canonical(submission.input)}"
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(text: str) -> str:
    """JSON text in the one form that all texts of the same data share, whatever the order of their fields."""
    return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))


def _leave_unsent(conn: AnyConn, steps: Collection[Pointer]) -> None:
    if steps:
        runs, paths = zip(*steps, strict=True)
        conn.execute(sql.LEAVE_UNSENT, {"runs": list(runs), "paths": list(paths)})


def _columns(plan: Plan, fresh: Sequence[Submission]) -> dict[str, Any]:
    return {
        "definition": plan.id,
        "workflow": plan.workflow.name,
        "timeout": plan.workflow.timeout,
        "budget": plan.budget,
        "ids": [s.id for s in fresh],
        "tenants": [s.tenant for s in fresh],
        "priorities": [s.priority for s in fresh],
        "labels": [json.dumps(dict(s.labels or {})) for s in fresh],
        "inputs": [s.input for s in fresh],
        "delays": [s.delay or 0.0 for s in fresh],
    }
