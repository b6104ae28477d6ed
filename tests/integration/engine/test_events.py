"""A run's events: numbered from 1 without gaps, the same for every reader, in an order that respects cause."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

from orchestrator.definitions.vocabulary import each, workflow
from orchestrator.engine import Engine, WorkerId
from orchestrator.watching.feed import Feed
from schemas.events import Event
from tests.integration.engine.bench import Bench, done, named

A, B = named("a"), named("b")


def test_a_run_tells_its_story_in_order(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> each(B)), ["x"])
    bench.drain()

    events = bench.events(run)

    assert [event.number for event in events] == list(range(1, len(events) + 1))
    told = [(event.kind.value, event.path) for event in events]
    assert told[0] == ("run.submitted", "")
    assert told[-1] == ("run.completed", "")
    assert {("step.started", "0"), ("run.started", "")} == set(told[1:3])
    assert told[3:-1] == [
        ("step.done", "0"),
        ("step.opened", "1"),
        ("step.started", "1/0"),
        ("step.done", "1/0"),
        ("step.done", "1"),
    ]


def test_readers_can_go_on_after_any_number(bench: Bench) -> None:
    run = bench.submit(workflow("w", A >> B))
    feed = Feed(bench.pool)
    seen = feed.read(run)
    bench.drain()

    rest = feed.read(run, after=seen[-1].number)

    assert [*seen, *rest] == feed.read(run)
    assert feed.read(run, after=rest[-1].number) == []
    assert feed.read(run, limit=2) == feed.read(run)[:2]
    assert feed.read(uuid4()) == []


def test_numbers_have_no_gaps_while_many_write_and_many_read(bench: Bench) -> None:
    # Given a run with many branches, four writers and three readers at the same time
    width = 60
    run = bench.submit(workflow("w", each(A, join=B)), list(range(width)))
    over = threading.Event()

    def write(number: int) -> None:
        engine = Engine(bench.pool, WorkerId(uuid4(), f"w{number}"))
        for index in range(number, width, 4):
            claimed = bench.claim(run, f"0/{index}", engine)
            bench.messages += engine.record(done(claimed, index)).ready

    def follow(_: int) -> list[Event]:
        feed, seen = Feed(bench.pool), list[Event]()
        while True:
            ended = over.is_set()
            seen += feed.read(run, after=seen[-1].number if seen else 0)
            if ended:
                return seen

    bench.messages = []
    with ThreadPoolExecutor(7) as threads:
        readers = [threads.submit(follow, n) for n in range(3)]
        list(threads.map(write, range(4)))
        bench.drain()
        over.set()
        stories = [reader.result() for reader in readers]

    # Then all readers saw the same story, numbered 1 to n
    assert [event.number for event in stories[0]] == list(range(1, len(stories[0]) + 1))
    assert stories[0] == stories[1] == stories[2] == bench.events(run)
    assert_cause_before_effect(stories[0])
    assert sum(event.kind == "step.done" for event in stories[0]) == width + 2


def assert_cause_before_effect(events: list[Event]) -> None:
    at = {(event.kind.value, event.path): event.number for event in events}
    for (kind, path), number in at.items():
        if kind == "step.done" and ("step.started", path) in at:
            assert at["step.started", path] < number
        if path.startswith("0/") and path != "0/join" and kind == "step.done":
            assert number < at["step.started", "0/join"]


def test_two_runs_number_their_events_apart(bench: Bench) -> None:
    definition = workflow("w", A)
    runs: list[UUID] = [bench.submit(definition) for _ in range(3)]
    bench.drain()

    for run in runs:
        assert [event.number for event in bench.events(run)] == [1, 2, 3, 4, 5]
