"""Whole runs are moved, and read."""

from __future__ import annotations

from orchestrator.engine import Pointer, Refused
from orchestrator.feed import Feed
from orchestrator.vocabulary import each, fan_out
from tests.chaos.engine.scenarios.building import JOIN, A, B, C, D, Story, asked_again, do, new
from tests.chaos.engine.stage import Stage


def cancelling(stage: Stage) -> Story:
    run = stage.submit(new(fan_out(A, B, join=JOIN) >> C))
    do(stage, run, "0/a")
    late = stage.claim(run, "0/b")
    answer = yield (cancel := lambda: stage.engine.cancel(run, "enough"))
    asked_again(cancel, answer, "cancelled already")
    assert not stage.finish(late).accepted
    return [run]


def resuming(stage: Stage) -> Story:
    run = stage.submit(
        new(A >> fan_out(b=B, pipe=C >> D, each=each(A), join=JOIN, within=3600), timeout=3600), [1, 2]
    )
    do(stage, run, "0", value=[1, 2])
    do(stage, run, "1/b", "1/each/1")
    stage.fail(stage.claim(run, "1/pipe/0"))
    stage.fail(stage.claim(run, "1/each/0"))
    assert stage.end(run).state == "failed"
    answer = yield (resume := lambda: stage.engine.resume(run))
    stage.send(asked_again(resume, answer, "only a paused or failed run"))
    return [run]


def pausing(stage: Stage) -> Story:
    run = stage.submit(new(fan_out(A, B, join=JOIN) >> C))
    running = stage.claim(run, "0/a")
    answer = yield (pause := lambda: stage.engine.pause(run, "later"))
    asked_again(pause, answer, "is paused")
    assert isinstance(stage.engine.claim_all([Pointer(run, "0/b")])[0], Refused)
    assert stage.finish(running).accepted
    return [run]


def resuming_what_was_paused(stage: Stage) -> Story:
    run = stage.submit(new(fan_out(A, B, join=JOIN, within=3600) >> C, timeout=3600))
    running = stage.claim(run, "0/a")
    stage.engine.pause(run, "later")
    stage.finish(running)
    answer = yield (resume := lambda: stage.engine.resume(run))
    stage.send(asked_again(resume, answer, "only a paused or failed run"))
    return [run]


def numbering(stage: Stage) -> Story:
    run = stage.submit(new(A >> B))
    stage.drain()
    feed = Feed(stage.pool)
    answer = yield lambda: feed.read(run)
    events = feed.read(run)
    assert answer == events or isinstance(answer, Exception)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    return [run]
