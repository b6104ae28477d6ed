"""Whole runs are moved, and read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from uuid import UUID

from orchestrator.definitions.vocabulary import each, fan_out
from orchestrator.engine import Pointer, Ready, Refused
from orchestrator.identify import new_id
from orchestrator.prune import Pruner, Rule
from orchestrator.store.connect import Conn
from orchestrator.watching.feed import Feed
from tests.chaos.engine.faults import Watched
from tests.chaos.engine.scenarios.building import JOIN, A, B, C, D, Story, asked_again, do, new, numbers
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


def forking(stage: Stage) -> Story:
    origin = stage.submit(new(A >> fan_out(b=B, c=C, join=JOIN, within=3600) >> D, timeout=3600))
    do(stage, origin, "0", "1/b", "1/c", "1/join")
    made: list[UUID] = []

    def fork() -> list[Ready]:
        made.append(new_id())
        return stage.engine.fork(origin, "1/b", made[-1])

    answer = yield fork
    # Whoever saw an error forks again: the first fork is there, and will be executed, or it is not.
    stage.send(fork() if isinstance(answer, Exception) else answer)
    return [origin, made[-1]]


class _Pruner(Pruner):
    """On a connection that the stage watches."""

    def __init__(self, stage: Stage, rule: Rule) -> None:
        super().__init__(stage.url, rule)
        self._stage = stage

    @contextmanager
    def _connected(self) -> Iterator[tuple[Conn, dict[str, Any]]]:
        with super()._connected() as (conn, keys):
            yield cast(Conn, Watched(conn, self._stage.faults)), keys


def pruning(stage: Stage) -> Story:
    old = stage.submit(new(A >> B), idempotency_key=f"old-{next(numbers)}")
    do(stage, old, "0", "1")
    stage.query(
        "UPDATE runs SET created_at = now() - interval '2 days', finished_at = now() - interval '2 days'"
        " WHERE id = %s",
        old,
    )
    young = stage.submit(new(A >> B))
    pruner = _Pruner(stage, Rule(older_than=86_400.0))
    yield lambda: list(pruner.batches())
    list(pruner.batches())
    for table in ("steps", "attempts", "events", "idempotency_keys"):
        assert stage.query(f"SELECT 1 FROM {table} WHERE run_id = %s", old) == []  # noqa: S608  a name of ours
    return [young]
