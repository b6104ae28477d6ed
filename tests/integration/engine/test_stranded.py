"""Messages that are gone without a trace: which ready steps recovery sends again, and which it leaves alone."""

from __future__ import annotations

from uuid import UUID

import pytest

from orchestrator.definitions.vocabulary import workflow
from orchestrator.engine.values import WorkerBeat
from schemas.workflows import Workflow
from tests.integration.engine.bench import Bench, named

PATIENCE = 3.0
FLOW: Workflow = workflow("w", named("a"))


def serve(bench: Bench, *, concurrency: int = 4, throttled: bool = False) -> None:
    """The bench's worker takes messages of `a`."""
    queues = ("agent.a",)
    bench.engine.beat(
        WorkerBeat(bench.engine.me, queues, concurrency, "threads", 60, queues if throttled else ()), 0
    )


def submitted(bench: Bench, *ages: float, priority: int = 0) -> list[UUID]:
    """Runs whose first steps became ready so many seconds ago."""
    runs = [bench.submit(FLOW, priority=priority) for _ in ages]
    for run, age in zip(runs, ages, strict=True):
        bench.query(
            "UPDATE steps SET ready_at = clock_timestamp() - make_interval(secs => %s) WHERE run_id = %s",
            age,
            run,
        )
    return runs


def sent_again(bench: Bench) -> list[UUID]:
    """What one look sends, while a message lies in the queue."""
    before = len(bench.messages)
    bench.sweep(patience=PATIENCE)
    return [one.run.id for one in bench.messages[before:]]


def test_a_message_lost_from_a_busy_queue_is_noticed_when_a_later_one_is_begun(bench: Bench) -> None:
    serve(bench)
    lost, begun, waiting = submitted(bench, 20, 10, 1)
    bench.messages = [one for one in bench.messages if one.run.id == waiting]
    assert sent_again(bench) == []

    bench.claim(begun, "0")

    assert sent_again(bench) == [lost]
    assert sent_again(bench) == []  # it has its place at the end of the queue now


def test_a_backlog_is_not_sent_again_while_its_workers_work_it_off(bench: Bench) -> None:
    serve(bench)
    oldest, *_ = submitted(bench, *range(60, 10, -1))
    bench.claim(oldest, "0")
    assert sent_again(bench) == []


def test_what_is_not_much_older_than_what_was_begun_is_on_its_way(bench: Bench) -> None:
    serve(bench)
    _, begun = submitted(bench, 12, 10)
    bench.claim(begun, "0")
    assert sent_again(bench) == []


def test_less_urgent_work_waits_without_being_taken_for_lost(bench: Bench) -> None:
    serve(bench)
    submitted(bench, 20)
    (urgent,) = submitted(bench, 5, priority=9)
    bench.claim(urgent, "0")
    assert sent_again(bench) == []


def test_a_step_that_comes_back_to_the_head_of_its_queue_says_nothing_about_the_others(bench: Bench) -> None:
    serve(bench)
    submitted(bench, 20)
    (again,) = submitted(bench, 30)
    bench.claim(again, "0")
    bench.engine.hand_back()
    bench.query(
        "UPDATE steps SET ready_at = clock_timestamp() - interval '1 second' WHERE run_id = %s", again
    )
    bench.claim(again, "0")
    assert sent_again(bench) == []


def test_messages_that_wait_for_their_rate_are_not_sent_again(bench: Bench) -> None:
    # Given an agent with a rate limit, whose messages a worker holds in its memory
    serve(bench, throttled=True)
    held, begun = submitted(bench, 20, 10)
    bench.messages = []
    bench.claim(begun, "0")
    assert sent_again(bench) == []

    # When Redis would deliver them again, too, they are
    bench.query(
        "UPDATE steps SET ready_at = clock_timestamp() - interval '61 seconds' WHERE run_id = %s", held
    )
    assert sent_again(bench) == [held]


@pytest.mark.parametrize("throttled", [False, True])
def test_where_workers_have_no_room_nothing_is_missing(bench: Bench, *, throttled: bool) -> None:
    serve(bench, concurrency=0, throttled=throttled)
    submitted(bench, 100)
    bench.messages = []
    assert sent_again(bench) == []
