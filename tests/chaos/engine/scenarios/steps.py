"""Steps are claimed and end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg

from orchestrator.definitions.vocabulary import Composable, each, fan_out
from orchestrator.engine import Note, Pointer, Wanted
from orchestrator.engine.values import Onward
from schemas.events import EventKind
from schemas.limits import Limit
from tests.chaos.engine.scenarios.building import JOIN, A, B, Scenario, Story, do, new
from tests.chaos.engine.stage import Stage
from tests.integration.engine.bench import EVERY_AGENT, done, failed


def claiming(body: Composable, value: Any, *paths: str, before: tuple[str, ...] = ()) -> Scenario:
    def scenario(stage: Stage) -> Story:
        run = stage.submit(new(body), value)
        do(stage, run, *before, value=value)
        stage.messages.clear()
        answer = yield lambda: stage.engine.claim_all([Pointer(run, path) for path in paths])
        # What was claimed is worked off; a claim of which nobody heard is an orphan.
        for claimed in answer if not isinstance(answer, Exception) else ():
            if hasattr(claimed, "attempt"):
                stage.finish(claimed, json.loads(claimed.input))
        return [run]

    return scenario


def claiming_within(stage: Stage) -> Story:
    """Two steps under limits that let one start at a time."""
    run = stage.submit(new(fan_out(A, B)))
    stage.messages.clear()
    limits = (Limit(per="key", key="string(input)", concurrency=1), Limit(rate="1000/s", burst=10))
    wanted = [Wanted(Pointer(run, path), f"any-{run}", limits) for path in ("0/a", "0/b")]
    answer = yield lambda: stage.engine.claim_all_within(wanted)
    for claimed in answer if not isinstance(answer, Exception) else ():
        if hasattr(claimed, "attempt"):
            stage.finish(claimed)
            stage.send(stage.engine.make_room(Pointer(run, claimed.path)))
    return [run]


def making_room(stage: Stage) -> Story:
    """The attempt ends for which another step waits."""
    run = stage.submit(new(fan_out(A, B)))
    stage.messages.clear()
    claimed, _ = stage.engine.claim_all_within(
        [Wanted(Pointer(run, path), f"any-{run}", (Limit(concurrency=1),)) for path in ("0/a", "0/b")]
    )
    stage.finish(claimed)
    answer = yield lambda: stage.engine.make_room(Pointer(run, "0/a"))
    stage.send(answer if not isinstance(answer, Exception) else ())
    return [run]


def recording(
    body: Composable,
    path: str,
    *,
    value: Any = None,
    before: tuple[str, ...] = (),
    fails: bool = False,
    retry_in: float | None = None,
    progress: int = 0,
    goes_on: bool = False,
    meanwhile: Callable[[Stage, UUID], object] | None = None,
) -> Scenario:
    def scenario(stage: Stage) -> Story:
        run = stage.submit(new(body, timeout=3600), value)
        do(stage, run, *before, value=value)
        stage.messages.clear()
        claimed = stage.claim(run, path)
        outcome = failed(claimed, retry_in=retry_in) if fails else done(claimed, value)
        outcome = replace(
            outcome,
            notes=(Note(EventKind.PROGRESS, {"n": 1}),) * progress,
            onward=Onward(claimed, EVERY_AGENT) if goes_on else None,
        )
        if meanwhile is not None:
            meanwhile(stage, run)
        answer = yield lambda: stage.engine.record_all([outcome])
        stage.faults.before.pop("lock.WAIT_JOINS", lambda: None)()
        if not isinstance(answer, Exception):
            stage.send(answer[0].ready)
            stage.onward += [(stage.engine, one.next) for one in answer if one.next is not None]
        # Delivered twice, it is heard once.
        stage.send(stage.engine.record_all([replace(outcome, onward=None)])[0].ready)
        return [run]

    return scenario


def recording_of_many_runs(stage: Stage) -> Story:
    runs = [stage.submit(new(body), [1, 2]) for body in (A >> B, A >> each(B), fan_out(A, B, join=JOIN))]
    claims = [stage.claim(*pointer) for pointer in zip(runs, ("0", "0", "0/a"), strict=True)]
    stage.messages.clear()
    answer = yield lambda: stage.engine.record_all([done(one, [1, 2]) for one in claims])
    for recorded in answer if not isinstance(answer, Exception) else ():
        stage.send(recorded.ready)
    return runs


def join_is_looked_at(stage: Stage, run: UUID) -> None:
    """Somebody else looks at the join of this run, and has done so when we come back after our commit."""
    other = psycopg.connect(stage.url, autocommit=True)
    other.execute("SELECT pg_advisory_lock(7002, hashtext(%s::text || '0'))", [run])
    stage.faults.before["lock.WAIT_JOINS"] = other.close
