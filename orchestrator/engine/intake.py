"""How submissions become rows: idempotency keys first, then runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from uuid import UUID

from orchestrator.compile import Plan
from orchestrator.engine.values import Submission, Submitted
from orchestrator.store import intake_queries as sql
from orchestrator.store.connect import Conn
from schemas.errors import IdempotencyConflict


def take_keys(conn: Conn, plan: Plan, submissions: Sequence[Submission]) -> dict[UUID, Submitted]:
    """Claim the idempotency keys; the answers of those that were used before, by submission id."""
    keyed = [s for s in submissions if s.idempotency_key is not None]
    if not keyed:
        return {}
    digests = {s.id: _digest(plan, s) for s in keyed}
    keys = {"tenants": [s.tenant for s in keyed], "keys": [s.idempotency_key for s in keyed]}
    conn.execute(
        sql.INSERT_KEYS,
        keys | {"runs": [s.id for s in keyed], "digests": [digests[s.id] for s in keyed]},
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
    text = f"{plan.workflow.name}\n{submission.input}"
    return hashlib.sha256(text.encode()).hexdigest()


def insert_runs(conn: Conn, plan: Plan, fresh: Sequence[Submission]) -> None:
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
