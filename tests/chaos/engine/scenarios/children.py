"""Runs that steps start: begun, ended, moved as a tree, short of budget."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from orchestrator.definitions.vocabulary import Composable, child, fan_out
from schemas.outcomes import Done
from schemas.usage import Bounds, Budget, Usage
from tests.chaos.engine.scenarios.building import JOIN, A, B, C, Story, asked_again, do, new
from tests.chaos.engine.stage import Stage
from tests.integration.engine.bench import done, failed, named


def _family(stage: Stage, x: Composable | None = None, **options: object) -> tuple[UUID, UUID]:
    """A run whose first stage waits for a child beside a branch of its own, and that child."""
    body = fan_out(A, x=x or child(new(B >> C)), join=JOIN) >> C
    run = stage.submit(new(body, timeout=3600, **options))
    ((below,),) = stage.query("SELECT id FROM runs WHERE parent_run = %s", run)
    stage.messages.clear()
    return run, below


def ending(stage: Stage) -> Story:
    run, below = _family(stage)
    do(stage, run, "0/a")
    do(stage, below, "0")
    last = done(stage.claim(below, "1"))
    stage.messages.clear()
    answer = yield lambda: stage.engine.record_all([last])
    if not isinstance(answer, Exception):
        stage.send(answer[0].ready)
    stage.send(stage.engine.record_all([last])[0].ready)
    return [run, below]


def cancelling(stage: Stage) -> Story:
    run, below = _family(stage)
    answer = yield (cancel := lambda: stage.engine.cancel(run, "enough"))
    asked_again(cancel, answer, "cancelled already")
    assert stage.end(below).state == "cancelled"  # for a reason that names the run
    return [run]


def resuming(stage: Stage) -> Story:
    run, below = _family(stage)
    do(stage, run, "0/a")
    do(stage, below, "0")
    stage.fail(stage.claim(below, "1"))
    assert stage.end(run).state == "failed"
    answer = yield (resume := lambda: stage.engine.resume(run))
    stage.send(asked_again(resume, answer, "only a paused or failed run"))
    return [run, below]


def exceeding(stage: Stage) -> Story:
    """What a child tells uses up the budget of the run that waits for it: none of both begins what consumes."""
    dear = named("c", bounds=Bounds(tokens=1))
    run, below = _family(stage, child(new(B >> dear)).optional(), budget=Budget(tokens=1))
    spent = replace(done(stage.claim(below, "0")), outcome=Done(usage=Usage(tokens=2)))
    yield lambda: stage.engine.record_all([spent])
    stage.engine.record_all([spent])
    stage.fire()
    refused = stage.claim(below, "1")
    assert refused.used_up
    stage.send(stage.engine.record(failed(refused, refused.used_up, kind="BudgetExceeded")).ready)
    told = "SELECT count(*) FROM events WHERE run_id = %s AND kind = 'run.budget_exhausted'"
    assert stage.query(told, run) == [(1,)]
    assert stage.end(below).state == "failed"
    return [run]
