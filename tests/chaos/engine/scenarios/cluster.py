"""Workers live and die, sweeps find what they left, and timers fire."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from orchestrator.definitions.vocabulary import Composable, fan_out
from orchestrator.engine import Pointer
from orchestrator.engine.values import Holding, WorkerBeat
from schemas.settings import settings
from tests.chaos.engine.scenarios.building import (
    GAPS,
    JOIN,
    A,
    B,
    C,
    D,
    Scenario,
    Story,
    asked_again,
    do,
    new,
    numbers,
)
from tests.chaos.engine.stage import Stage


def releasing(stage: Stage) -> Story:
    run = stage.submit(new(A >> B))
    claimed = stage.claim(run, "0")
    stage.messages.clear()
    answer = yield lambda: stage.engine.release(Pointer(run, "0"), claimed.attempt)
    if not isinstance(answer, Exception):
        stage.send(answer)
    return [run]


def beating(stage: Stage) -> Story:
    run = stage.submit(new(A >> B))
    stage.claim(run, "0")
    beat = WorkerBeat(stage.engine.me, ("agent.a",), 4, "threads", 60)
    answer = yield lambda: stage.engine.beat(beat, 1)
    again = stage.engine.beat(beat, 1)
    assert run in [one.run_id for one in again]
    assert answer in (again,) or isinstance(answer, Exception)
    return [run]


def stopping(stage: Stage) -> Story:
    run = stage.submit(new(A >> B))
    stage.beat(stage.engine)
    stage.claim(run, "0")
    yield stage.engine.stop_worker
    stage.engine.stop_worker()
    return [run]


def claiming_what_the_server_forgot(stage: Stage) -> Story:
    run = stage.submit(new(A >> B))
    stage.messages.clear()
    answer = yield lambda: stage.engine.take_forgotten([(run, "0", 1)])
    if not isinstance(answer, Exception):
        stage.send(answer)
    return [run]


def setting_a_message_aside(stage: Stage) -> Story:
    reason = f"reason {next(numbers)}"
    answer = yield lambda: stage.engine.set_aside("agent.a", reason, "{}")
    if isinstance(answer, Exception):
        stage.engine.set_aside("agent.a", reason, "{}")
    letters = stage.query("SELECT count(*) FROM dead_letters WHERE reason = %s", reason)[0][0]
    assert letters in ((1, 2) if isinstance(answer, Exception) else (1,))
    return []


def _lost_too_often(stage: Stage, body: Composable) -> tuple[UUID, Holding]:
    """A run, and its step `0/a`, which lost as many workers as it may and is about to lose one more."""
    run = stage.submit(new(body))
    for _ in range(settings().loss_limit - 1):
        stage.claim(run, "0/a")
        stage.engine.release(Pointer(run, "0/a"))
    stage.claim(run, "0/a")
    (held,) = (one for one in stage.engine.holdings() if one.run_id == run)
    return run, held


def setting_a_step_aside(stage: Stage) -> Story:
    run, held = _lost_too_often(stage, fan_out(A, B, within=3600))
    yield lambda: stage.engine.free([held])
    stage.engine.free([held])
    assert stage.states(run)["0/a"] == "dead"
    assert stage.view(run).state == "paused"
    stage.engine.cancel(run)
    return [run]


def deciding(verb: str) -> Scenario:
    def scenario(stage: Stage) -> Story:
        run, held = _lost_too_often(stage, fan_out(A, B, join=GAPS, require="any", within=3600) >> C)
        stage.engine.free([held])
        ((letter,),) = stage.query("SELECT id FROM dead_letters WHERE run_id = %s", run)
        decide = getattr(stage.engine, verb)
        answer = yield lambda: decide(letter, Pointer(run, "0/a"))
        stage.send(asked_again(lambda: decide(letter, Pointer(run, "0/a")), answer, "was settled meanwhile"))
        return [run]

    return scenario


def sweeping(given: Callable[[Stage], list[UUID]]) -> Scenario:
    def scenario(stage: Stage) -> Story:
        runs = given(stage)
        stage.messages.clear()
        yield stage.sweep_thoroughly
        return runs

    return scenario


def looking(given: Callable[[Stage], list[UUID]]) -> Scenario:
    def scenario(stage: Stage) -> Story:
        runs = given(stage)
        stage.messages.clear()
        yield stage.fire
        return runs

    return scenario


def a_worker_died(stage: Stage) -> list[UUID]:
    run = stage.submit(new(fan_out(A, B)))
    stage.claim(run, "0/a", stage.engines[1])
    stage.beat(stage.engine)
    stage.beat(stage.engines[1], lease=-1)
    return [run]


def messages_were_lost(stage: Stage) -> list[UUID]:
    stage.beat(stage.engine)
    return [stage.submit(new(A >> B))]


def a_delayed_start_is_due(stage: Stage) -> list[UUID]:
    run = stage.submit(new(A >> B), delay=3600)
    stage.pass_time()
    return [run]


def the_broker_forgot(stage: Stage) -> list[UUID]:
    stage.amnesia = True
    return [stage.submit(new(fan_out(A, B)))]


def a_run_is_late(stage: Stage) -> list[UUID]:
    run = stage.submit(new(fan_out(A, B, join=JOIN) >> C, timeout=3600))
    stage.claim(run, "0/a")
    stage.query("UPDATE runs SET due_at = clock_timestamp() WHERE id = %s", run)
    return [run]


def a_fan_out_is_late(stage: Stage) -> list[UUID]:
    run = stage.submit(new(fan_out(a=A, pipe=B >> C, within=3600, require="any", join=GAPS) >> D))
    do(stage, run, "0/a")
    stage.query("UPDATE steps SET due_at = clock_timestamp() WHERE run_id = %s AND path = '0'", run)
    return [run]


def a_join_was_forgotten(stage: Stage) -> list[UUID]:
    run = stage.submit(new(fan_out(A, B, join=JOIN)))
    do(stage, run, "0/a", "0/b")
    stage.query("DELETE FROM steps WHERE run_id = %s AND path = '0/join'", run)
    return [run]
