"""Runs come to be."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from orchestrator.definitions.compile import compile_workflow
from orchestrator.definitions.vocabulary import Composable, each
from orchestrator.engine import Submission
from orchestrator.identify import new_id
from tests.chaos.engine.scenarios.building import JOIN, A, B, Scenario, Story, new, numbers
from tests.chaos.engine.stage import Stage


def submitting(body: Composable, value: Any = None, *, count: int = 1, **fields: Any) -> Scenario:
    def scenario(stage: Stage) -> Story:
        definition, key = new(body), f"key-{next(numbers)}"

        def submit() -> list[UUID]:
            batch = [
                Submission(new_id(), json.dumps(value), idempotency_key=f"{key}-{n}", **fields)
                for n in range(count)
            ]
            answers, ready = stage.engine.submit(compile_workflow(definition), batch)
            stage.send(ready)
            return [answer.run_id for answer in answers]

        answer = yield submit
        # A caller who saw an error asks again, with the same keys.
        runs = submit() if isinstance(answer, Exception) else answer
        assert submit() == runs
        assert stage.query("SELECT count(*) FROM runs WHERE workflow = %s", definition.name) == [(count,)]
        return list(runs)

    return scenario


def registering(stage: Stage) -> Story:
    plan = compile_workflow(new(A >> B))
    answer = yield lambda: stage.engine.plans.save(plan, newest=True)
    if isinstance(answer, Exception):
        stage.engine.plans.save(plan, newest=True)
    assert stage.engine.plans.by_name(plan.workflow.name).id == plan.id
    return []


def lending(stage: Stage) -> Story:
    # An each over nothing: its join is ready before its caller commits.
    plan, key = compile_workflow(new(each(A, join=JOIN) >> B)), f"key-{next(numbers)}"

    def submit() -> list[UUID]:
        one = Submission(new_id(), "[]", idempotency_key=key)
        with stage.pool.connection() as conn, conn.transaction():
            answers = stage.engine.submit_on(conn, plan, [one])
        stage.send(stage.engine.unsent([answer.run_id for answer in answers]))
        return [answer.run_id for answer in answers]

    answer = yield submit
    # A caller who saw an error has its transaction done again.
    runs = submit() if isinstance(answer, Exception) else answer
    assert stage.query("SELECT count(*) FROM runs WHERE workflow = %s", plan.workflow.name) == [(1,)]
    return list(runs)
